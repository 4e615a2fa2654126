//! A guest lives on a disk of ours.

use std::time::Duration;

use anyhow::{Context, ensure};

use crate::realxen::disk::{Disk, Via};
use crate::realxen::dom0::Dom0;
use crate::realxen::guest::{Guest, Kind};
use crate::realxen::load::{Load, SCRATCH};
use crate::realxen::scenario::Scenario;

/// The first light: a PV guest, its root on an image file.
pub(super) const PV: Scenario = Scenario {
    name: "pv-root",
    about: "a PV guest boots from our disk, verifies its writes, and the image holds them",
    holds_for_kernel: true,
    run: |dom0| live(dom0, Kind::Pv, Via::Script),
};

/// The same for PVH, its root on a loop device.
pub(super) const PVH: Scenario = Scenario {
    name: "pvh-root",
    about: "a PVH guest boots from our disk, verifies its writes, and the image holds them",
    holds_for_kernel: true,
    run: |dom0| live(dom0, Kind::Pvh, Via::Loop),
};

fn live(dom0: &mut Dom0, kind: Kind, via: Via) -> anyhow::Result<()> {
    let disk = Disk::root(dom0, "root", via)?;
    let guest = Guest::new("root", kind, vec![disk.clone()]);
    guest.create(dom0)?;

    let root = guest.sh(dom0, "grep ' / ' /proc/mounts", Duration::from_secs(30))?;
    ensure!(
        root.contains("/dev/xvda / ext4 rw"),
        "the root filesystem is not xvda: {root}"
    );
    let proof = guest.sh(
        dom0,
        "dd if=/dev/urandom of=/root/proof bs=1M count=3 2>/dev/null && sync && sha256sum < /root/proof",
        Duration::from_secs(60),
    )?;
    let written = Load::run(dom0, &guest, &disk, SCRATCH)?;
    guest.shutdown(dom0)?;

    written.check(dom0)?;
    // The filesystem, too, is whole, and holds what the guest wrote into it.
    let found = dom0
        .sh(&format!(
            "e2fsck -fn {0} >&2 && mount -o loop,ro {0} /mnt && sha256sum < /mnt/root/proof; \
             status=$?; umount /mnt; exit $status",
            disk.path
        ))
        .context("the guest's root filesystem in the image")?;
    ensure!(
        found.trim() == proof.trim(),
        "the guest wrote {proof}, dom0 reads {found}"
    );
    Ok(())
}
