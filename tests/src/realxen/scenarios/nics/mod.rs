//! Guests on the network.
//!
//! Most scenarios plug an interface of their own into one guest, and unplug it again.

use crate::realxen::scenario::Scenario;

mod bridge;
mod counters;
mod frontends;
mod guests;
mod hotplug;
mod lifecycle;
mod neighbours;
mod offloads;
mod own;
mod queues;
mod wirings;

/// All of them, from the simplest on. The last ones end the guests that the others share.
pub(super) const ALL: &[Scenario] = &[
    bridge::TRAFFIC,
    counters::RIGHT,
    queues::TWO,
    offloads::NO_GSO,
    offloads::NO_SG,
    offloads::JUMBO,
    wirings::ROUTE,
    wirings::NAT,
    wirings::SWITCH,
    own::BRIDGE,
    own::ROUTE,
    own::NAT,
    hotplug::ATTACH_DETACH,
    neighbours::TO_EACH_OTHER,
    lifecycle::SAVE_RESTORE,
    lifecycle::DESTROY,
    lifecycle::PVH,
    frontends::PLAIN,
];
