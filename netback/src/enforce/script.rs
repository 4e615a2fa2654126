//! All that nft is told about one interface, as one transaction.

use super::listing::Listing;
use super::netdev::{self, table_name};
use super::shared::{self, Surroundings};
use super::table::{Family, Table, fingerprint};
use crate::policy::VifPolicy;
use crate::tap::TapName;

/// Where there is more than one interface.
pub(super) const SHARED: [Family; 2] = [Family::Bridge, Family::Inet];

/// The shared tables that there are.
pub(super) type Present = Vec<(Family, Listing)>;

/// The rules of one interface.
#[derive(Debug)]
pub(super) struct Rules {
    own: Table,
    /// The name of a chain that is empty: it tells one set of rules from another.
    seal: String,
    nothing: bool,
}

impl Rules {
    pub(super) fn of(name: &TapName, policy: &VifPolicy) -> Self {
        let own = netdev::table(name, policy);
        let nothing = own.is_empty() && !shared::needed(policy);
        let mut text = own.to_string();
        for family in SHARED {
            text += &shared::table(family, name, policy).to_string();
        }
        let seal = format!("seal-{:016x}", fingerprint(&text));
        Self { own, seal, nothing }
    }

    /// Is there nothing that the kernel has to do?
    pub(super) const fn are_none(&self) -> bool {
        self.nothing
    }

    /// Is `listing`, of the interface's own table, what these rules make? If the interface was removed
    /// meanwhile, Linux has taken the chains that hung at it.
    pub(super) fn are(&self, listing: &Listing) -> bool {
        listing.chains.contains(&self.seal) && listing.hooks == self.own.hooks()
    }
}

/// Puts `rules` in the place of what there is.
pub(super) fn replace(
    name: &TapName,
    policy: &VifPolicy,
    rules: &Rules,
    present: &Present,
    around: &Surroundings,
) -> String {
    let (table, seal, own) = (table_name(name), &rules.seal, &rules.own);
    let mut script = delete(name);
    if !rules.nothing {
        script += &format!("table netdev {table} {{\n{own}\tchain {seal} {{ }}\n}}\n");
    }
    script + &in_shared(name, Some(policy), present, around)
}

/// Leaves nothing of the interface.
pub(super) fn remove(name: &TapName, present: &Present, around: &Surroundings) -> String {
    delete(name) + &in_shared(name, None, present, around)
}

/// What is not there cannot be deleted, so it is made before.
fn delete(name: &TapName) -> String {
    let table = table_name(name);
    format!("add table netdev {table}\ndelete table netdev {table}\n")
}

fn in_shared(
    name: &TapName,
    policy: Option<&VifPolicy>,
    present: &Present,
    around: &Surroundings,
) -> String {
    let mut script = String::new();
    for family in SHARED {
        let there = present.iter().find(|(other, _)| *other == family);
        let there = there.map(|(_, listing)| listing);
        script += &shared::script(family, name, policy, there, around);
    }
    script
}
