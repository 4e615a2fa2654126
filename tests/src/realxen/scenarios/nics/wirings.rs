//! Guests that dom0 reaches by other ways than a bridge, each by the toolstack's stock script.

use std::time::Duration;

use anyhow::ensure;

use super::guests::{Standing, dom0_station, first};
use crate::realxen::dom0::Dom0;
use crate::realxen::lan;
use crate::realxen::nic::{Nic, Wiring};
use crate::realxen::scenario::Scenario;
use crate::realxen::traffic::{Host, Station, Step};

const LIMIT: Duration = Duration::from_secs(20);

/// `vif-route`.
pub(super) const ROUTE: Scenario = Scenario {
    name: "net-route",
    about: "a guest behind vif-route and the world reach each other under their own addresses",
    holds_for_kernel: true,
    run: route,
};

/// `vif-nat`.
pub(super) const NAT: Scenario = Scenario {
    name: "net-nat",
    about: "a guest behind vif-nat reaches the world, which sees dom0's address; bytes compared",
    holds_for_kernel: true,
    run: nat,
};

/// `vif-openvswitch`.
pub(super) const SWITCH: Scenario = Scenario {
    name: "net-ovs",
    about: "a guest is a port of an Open vSwitch while it has an interface there; bytes compared",
    holds_for_kernel: true,
    run: switch,
};

/// The guest's address behind `vif-route`; the world knows the way to it.
const ROUTED_IP: &str = "10.78.0.11";
/// The guest's address behind `vif-nat`, and the one that the script gives dom0 for it.
const HIDDEN_IP: &str = "10.75.0.11";
const HIDDEN_GATEWAY: &str = "10.75.0.138";

fn route(dom0: &mut Dom0) -> anyhow::Result<()> {
    let there = first(dom0)?;
    let world = Station::open(dom0, Host::Namespace(lan::WORLD))?;
    let wiring = Wiring::Route {
        ip: ROUTED_IP,
        gateway: lan::UPLINK,
    };
    let nic = Nic::on("00:16:3e:78:00:11", wiring);
    through(dom0, &there, &nic, ROUTED_IP, lan::UPLINK_IP, &world)?;
    // The other way round as well: nothing hides the guest.
    world.talk(dom0, &there.station, &Step::all(ROUTED_IP))?;
    there.guest.unplug(dom0, &nic)
}

fn nat(dom0: &mut Dom0) -> anyhow::Result<()> {
    let there = first(dom0)?;
    let world = Station::open(dom0, Host::Namespace(lan::WORLD))?;
    let nic = Nic::on("00:16:3e:75:00:11", Wiring::Nat { ip: HIDDEN_IP });
    through(dom0, &there, &nic, HIDDEN_IP, HIDDEN_GATEWAY, &world)?;
    let seen = there.guest.sh(
        dom0,
        &format!("socat -u TCP:{}:7004 STDIO", lan::WORLD_IP),
        LIMIT,
    )?;
    ensure!(
        seen.trim() == lan::UPLINK_IP,
        "the world sees the guest as {seen}"
    );
    there.guest.unplug(dom0, &nic)
}

/// Plugs in an interface of the guest's whose other end is a gateway, and talks to the world.
fn through(
    dom0: &mut Dom0,
    there: &Standing,
    nic: &Nic,
    ip: &str,
    gateway: &str,
    world: &Station,
) -> anyhow::Result<()> {
    let Standing { guest, station, .. } = there;
    guest.plug(dom0, nic)?;
    let link = nic.raise(dom0, guest, &[&format!("{ip}/32")])?;
    let script = format!(
        "ip route replace default via {gateway} dev {} onlink src {ip}",
        link.inside
    );
    guest.sh(dom0, &script, LIMIT)?;
    station.talk(dom0, world, &Step::all(lan::WORLD_IP))
}

fn switch(dom0: &mut Dom0) -> anyhow::Result<()> {
    let here = dom0_station(dom0)?;
    let there = first(dom0)?;
    lan::start_switch(dom0)?;
    let nic = Nic::on("00:16:3e:76:00:11", lan::SWITCH);
    there.guest.plug(dom0, &nic)?;
    let link = nic.raise(dom0, &there.guest, &["10.76.0.11/24"])?;
    let ports = dom0.sh("ovs-vsctl --timeout=30 list-ports lanv")?;
    ensure!(
        ports.trim() == link.outside,
        "the ports are {ports}, not {}",
        link.outside
    );
    let steps = Step::all(lan::SWITCH_IP);
    there.station.talk(dom0, &here, &steps)?;
    there.guest.unplug(dom0, &nic)?;
    let ports = dom0.sh("ovs-vsctl --timeout=30 list-ports lanv")?;
    ensure!(ports.is_empty(), "the switch kept the port {ports}");
    Ok(())
}
