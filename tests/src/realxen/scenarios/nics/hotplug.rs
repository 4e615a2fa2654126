//! An interface comes and goes while the guest runs.

use std::time::Duration;

use anyhow::ensure;

use super::guests::{dom0_station, first};
use crate::realxen::dom0::Dom0;
use crate::realxen::lan;
use crate::realxen::nic::Nic;
use crate::realxen::scenario::Scenario;
use crate::realxen::traffic::Step;

/// Twice, so that the second round finds nothing of the first: under the usual name and under one
/// that was asked for.
pub(super) const ATTACH_DETACH: Scenario = Scenario {
    name: "net-attach-detach",
    about: "network-attach, traffic, network-detach, twice, once with a vifname; nothing is left",
    holds_for_kernel: true,
    run,
};

fn run(dom0: &mut Dom0) -> anyhow::Result<()> {
    let here = dom0_station(dom0)?;
    let there = first(dom0)?;
    let before = dom0.sh("ls /sys/class/net")?;
    for name in [None, Some("front")] {
        let nic = Nic {
            name,
            ..Nic::on("00:16:3e:79:00:12", lan::JUMBO)
        };
        there.guest.plug(dom0, &nic)?;
        let link = nic.raise(dom0, &there.guest, &["10.79.0.12/24"])?;
        ensure!(
            name.is_none_or(|name| name == link.outside),
            "the interface is called {}",
            link.outside
        );
        there.station.talk(dom0, &here, &Step::all(lan::JUMBO_IP))?;
        there.guest.unplug(dom0, &nic)?;

        let after = dom0.sh("ls /sys/class/net")?;
        ensure!(after == before, "dom0 had {before}, and has {after}");
        let keys = dom0.sh(&format!("xenstore-ls {} 2>/dev/null || true", link.node))?;
        ensure!(keys.is_empty(), "xenstore has the interface still:\n{keys}");
        let limit = Duration::from_secs(20);
        let nics = there.guest.sh(dom0, "ls /sys/class/net", limit)?;
        ensure!(
            !nics.contains(&link.inside),
            "the guest has {} still",
            link.inside
        );
    }
    // The one that it was born with was not touched.
    there
        .station
        .talk(dom0, &here, &[Step::Ping(lan::BRIDGE_IPS[0])])
}
