//! A guest on a bridge, as the stock script makes it.

use std::time::Duration;

use anyhow::{Context, ensure};

use super::guests::{dom0_station, first};
use crate::realxen::counters::Counters;
use crate::realxen::dom0::Dom0;
use crate::realxen::guest::Guest;
use crate::realxen::lan;
use crate::realxen::nic::Link;
use crate::realxen::scenario::Scenario;
use crate::realxen::traffic::{Host, Station, Step};

/// A frame on a wire that nobody cuts up or puts together.
const WIRE_FRAME: u64 = 1514;

/// The first light.
pub(super) const TRAFFIC: Scenario = Scenario {
    name: "net-bridge",
    about: "a bridged guest: ping, DHCP, TCP with offloads and UDP in fragments, v4 and v6, bytes compared",
    holds_for_kernel: true,
    run,
};

fn run(dom0: &mut Dom0) -> anyhow::Result<()> {
    let here = dom0_station(dom0)?;
    let there = first(dom0)?;
    lease(dom0, &there.guest, &there.link, &here)?;
    let offloads = there
        .station
        .host()
        .sh(dom0, &format!("ethtool -k {}", there.link.inside))?;
    for offload in [
        "scatter-gather: on",
        "tx-checksumming: on",
        "tcp-segmentation-offload: on",
        "tx-tcp6-segmentation: on",
    ] {
        ensure!(
            offloads.contains(offload),
            "the guest's interface has no {offload}:\n{offloads}"
        );
    }
    for ip in lan::BRIDGE_IPS {
        let before = Counters::read(dom0, &Host::Dom0, &there.link.outside)?;
        there.station.talk(dom0, &here, &Step::all(ip))?;
        let seen = Counters::read(dom0, &Host::Dom0, &there.link.outside)?.since(before);
        // Acknowledgements are among them, and still the average is no frame of a wire.
        ensure!(
            seen.rx_size() > WIRE_FRAME && seen.tx_size() > WIRE_FRAME,
            "large frames were cut up before they crossed ({ip}): {seen:?}"
        );
    }
    Ok(())
}

/// Has the guest ask for a lease, and reaches it under the address that it was given.
fn lease(dom0: &mut Dom0, guest: &Guest, link: &Link, here: &Station) -> anyhow::Result<()> {
    let nic = &link.inside;
    let script = format!(
        "printf '#!/bin/sh\\n[ $1 = bound ] && echo lease $ip $mask\\ntrue\\n' > /tmp/bound\n\
         chmod +x /tmp/bound\n\
         udhcpc -i {nic} -n -q -f -t 10 -T 2 -s /tmp/bound"
    );
    let printed = guest.sh(dom0, &script, Duration::from_secs(60))?;
    let ip = printed
        .lines()
        .find_map(|line| line.strip_prefix("lease ")?.strip_suffix(" 24"))
        .with_context(|| format!("the guest got no lease:\n{printed}"))?;
    ensure!(ip.starts_with("10.77.0.1"), "a lease out of range: {ip}");
    let script = format!("ip address add {ip}/24 dev {nic}");
    guest.sh(dom0, &script, Duration::from_secs(10))?;
    here.talk(dom0, here, &[Step::Ping(ip)])?;
    let script = format!("ip address del {ip}/24 dev {nic}");
    guest.sh(dom0, &script, Duration::from_secs(10))?;
    Ok(())
}
