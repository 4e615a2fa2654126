//! What the kernel enforces, now.

use std::collections::BTreeSet;
use std::path::Path;

use super::counters::Counters;
use super::host::HOST;
use super::listing::{Listing, tables};
use super::netdev::table_name;
use super::nft::{NftError, apply, find, list};
use super::script::{Present, Rules, remove, replace};
use super::shared::{Surroundings, TABLE, needed, prefix};
use super::table::Family;
use crate::policy::VifPolicy;
use crate::tap::TapName;

/// The kernel's rules, of which those of interfaces of guests are ours.
///
/// Only one process may change them at a time.
#[derive(Clone, Copy, Debug, Default)]
pub struct Kernel;

impl Kernel {
    /// Puts the rules of `policy` in the place of those that `name` has, if any, in one step: frames
    /// that arrive meanwhile are judged by the one or the other, or are lost. The interface must exist;
    /// it may be down. What was counted is forgotten.
    ///
    /// # Errors
    /// [`NftError`]: nothing has changed then.
    pub fn install(&self, name: &TapName, policy: &VifPolicy) -> Result<(), NftError> {
        let rules = Rules::of(name, policy);
        let nft = match find() {
            Some(nft) => nft,
            // Where there is no nft there are no rules of ours either.
            None if rules.are_none() => return Ok(()),
            None => return Err(missing(name)),
        };
        let present = shared(&nft)?;
        let around = Surroundings::now();
        let script = replace(name, policy, &rules, &present, &around);
        apply(&nft, name.as_str(), &script)
    }

    /// Takes all rules of `name` away, whether or not there is such an interface still.
    ///
    /// # Errors
    /// [`NftError`]: nothing has changed then.
    pub fn remove(&self, name: &TapName) -> Result<(), NftError> {
        let Some(nft) = find() else {
            return Ok(());
        };
        let present = shared(&nft)?;
        let script = remove(name, &present, &Surroundings::now());
        apply(&nft, name.as_str(), &script)
    }

    /// Has `name` just the rules that [`install`](Self::install) would give it? Then they need not be
    /// replaced, and go on counting.
    ///
    /// # Errors
    /// [`NftError`].
    pub fn has(&self, name: &TapName, policy: &VifPolicy) -> Result<bool, NftError> {
        let rules = Rules::of(name, policy);
        let nft = match find() {
            Some(nft) => nft,
            None => return Ok(rules.are_none()),
        };
        let present = shared(&nft)?;
        let uses = |key| {
            let mut all = present.iter();
            all.all(|(_, listing)| listing.has_key(key, name.as_str()))
        };
        let both = !needed(policy) || present.len() == 2;
        let flows = !policy.is_stateful() || uses("out") && uses("in");
        let host = policy.host.is_none() || uses(HOST);
        let own = own(&nft, name)?;
        Ok(match own {
            None => rules.are_none(),
            Some(own) => rules.are(&own) && both && flows && host,
        })
    }

    /// The names of all interfaces that have rules of ours, whether or not there are such interfaces
    /// still.
    ///
    /// # Errors
    /// [`NftError`].
    pub fn installed(&self) -> Result<Vec<TapName>, NftError> {
        let Some(nft) = find() else {
            return Ok(Vec::new());
        };
        let (own, _) = tables(&list(&nft, &["tables"])?);
        let mut names: BTreeSet<String> = own.iter().map(|tap| tap.as_str().to_owned()).collect();
        for (_, listing) in shared(&nft)? {
            for map in ["out", "in", HOST] {
                let keys = listing.set(map).iter();
                names.extend(keys.filter_map(|element| element.key.clone()));
            }
        }
        let names = names.iter().map(|name| TapName::parse(name));
        Ok(names.flatten().collect())
    }

    /// What became of the frames of `name`; all empty if it has no rules.
    ///
    /// # Errors
    /// [`NftError`].
    pub fn counters(&self, name: &TapName) -> Result<Counters, NftError> {
        let mut counters = Counters::default();
        let Some(nft) = find() else {
            return Ok(counters);
        };
        if let Some(own) = own(&nft, name)? {
            counters.read(&own, "");
        }
        for (_, listing) in shared(&nft)? {
            counters.read(&listing, &prefix(name));
        }
        Ok(counters)
    }
}

fn missing(name: &TapName) -> NftError {
    NftError::Missing {
        name: name.as_str().to_owned(),
    }
}

/// What is in the interface's own table.
fn own(nft: &Path, name: &TapName) -> Result<Option<Listing>, NftError> {
    let (own, _) = tables(&list(nft, &["tables"])?);
    if !own.contains(name) {
        return Ok(None);
    }
    let objects = list(nft, &["table", "netdev", &table_name(name)])?;
    Ok(Some(Listing::parse(&objects)))
}

/// What is in the shared tables.
fn shared(nft: &Path) -> Result<Present, NftError> {
    let (_, families) = tables(&list(nft, &["tables"])?);
    let listing = |family: Family| {
        let objects = list(nft, &["table", family.word(), TABLE])?;
        Ok((family, Listing::parse(&objects)))
    };
    families.into_iter().map(listing).collect()
}
