//! Guests on the network.

use crate::realxen::scenario::Scenario;

/// All of them. The first ones share a guest.
pub(super) const ALL: &[Scenario] = &[];
