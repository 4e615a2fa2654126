//! Everything that is claimed about real Xen, in the order in which it is tried.

use super::backend::Devices;
use super::scenario::Suite;

mod contracts;
mod destroy;
mod hotplug;
mod kernel_store;
mod killed_worker;
mod nics;
mod policy;
mod read_only;
mod refused;
mod root;
mod two_guests;

/// All scenarios, by what they are about.
pub const SUITES: &[Suite] = &[DISKS, NICS, POLICIES, LONG];

/// xen-blkback's. Cheap ones that tell most come first.
const DISKS: Suite = Suite {
    devices: Devices::Disks,
    shares_guests: false,
    on_request: false,
    scenarios: &[
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
    ],
};

/// xen-netback's.
const NICS: Suite = Suite {
    devices: Devices::Nics,
    shares_guests: true,
    on_request: false,
    scenarios: nics::ALL,
};

/// What xen-netback lets pass.
const POLICIES: Suite = Suite {
    devices: Devices::Nics,
    shares_guests: true,
    on_request: false,
    scenarios: policy::ALL,
};

/// What takes longer than everything else of its kind.
const LONG: Suite = Suite {
    devices: Devices::Nics,
    shares_guests: false,
    on_request: true,
    scenarios: &[policy::RECONNECTS],
};
