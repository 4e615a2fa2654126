//! Guests that do without an offload, and frames larger than usual.

use std::time::Duration;

use anyhow::ensure;

use super::guests::{Standing, dom0_station, first};
use crate::realxen::counters::Counters;
use crate::realxen::dom0::Dom0;
use crate::realxen::lan;
use crate::realxen::nic::Nic;
use crate::realxen::scenario::Scenario;
use crate::realxen::traffic::{Host, Step};

/// The guest cuts up its frames itself, and so does dom0 for it.
pub(super) const NO_GSO: Scenario = Scenario {
    name: "net-no-gso",
    about: "without segmentation offload on either side, no frame exceeds the MTU; bytes compared",
    holds_for_kernel: true,
    run: |dom0| without(dom0, "tso off"),
};

/// The guest's frames lie in one piece.
pub(super) const NO_SG: Scenario = Scenario {
    name: "net-no-sg",
    about: "without scatter-gather on either side, no frame exceeds the MTU; bytes compared",
    holds_for_kernel: true,
    run: |dom0| without(dom0, "sg off"),
};

/// Large frames.
pub(super) const JUMBO: Scenario = Scenario {
    name: "net-mtu-9000",
    about: "frames of 9000 bytes cross a bridge of that MTU uncut, TCP and UDP with them",
    holds_for_kernel: true,
    run: jumbo,
};

fn without(dom0: &mut Dom0, setting: &str) -> anyhow::Result<()> {
    let here = dom0_station(dom0)?;
    let there = first(dom0)?;
    let Standing { link, station, .. } = &there;
    for (host, nic) in [(station.host(), &link.inside), (&Host::Dom0, &link.outside)] {
        host.sh(dom0, &format!("ethtool -K {nic} {setting}"))?;
    }
    for ip in lan::BRIDGE_IPS {
        let before = Counters::read(dom0, &Host::Dom0, &link.outside)?;
        station.talk(
            dom0,
            &here,
            &[Step::Send(ip, 1), Step::Fetch(ip, 1), Step::Echo(ip)],
        )?;
        let seen = Counters::read(dom0, &Host::Dom0, &link.outside)?.since(before);
        ensure!(
            seen.rx_size() <= 1514 && seen.tx_size() <= 1514,
            "frames were not cut up before they crossed ({ip}): {seen:?}"
        );
    }
    for (host, nic) in [(station.host(), &link.inside), (&Host::Dom0, &link.outside)] {
        host.sh(dom0, &format!("ethtool -K {nic} sg on tso on"))?;
    }
    Ok(())
}

fn jumbo(dom0: &mut Dom0) -> anyhow::Result<()> {
    let here = dom0_station(dom0)?;
    let there = first(dom0)?;
    let nic = Nic {
        mtu: Some(9000),
        ..Nic::on("00:16:3e:79:00:11", lan::JUMBO)
    };
    there.guest.plug(dom0, &nic)?;
    let link = nic.raise(dom0, &there.guest, &["10.79.0.11/24"])?;
    let ip = lan::JUMBO_IP;
    there
        .station
        .talk(dom0, &here, &[Step::PingUncut(ip, 9000)])?;
    here.talk(dom0, &there.station, &[Step::PingUncut("10.79.0.11", 9000)])?;
    there.station.talk(dom0, &here, &Step::all(ip))?;

    // Without offload, each frame has the MTU's own size.
    let off = format!("ethtool -K {} tso off gso off", link.inside);
    there.guest.sh(dom0, &off, Duration::from_secs(20))?;
    let before = Counters::read(dom0, &Host::Dom0, &link.outside)?;
    there.station.talk(dom0, &here, &[Step::Send(ip, 1)])?;
    let seen = Counters::read(dom0, &Host::Dom0, &link.outside)?.since(before);
    ensure!(
        (1515..=9014).contains(&seen.rx_size()),
        "frames of the guest's have not the MTU's size: {seen:?}"
    );
    there.guest.unplug(dom0, &nic)
}
