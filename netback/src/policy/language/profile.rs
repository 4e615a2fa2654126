//! What a policy starts from.

use crate::policy::{Mac, VifPolicy};

/// What a policy says unless it says otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Profile {
    /// Nothing is checked.
    Open,
    /// One guest among others: its own addresses, as a client.
    Locked,
    /// Locked, and nobody but the uplink to talk to.
    Isolated,
}

/// The words for them.
pub(super) const PROFILES: &[(&str, Profile)] = &[
    ("open", Profile::Open),
    ("locked", Profile::Locked),
    ("isolated", Profile::Isolated),
];

/// Stands for the address of the interface, which a policy in a file does not know.
const ANY: Mac = Mac([0; 6]);

impl Profile {
    /// Its word.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        broker::config::name(PROFILES, self)
    }

    /// A policy of this profile, without addresses.
    pub(super) fn policy(self) -> VifPolicy {
        let locked = VifPolicy::locked(ANY, Vec::new());
        match self {
            Self::Open => VifPolicy::open(ANY),
            Self::Locked => locked,
            Self::Isolated => VifPolicy {
                isolated: true,
                host: Some(Vec::new()),
                ..locked
            },
        }
    }

    /// Are rules that accept stateful? They can be where addresses are guarded.
    pub(super) const fn is_stateful(self) -> bool {
        !matches!(self, Self::Open)
    }
}
