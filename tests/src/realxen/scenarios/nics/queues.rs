//! Interfaces with several queues.

use std::time::Duration;

use anyhow::ensure;

use super::guests::{dom0_station, first};
use crate::realxen::dom0::Dom0;
use crate::realxen::lan;
use crate::realxen::scenario::Scenario;
use crate::realxen::traffic::Step;

/// TCP connections at once: the hash of one may be that of another.
const STREAMS: u32 = 6;

/// A guest with two CPUs asks for two queues.
pub(super) const TWO: Scenario = Scenario {
    name: "net-two-queues",
    about: "a guest with two CPUs has two queues, both carry traffic both ways, bytes compared",
    holds_for_kernel: true,
    run,
};

/// What the guest has counted of its interrupts: a word "vif0-q1-tx=N" for each queue and direction.
const INTERRUPTS: &str = "awk '$NF ~ /^vif0-q/ { print $NF \"=\" $2 + $3 }' /proc/interrupts";

fn run(dom0: &mut Dom0) -> anyhow::Result<()> {
    let here = dom0_station(dom0)?;
    let there = first(dom0)?;
    let limit = Duration::from_secs(20);
    let keys = dom0.sh(&format!(
        "xenstore-ls -f $(xenstore-read {}/frontend)",
        there.link.node
    ))?;
    ensure!(
        keys.contains("multi-queue-num-queues = \"2\"") && keys.contains("queue-1/event-channel"),
        "the guest has not two queues:\n{keys}"
    );
    let before = there.guest.sh(dom0, INTERRUPTS, limit)?;
    let ip = lan::BRIDGE_IPS[0];
    let steps = [Step::Send(ip, STREAMS), Step::Fetch(ip, STREAMS)];
    there.station.talk(dom0, &here, &steps)?;
    let after = there.guest.sh(dom0, INTERRUPTS, limit)?;

    let (before, after) = (
        Vec::from_iter(before.lines()),
        Vec::from_iter(after.lines()),
    );
    ensure!(after.len() == 4, "the queues' interrupts are {after:?}");
    ensure!(
        after.iter().all(|line| !before.contains(line)),
        "a queue stood still: {before:?}, then {after:?}"
    );
    Ok(())
}
