//! Guests that dom0 reaches by this project's own hotplug script.

use std::time::Duration;

use anyhow::ensure;

use super::guests::{dom0_station, first};
use crate::realxen::dom0::Dom0;
use crate::realxen::lan;
use crate::realxen::nic::{Nic, Wiring};
use crate::realxen::scenario::Scenario;
use crate::realxen::traffic::{Host, Station, Step};

const LIMIT: Duration = Duration::from_secs(20);

/// `mode = bridge`.
pub(super) const BRIDGE: Scenario = Scenario {
    name: "net-own-bridge",
    about: "vif-xen-backends: a bridge port with the bridge's MTU; xl shows why one cannot be",
    holds_for_kernel: false,
    run: bridge,
};

/// `mode = route`.
pub(super) const ROUTE: Scenario = Scenario {
    name: "net-own-route",
    about: "vif-xen-backends: a guest in the uplink's network, which dom0 answers for; nothing is left",
    holds_for_kernel: false,
    run: route,
};

/// `mode = nat`.
pub(super) const NAT: Scenario = Scenario {
    name: "net-own-nat",
    about: "vif-xen-backends: the world sees dom0's address, and reaches a forwarded port; nothing is left",
    holds_for_kernel: false,
    run: nat,
};

/// The guest's address in the uplink's own network: the world has to ask for it there.
const ROUTED_IP: &str = "192.0.2.7";
/// The guest's address that nobody else knows.
const HIDDEN_IP: &str = "10.74.0.11";
/// dom0's for it.
const HIDDEN_GATEWAY: &str = "10.74.0.1";

/// All that the script could leave in dom0. A bridge that has had its first port has other routes.
const TRACES: &str = "(ip route; ip -6 route) | grep -v ' dev lan9 '\n\
                      ip rule; ip neigh show proxy; nft list ruleset\n\
                      grep . /proc/sys/net/ipv[46]/conf/uplink/*forwarding\n\
                      grep . /proc/sys/net/ipv6/conf/uplink/proxy_ndp\n\
                      ls /run/xen-backends/vif 2>/dev/null || true";

fn bridge(dom0: &mut Dom0) -> anyhow::Result<()> {
    let here = dom0_station(dom0)?;
    let there = first(dom0)?;
    let before = dom0.sh(TRACES)?;
    let nic = Nic {
        name: Some("own0"),
        ..Nic::on("00:16:3e:79:00:21", own("bridge=lan9"))
    };
    there.guest.plug(dom0, &nic)?;
    let link = nic.raise(dom0, &there.guest, &["10.79.0.21/24"])?;
    ensure!(link.outside == "own0", "it is called {}", link.outside);
    let mtu = dom0.sh(&format!(
        "cat /sys/class/net/own0/mtu\n\
         xenstore-read $(xenstore-read {}/frontend)/mtu",
        link.node
    ))?;
    ensure!(mtu == "9000\n9000\n", "it has the MTU {mtu}");
    let addresses = dom0.sh("ip -o address show dev own0")?;
    ensure!(addresses.is_empty(), "dom0 has {addresses}");
    there.station.talk(dom0, &here, &Step::all(lan::JUMBO_IP))?;
    there.guest.unplug(dom0, &nic)?;
    let after = dom0.sh(TRACES)?;
    ensure!(after == before, "dom0 had {before}, and has {after}");

    let nic = Nic::on("00:16:3e:79:00:22", own("bridge=nowhere"));
    let line = nic.line().replace(',', " ");
    let output = dom0.run(&format!("xl network-attach first {line}"), LIMIT * 3)?;
    let said = output.stdout + &output.stderr;
    ensure!(
        said.contains("there is no bridge = nowhere"),
        "xl does not say what is missing:\n{said}"
    );
    // libxl may have left its half.
    dom0.sh(&format!("xl network-detach first {} || true", nic.mac))?;
    Ok(())
}

fn route(dom0: &mut Dom0) -> anyhow::Result<()> {
    let world = world(dom0)?;
    let nic = Nic::on("00:16:3e:78:00:21", own("ip=192.0.2.7,gatewaydev=uplink"));
    through(dom0, &nic, ROUTED_IP, lan::UPLINK_IP, &world, |dom0| {
        // The other way round as well: nothing hides the guest.
        let there = first(dom0)?;
        world.talk(dom0, &there.station, &Step::all(ROUTED_IP))
    })
}

fn nat(dom0: &mut Dom0) -> anyhow::Result<()> {
    // What the daemon writes for a policy that says so.
    dom0.sh("cat > /etc/xen/scripts/vif-own-nat <<'END'\n\
         #!/bin/sh\n\
         [ \"$1\" != online ] || xenstore-write $XENBUS_PATH/network/mode nat \\\n\
           $XENBUS_PATH/network/uplink uplink $XENBUS_PATH/network/gateway 10.74.0.1 \\\n\
           $XENBUS_PATH/network/forwards 'tcp any 8004 guest 7004'\n\
         exec /etc/xen/scripts/vif-xen-backends \"$@\"\n\
         END\n\
         chmod +x /etc/xen/scripts/vif-own-nat")?;
    let world = world(dom0)?;
    let wiring = Wiring::Own {
        script: "vif-own-nat",
        keys: "ip=10.74.0.11",
    };
    let nic = Nic::on("00:16:3e:74:00:11", wiring);
    through(dom0, &nic, HIDDEN_IP, HIDDEN_GATEWAY, &world, |dom0| {
        let asks = |address, port| format!("socat -u TCP:{address}:{port} STDIO");
        let there = first(dom0)?;
        let seen = there.guest.sh(dom0, &asks(lan::WORLD_IP, 7004), LIMIT)?;
        ensure!(
            seen.trim() == lan::UPLINK_IP,
            "the world sees the guest as {seen}"
        );
        let seen = world.host().sh(dom0, &asks(lan::UPLINK_IP, 8004))?;
        ensure!(
            seen.trim() == lan::WORLD_IP,
            "the guest sees the world as {seen}"
        );
        // From dom0 itself, too.
        let seen = dom0.sh(&asks(lan::UPLINK_IP, 8004))?;
        ensure!(!seen.trim().is_empty(), "dom0 does not reach the guest");
        Ok(())
    })
}

fn own(keys: &'static str) -> Wiring {
    Wiring::Own {
        script: "vif-xen-backends",
        keys,
    }
}

fn world(dom0: &mut Dom0) -> anyhow::Result<Station> {
    lan::raise(dom0)?;
    Station::open(dom0, Host::Namespace(lan::WORLD))
}

/// Plugs in an interface of the guest's whose other end is a gateway, talks to the world, and unplugs
/// it without a trace.
fn through(
    dom0: &mut Dom0,
    nic: &Nic,
    ip: &str,
    gateway: &str,
    world: &Station,
    more: impl FnOnce(&mut Dom0) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let there = first(dom0)?;
    let before = dom0.sh(TRACES)?;
    there.guest.plug(dom0, nic)?;
    let link = nic.raise(dom0, &there.guest, &[&format!("{ip}/32")])?;
    let script = format!(
        "ip route replace default via {gateway} dev {} onlink src {ip}",
        link.inside
    );
    there.guest.sh(dom0, &script, LIMIT)?;
    there.station.talk(dom0, world, &Step::all(lan::WORLD_IP))?;
    more(dom0)?;
    there.guest.unplug(dom0, nic)?;
    let after = dom0.sh(TRACES)?;
    ensure!(after == before, "dom0 had {before}, and has {after}");
    Ok(())
}
