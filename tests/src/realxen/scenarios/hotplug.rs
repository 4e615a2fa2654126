//! A disk comes and goes while the guest runs.

use std::time::Duration;

use anyhow::ensure;

use crate::realxen::disk::{Disk, Via};
use crate::realxen::dom0::Dom0;
use crate::realxen::grants;
use crate::realxen::guest::{Guest, Kind};
use crate::realxen::load::{Load, Region};
use crate::realxen::scenario::Scenario;

/// All of the disk.
const WHOLE: Region = Region { from: 0, mib: 16 };

/// Twice the same disk, so that the second round finds nothing of the first.
pub(super) const ATTACH_DETACH: Scenario = Scenario {
    name: "attach-detach",
    about: "block-attach, verified I/O, block-detach, twice; nothing is left behind",
    holds_for_kernel: true,
    run,
};

fn run(dom0: &mut Dom0) -> anyhow::Result<()> {
    let root = Disk::root(dom0, "root", Via::File)?;
    let disk = Disk::noise(dom0, "extra", WHOLE.mib, Via::Script)?;
    let guest = Guest::new("plugged", Kind::Pv, vec![root]);
    guest.create(dom0)?;
    let limit = Duration::from_secs(60);
    for _ in 0..2 {
        guest.sh(dom0, "true", limit)?;
        guest.attach(dom0, &disk)?;
        guest.sh(
            dom0,
            "for _ in $(seq 100); do [ -b /dev/xvdb ] && exit; sleep 0.2; done; exit 1",
            limit,
        )?;
        let written = Load::run(dom0, &guest, &disk, WHOLE)?;
        guest.detach(dom0, &disk)?;
        written.check(dom0)?;
        let node = guest.sh(dom0, "ls /sys/block", limit)?;
        ensure!(!node.contains("xvdb"), "the guest still has xvdb: {node}");
        let keys = dom0.sh("xenstore-ls -f /local/domain/0/backend/vbd | grep /51728 || true")?;
        ensure!(keys.is_empty(), "xenstore still has the disk:\n{keys}");
    }
    guest.shutdown(dom0)?;
    grants::none_left(dom0)
}
