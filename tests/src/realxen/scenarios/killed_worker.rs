//! One guest's worker dies, and nobody else notices.

use std::time::Duration;

use anyhow::{Context, ensure};

use crate::realxen::disk::{Disk, Via};
use crate::realxen::dom0::Dom0;
use crate::realxen::grants;
use crate::realxen::guest::{Guest, Kind};
use crate::realxen::load::{Load, SCRATCH, keep_busy};
use crate::realxen::scenario::Scenario;

/// `kill -9` of one of two workers under load.
pub(super) const LEAVES_OTHERS: Scenario = Scenario {
    name: "killed-worker",
    about: "kill -9 of one guest's worker: the broker logs it, the other guest and new ones go on",
    holds_for_kernel: false,
    run,
};

fn run(dom0: &mut Dom0) -> anyhow::Result<()> {
    let victim_disk = Disk::root(dom0, "victim", Via::Script)?;
    let other_disk = Disk::root(dom0, "other", Via::Script)?;
    let victim = Guest::new("victim", Kind::Pv, vec![victim_disk.clone()]);
    let other = Guest::new("other", Kind::Pv, vec![other_disk.clone()]);
    victim.create(dom0)?;
    other.create(dom0)?;
    keep_busy(dom0, &victim, &victim_disk, SCRATCH)?;
    let load = Load::start(dom0, &other, &other_disk, SCRATCH)?;

    let killed = dom0
        .sh(
            "worker=$(pgrep -f \"xen-blkback.* worker .*--domid $(xl domid victim)( |$)\") && \
             kill -9 $worker && echo $worker",
        )
        .context("cannot kill the victim's worker")?;
    let written = load.end(dom0)?;
    let log = dom0.sh("cat /run/xen-blkback/log")?;
    ensure!(
        log.lines()
            .any(|line| line.contains("worker") && line.contains("signal 9")),
        "the log does not say that worker {} was killed by signal 9:\n{log}",
        killed.trim()
    );
    // Nobody serves the victim: it can only be destroyed, which has to work.
    victim.destroy(dom0)?;

    let late_disk = Disk::root(dom0, "late", Via::Script)?;
    let late = Guest::new("late", Kind::Pv, vec![late_disk]);
    late.create(dom0)?;
    late.sh(dom0, "true", Duration::from_secs(60))?;
    late.shutdown(dom0)?;
    other.shutdown(dom0)?;
    written.check(dom0)?;
    grants::none_left(dom0)
}
