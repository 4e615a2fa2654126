//! Everything that is claimed about real Xen, in the order in which it is tried.

use super::scenario::Scenario;

mod contracts;
mod destroy;
mod hotplug;
mod kernel_store;
mod killed_worker;
mod read_only;
mod refused;
mod root;
mod two_guests;

/// All scenarios. Cheap ones that tell most come first.
pub const ALL: &[Scenario] = &[
    contracts::ON_XEN,
    root::PV,
    root::PVH,
    two_guests::AT_ONCE,
    read_only::DISK,
    hotplug::ATTACH_DETACH,
    destroy::UNDER_LOAD,
    refused::MISSING,
    refused::NOT_ALLOWED,
    killed_worker::LEAVES_OTHERS,
    kernel_store::DISK,
];
