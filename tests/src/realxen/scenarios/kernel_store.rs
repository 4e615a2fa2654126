//! The daemon as it works in a driver domain: xenstore through the kernel, without a socket.

use std::time::Duration;

use anyhow::ensure;

use crate::realxen::disk::{Disk, Via};
use crate::realxen::dom0::Dom0;
use crate::realxen::guest::{Guest, Kind};
use crate::realxen::load::{Load, SCRATCH};
use crate::realxen::scenario::Scenario;
use crate::realxen::{Backend, Devices};

/// `/dev/xen/xenbus` is all that the daemon has.
pub(super) const DISK: Scenario = Scenario {
    name: "kernel-store",
    about: "a daemon whose xenstore is /dev/xen/xenbus serves a guest that comes and goes",
    holds_for_kernel: false,
    run,
};

const FILE: &str = "/run/xen-blkback/environment";

fn run(dom0: &mut Dom0) -> anyhow::Result<()> {
    Backend::Daemon.stop(dom0, Devices::Disks)?;
    dom0.sh(&format!(
        "echo 'export XENSTORED_PATH=/dev/xen/xenbus' > {FILE}"
    ))?;
    Backend::Daemon.start(dom0, Devices::Disks)?;
    let outcome = serve(dom0);
    // Whatever has come of it, the next scenario finds the usual daemon.
    dom0.sh(&format!("rm {FILE}"))?;
    Backend::Daemon.stop(dom0, Devices::Disks)?;
    Backend::Daemon.start(dom0, Devices::Disks)?;
    outcome
}

fn serve(dom0: &mut Dom0) -> anyhow::Result<()> {
    let open = dom0.sh("ls -l /proc/$(cat /run/xen-blkback/pid)/fd")?;
    ensure!(
        open.contains("/dev/xen/xenbus"),
        "the daemon talks to another xenstore:\n{open}"
    );
    let disk = Disk::root(dom0, "kernel-store", Via::Script)?;
    let guest = Guest::new("kernel-store", Kind::Pv, vec![disk.clone()]);
    guest.create(dom0)?;
    let written = Load::run(dom0, &guest, &disk, SCRATCH)?;
    let extra = Disk::noise(dom0, "kernel-store-extra", 16, Via::Script)?;
    guest.attach(dom0, &extra)?;
    guest.sh(
        dom0,
        "for _ in $(seq 100); do [ -b /dev/xvdb ] && exit; sleep 0.2; done; exit 1",
        Duration::from_secs(60),
    )?;
    guest.detach(dom0, &extra)?;
    guest.shutdown(dom0)?;
    written.check(dom0)
}
