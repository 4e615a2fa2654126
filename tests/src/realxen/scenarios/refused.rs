//! An image that cannot be served gives a clear error where people look.

use std::time::Duration;

use anyhow::ensure;

use crate::realxen::backend::{Backend, Devices};
use crate::realxen::disk::{Disk, FOLDER, Via};
use crate::realxen::dom0::Dom0;
use crate::realxen::guest::{Guest, Kind};
use crate::realxen::scenario::Scenario;

/// The image does not exist.
pub(super) const MISSING: Scenario = Scenario {
    name: "image-missing",
    about: "a missing image: xl and the log name it, and other guests are served",
    holds_for_kernel: false,
    run: |dom0| {
        let disk = Disk {
            path: format!("{FOLDER}/nowhere.img"),
            device: "xvda",
            via: Via::Script,
            is_read_only: false,
        };
        refuse(dom0, disk, "does not exist")
    },
};

/// The configuration allows other images only.
pub(super) const NOT_ALLOWED: Scenario = Scenario {
    name: "image-not-allowed",
    about: "an image outside the configuration's list: xl and the log name it",
    holds_for_kernel: false,
    run: |dom0| {
        Backend::Daemon.stop(dom0, Devices::Disks)?;
        dom0.sh(&format!(
            "mkdir -p /etc/xen-backends && \
             echo 'images = [\"{FOLDER}/good*\"]' > /etc/xen-backends/blkback.toml"
        ))?;
        let result = Backend::Daemon.start(dom0, Devices::Disks).and_then(|()| {
            let disk = Disk::root(dom0, "secret", Via::Script)?;
            refuse(dom0, disk, "images")
        });
        dom0.sh("rm /etc/xen-backends/blkback.toml")?;
        result
    },
};

fn refuse(dom0: &mut Dom0, disk: Disk, reason: &str) -> anyhow::Result<()> {
    let path = disk.path.clone();
    let guest = Guest::new("refused", Kind::Pv, vec![disk]);
    let output = guest.try_create(dom0)?;
    ensure!(output.status != 0, "xl created the guest");
    let said = output.stdout + &output.stderr;
    ensure!(
        said.contains(&path) && said.contains(reason),
        "xl does not say that {path} {reason}:\n{said}"
    );
    let log = dom0.sh("cat /run/xen-blkback/log")?;
    ensure!(
        log.lines()
            .any(|line| line.contains(&path) && line.contains(reason)),
        "the log does not say that {path} {reason}:\n{log}"
    );

    let good = Disk::root(dom0, "good", Via::Script)?;
    let guest = Guest::new("served", Kind::Pv, vec![good]);
    guest.create(dom0)?;
    guest.sh(dom0, "true", Duration::from_secs(60))?;
    guest.destroy(dom0)
}
