//! The guests that scenarios share: made by the first one that asks, found by the others.

use crate::realxen::dom0::Dom0;
use crate::realxen::guest::{Guest, Kind};
use crate::realxen::lan;
use crate::realxen::nic::{Link, Nic};
use crate::realxen::traffic::{self, Host, Station};

/// A guest on the bridge, ready for traffic.
pub(super) struct Standing {
    pub(super) guest: Guest,
    /// Its interface on the bridge.
    pub(super) link: Link,
    pub(super) station: Station,
}

/// Addresses on the bridge with the lengths of their networks: the first guest's.
pub(super) const FIRST_IPS: [&str; 2] = ["10.77.0.11", "fd77::11"];
/// The second guest's.
pub(super) const SECOND_IPS: [&str; 2] = ["10.77.0.12", "fd77::12"];

/// The guest that has two CPUs, and so may have two queues.
pub(super) fn first(dom0: &mut Dom0) -> anyhow::Result<Standing> {
    let nic = Nic::on("00:16:3e:77:00:11", lan::BRIDGE);
    let guest = Guest::diskless("first", Kind::Pv, vec![nic]).with_cpus(2);
    standing(dom0, guest, nic, FIRST_IPS)
}

/// The guest that has one CPU, and so one queue.
pub(super) fn second(dom0: &mut Dom0) -> anyhow::Result<Standing> {
    let nic = Nic::on("00:16:3e:77:00:12", lan::BRIDGE);
    let guest = Guest::diskless("second", Kind::Pv, vec![nic]);
    standing(dom0, guest, nic, SECOND_IPS)
}

/// A new guest of that kind with one CPU, instead of the second one.
pub(super) fn fresh(dom0: &mut Dom0, kind: Kind) -> anyhow::Result<Standing> {
    lan::raise(dom0)?;
    let nic = Nic::on("00:16:3e:77:00:12", lan::BRIDGE);
    let guest = Guest::diskless("fresh", kind, vec![nic]);
    standing(dom0, guest, nic, SECOND_IPS)
}

/// Ends all guests at once, for a scenario that must not find any.
pub(super) fn destroy_all(dom0: &mut Dom0) -> anyhow::Result<()> {
    let names = dom0.sh("xl list | awk 'NR > 1 && $1 != \"Domain-0\" { print $1 }'")?;
    for name in names.lines() {
        dom0.sh(&format!("xl destroy {name}"))?;
    }
    Ok(())
}

/// dom0 as a station.
pub(super) fn dom0_station(dom0: &mut Dom0) -> anyhow::Result<Station> {
    lan::raise(dom0)?;
    Station::open(dom0, Host::Dom0)
}

fn standing(dom0: &mut Dom0, guest: Guest, nic: Nic, ips: [&str; 2]) -> anyhow::Result<Standing> {
    lan::raise(dom0)?;
    if !guest.exists(dom0)? {
        guest.create(dom0)?;
    }
    let addresses = [format!("{}/24", ips[0]), format!("{}/64", ips[1])];
    let addresses = addresses.each_ref().map(String::as_str);
    let (link, station) = traffic::join(dom0, &guest, &nic, &addresses)?;
    Ok(Standing {
        guest,
        link,
        station,
    })
}
