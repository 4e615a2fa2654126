//! How guests with interfaces end, and come back.

use std::time::Duration;

use anyhow::Context;

use super::guests::{FIRST_IPS, destroy_all, dom0_station, first, fresh};
use crate::realxen::counters::Counters;
use crate::realxen::dom0::Dom0;
use crate::realxen::grants;
use crate::realxen::guest::Kind;
use crate::realxen::lan;
use crate::realxen::scenario::Scenario;
use crate::realxen::traffic::{Host, Step};

/// `xl save` and `xl restore`.
pub(super) const SAVE_RESTORE: Scenario = Scenario {
    name: "net-save-restore",
    about: "a guest that was saved and restored has its network again; bytes compared before and after",
    holds_for_kernel: true,
    run: save_restore,
};

/// `xl destroy`.
pub(super) const DESTROY: Scenario = Scenario {
    name: "net-destroy-busy",
    about: "xl destroy under traffic both ways leaves no zombie, no interface, no grant, no node",
    holds_for_kernel: true,
    run: destroy,
};

/// A guest in a hardware container.
pub(super) const PVH: Scenario = Scenario {
    name: "net-pvh",
    about: "a PVH guest: ping, TCP and UDP, bytes compared; nothing is left after its shutdown",
    holds_for_kernel: true,
    run: pvh,
};

fn save_restore(dom0: &mut Dom0) -> anyhow::Result<()> {
    let here = dom0_station(dom0)?;
    let there = first(dom0)?;
    let steps = lan::BRIDGE_IPS.map(Step::all).concat();
    there.station.talk(dom0, &here, &steps)?;
    there.guest.save_and_restore(dom0, "/var/tmp/first.saved")?;
    // It has its addresses and its services still; its interface in dom0 is another one.
    let there = first(dom0)?;
    there.station.talk(dom0, &here, &steps)?;
    here.talk(dom0, &there.station, &[Step::Ping(FIRST_IPS[0])])
}

fn destroy(dom0: &mut Dom0) -> anyhow::Result<()> {
    let _here = dom0_station(dom0)?;
    let there = first(dom0)?;
    let before = Counters::read(dom0, &Host::Dom0, &there.link.outside)?;
    let script = format!(
        "iperf3 -c {} --bidir -P 2 -t 600 > /tmp/iperf3 2>&1 &",
        lan::BRIDGE_IPS[0]
    );
    there.guest.sh(dom0, &script, Duration::from_secs(30))?;
    busy(dom0, &there.link.outside, before)?;
    destroy_all(dom0)?;
    grants::none_left(dom0)
}

/// Waits until much has passed both ways.
fn busy(dom0: &mut Dom0, interface: &str, before: Counters) -> anyhow::Result<()> {
    let much = 4 << 20;
    let dir = format!("/sys/class/net/{interface}/statistics");
    let script = format!(
        "for _ in $(seq 300); do\n\
         [ $(cat {dir}/rx_bytes) -gt {} ] && [ $(cat {dir}/tx_bytes) -gt {} ] && exit\n\
         sleep 0.1\ndone; exit 1",
        before.rx_bytes + much,
        before.tx_bytes + much
    );
    dom0.sh(&script).context("no traffic both ways")?;
    Ok(())
}

fn pvh(dom0: &mut Dom0) -> anyhow::Result<()> {
    let here = dom0_station(dom0)?;
    let there = fresh(dom0, Kind::Pvh)?;
    let steps = lan::BRIDGE_IPS.map(Step::all).concat();
    there.station.talk(dom0, &here, &steps)?;
    there.guest.shutdown(dom0)?;
    grants::none_left(dom0)
}
