//! What the kernel has counted.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::listing::Listing;

/// Frames, and their bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Count {
    /// How many.
    pub packets: u64,
    /// How long together.
    pub bytes: u64,
}

/// What became of the frames of one interface since its policy was installed.
///
/// Each frame that was judged is counted once in a table: so the name whose count rises by one is the
/// verdict. An interface whose rules follow flows has two: its guards count what they drop, and the
/// shared tables the rest.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counters {
    /// Out, by reason: `malformed`, `mac`, `l2`, `vlan`, `arp`, `arp-rate`, `dhcp`, `dhcp-rate`, `ra`,
    /// `nd`, `nd-rate`, `ip`, `storm`, `rate`, `invalid`, `host` and `flows` were dropped; `pass` is
    /// what rules do not judge, `flow` what belongs to a flow that was allowed, and `default` what no
    /// rule matched.
    pub out: BTreeMap<String, Count>,
    /// In, likewise: `dhcp`, `invalid`, `flows`, `pass`, `flow`, `default`.
    pub into: BTreeMap<String, Count>,
    /// By the rule that decided, as an index into [`VifPolicy::rules`](crate::policy::VifPolicy::rules).
    pub rules: BTreeMap<usize, Count>,
}

impl Counters {
    /// Adds what is in `listing` under names that begin with `prefix`.
    pub(super) fn read(&mut self, listing: &Listing, prefix: &str) {
        for (name, packets, bytes) in &listing.counters {
            let Some(what) = name.strip_prefix(prefix) else {
                continue;
            };
            let (reasons, what) = match what.split_once('-') {
                Some(("in", what)) => (&mut self.into, what),
                Some(("out", what)) => (&mut self.out, what),
                _ => (&mut self.out, what),
            };
            let count = match rule(what) {
                Some(index) => self.rules.entry(index).or_default(),
                None => reasons.entry(what.to_owned()).or_default(),
            };
            count.add(*packets, *bytes);
        }
        let sets = listing.sets.iter();
        for set in sets.filter(|set| set.name.starts_with(prefix)) {
            for element in &set.elements {
                if let Some(index) = element.comment.as_deref().and_then(rule) {
                    let count = self.rules.entry(index).or_default();
                    count.add(element.packets, element.bytes);
                }
            }
        }
    }
}

impl Count {
    const fn add(&mut self, packets: u64, bytes: u64) {
        self.packets = self.packets.saturating_add(packets);
        self.bytes = self.bytes.saturating_add(bytes);
    }
}

/// The index in `r7`.
fn rule(what: &str) -> Option<usize> {
    what.strip_prefix('r')?.parse().ok()
}
