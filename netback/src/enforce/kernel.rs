//! What the kernel enforces, now.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

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
        let Some(nft) = tool(name, &rules)? else {
            return Ok(());
        };
        let found = Found::look(&nft, name)?;
        exchange(&nft, name, policy, &rules, &found.shared)
    }

    /// As [`install`](Self::install), for an interface that has no rules yet. Most policies then need no
    /// look at what there is, and a toolstack waits.
    ///
    /// # Errors
    /// [`NftError`]: nothing has changed then.
    pub fn install_first(&self, name: &TapName, policy: &VifPolicy) -> Result<(), NftError> {
        if needed(policy) {
            return self.install(name, policy);
        }
        let rules = Rules::of(name, policy);
        let Some(nft) = tool(name, &rules)? else {
            return Ok(());
        };
        exchange(&nft, name, policy, &rules, &Present::new())
    }

    /// As [`install`](Self::install), unless `name` has just these rules: then they are not replaced,
    /// and go on counting. Whether they were replaced.
    ///
    /// # Errors
    /// [`NftError`]: nothing has changed then.
    pub fn keep(&self, name: &TapName, policy: &VifPolicy) -> Result<bool, NftError> {
        let rules = Rules::of(name, policy);
        let Some(nft) = tool(name, &rules)? else {
            return Ok(false);
        };
        let found = Found::look(&nft, name)?;
        if found.has(name, policy, &rules) {
            return Ok(false);
        }
        exchange(&nft, name, policy, &rules, &found.shared)?;
        Ok(true)
    }

    /// Takes all rules of `name` away, whether or not there is such an interface still.
    ///
    /// # Errors
    /// [`NftError`]: nothing has changed then.
    pub fn remove(&self, name: &TapName) -> Result<(), NftError> {
        let Some(nft) = find() else {
            return Ok(());
        };
        let found = Found::look(&nft, name)?;
        let script = remove(name, &found.shared, &Surroundings::now());
        apply(&nft, name.as_str(), &script)
    }

    /// Has `name` just the rules that [`install`](Self::install) would give it?
    ///
    /// # Errors
    /// [`NftError`].
    pub fn has(&self, name: &TapName, policy: &VifPolicy) -> Result<bool, NftError> {
        let rules = Rules::of(name, policy);
        let Some(nft) = find() else {
            return Ok(rules.are_none());
        };
        Ok(Found::look(&nft, name)?.has(name, policy, &rules))
    }

    /// Those of `ruled`, interfaces with their policies, whose rules somebody has removed: not some of
    /// them, but all that it has in a table. One run of nft, however many there are.
    ///
    /// # Errors
    /// [`NftError`].
    pub fn missing<'a>(
        &self,
        ruled: impl Iterator<Item = (&'a TapName, &'a VifPolicy)>,
    ) -> Result<Vec<TapName>, NftError> {
        let Some(nft) = find() else {
            return Ok(Vec::new());
        };
        let (own, families) = tables(&list(&nft, &["tables"])?);
        let is_missing = |name, policy: &VifPolicy| {
            let shared = needed(policy) && families.len() < 2;
            !policy.is_open() && (shared || !own.contains(name))
        };
        let missing = ruled.filter(|(name, policy)| is_missing(name, policy));
        Ok(missing.map(|(name, _)| name.clone()).collect())
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
        let (own, families) = tables(&list(&nft, &["tables"])?);
        let mut names: BTreeSet<String> = own.iter().map(|tap| tap.as_str().to_owned()).collect();
        for (_, listing) in shared(&nft, families)? {
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
        let found = Found::look(&nft, name)?;
        if let Some(own) = &found.own {
            counters.read(own, "");
        }
        for (_, listing) in &found.shared {
            counters.read(listing, &prefix(name));
        }
        Ok(counters)
    }
}

/// The program; none is needed for rules that are none.
fn tool(name: &TapName, rules: &Rules) -> Result<Option<PathBuf>, NftError> {
    match find() {
        Some(nft) => Ok(Some(nft)),
        // Where there is no nft there are no rules of ours either.
        None if rules.are_none() => Ok(None),
        None => Err(NftError::Missing {
            name: name.as_str().to_owned(),
        }),
    }
}

fn exchange(
    nft: &Path,
    name: &TapName,
    policy: &VifPolicy,
    rules: &Rules,
    present: &Present,
) -> Result<(), NftError> {
    let script = replace(name, policy, rules, present, &Surroundings::now());
    apply(nft, name.as_str(), &script)
}

/// What there is that concerns an interface.
struct Found {
    /// What is in its own table.
    own: Option<Listing>,
    /// What is in the shared tables.
    shared: Present,
}

impl Found {
    fn look(nft: &Path, name: &TapName) -> Result<Self, NftError> {
        let (own, families) = tables(&list(nft, &["tables"])?);
        let own = match own.contains(name) {
            false => None,
            true => {
                let objects = list(nft, &["table", "netdev", &table_name(name)])?;
                Some(Listing::parse(&objects))
            }
        };
        let shared = shared(nft, families)?;
        Ok(Self { own, shared })
    }

    /// Is it just what `rules` make?
    fn has(&self, name: &TapName, policy: &VifPolicy, rules: &Rules) -> bool {
        let uses = |key| {
            let mut all = self.shared.iter();
            all.all(|(_, listing)| listing.has_key(key, name.as_str()))
        };
        let both = !needed(policy) || self.shared.len() == 2;
        let flows = !policy.is_stateful() || uses("out") && uses("in");
        let host = policy.host.is_none() || uses(HOST);
        match &self.own {
            None => rules.are_none(),
            Some(own) => rules.are(own) && both && flows && host,
        }
    }
}

fn shared(nft: &Path, families: Vec<Family>) -> Result<Present, NftError> {
    let listing = |family: Family| {
        let objects = list(nft, &["table", family.word(), TABLE])?;
        Ok((family, Listing::parse(&objects)))
    };
    families.into_iter().map(listing).collect()
}
