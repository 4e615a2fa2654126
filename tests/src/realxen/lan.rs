//! The networks in dom0 that guests are wired up to.
//!
//! ```text
//! guests ── lan0  10.77.0.1/24, fd77::1/64    a bridge; leases from .100 on
//!        ── lan9  10.79.0.1/24                a bridge whose MTU is 9000
//!        ── lanv  10.76.0.1/24                an Open vSwitch
//!        ── vifD.H, routed or behind NAT ── dom0 ── uplink 192.0.2.1/24 ── 192.0.2.2 in namespace "world"
//! ```

use std::time::Duration;

use anyhow::Context;

use super::dom0::Dom0;
use super::nic::Wiring;

/// A bridge of the usual MTU.
pub const BRIDGE: Wiring = Wiring::Bridge("lan0");
/// dom0's addresses on it.
pub const BRIDGE_IPS: [&str; 2] = ["10.77.0.1", "fd77::1"];
/// A bridge for large frames.
pub const JUMBO: Wiring = Wiring::Bridge("lan9");
/// dom0's address on it.
pub const JUMBO_IP: &str = "10.79.0.1";
/// An Open vSwitch, there after [`start_switch`].
pub const SWITCH: Wiring = Wiring::OpenVswitch("lanv");
/// dom0's address on it.
pub const SWITCH_IP: &str = "10.76.0.1";
/// dom0's interface to the rest of the world.
pub const UPLINK: &str = "uplink";
/// Its address.
pub const UPLINK_IP: &str = "192.0.2.1";
/// The network namespace that stands for the rest of the world.
pub const WORLD: &str = "world";
/// The address there, which knows no way to guests but by [`UPLINK_IP`].
pub const WORLD_IP: &str = "192.0.2.2";

const LIMIT: Duration = Duration::from_secs(60);

/// Sets up everything but the switch, unless it is there.
///
/// # Errors
///
/// dom0 has gone, or a program or a module is missing.
pub fn raise(dom0: &mut Dom0) -> anyhow::Result<()> {
    let raised = dom0.run(RAISE, LIMIT)?.success();
    raised.context("cannot set up dom0's networks")?;
    Ok(())
}

/// Starts Open vSwitch and makes the switch, unless it is there.
///
/// # Errors
///
/// dom0 has gone, or Open vSwitch does not start.
pub fn start_switch(dom0: &mut Dom0) -> anyhow::Result<()> {
    let started = dom0.run(START_SWITCH, LIMIT)?.success();
    started.context("cannot start Open vSwitch")?;
    Ok(())
}

const RAISE: &str = r#"
[ -e /sys/class/net/uplink ] && exit
set -e
echo 1 > /proc/sys/net/ipv4/ip_forward
bridge() {
	ip link add $1 type bridge stp_state 0 forward_delay 0 mcast_snooping 0
	ip link set $1 mtu $2 up
	ip address add $3 dev $1
}
bridge lan0 1500 10.77.0.1/24
ip address add fd77::1/64 dev lan0 nodad
bridge lan9 9000 10.79.0.1/24
dnsmasq --conf-file=/dev/null --port=0 --interface=lan0 --bind-interfaces --no-ping \
	--dhcp-range=10.77.0.100,10.77.0.200,1h --dhcp-leasefile=/run/leases --user=root \
	--pid-file=/run/dnsmasq.pid --log-facility=/run/dnsmasq.log --log-dhcp

ip netns add world
ip link add uplink type veth peer name eth0 netns world
ip address add 192.0.2.1/24 dev uplink
ip link set uplink up
ip -n world link set lo up
ip -n world address add 192.0.2.2/24 dev eth0
ip -n world link set eth0 up
# For routed guests; those behind NAT are seen under the uplink's own address.
ip -n world route add 10.78.0.0/24 via 192.0.2.1
nft add table ip lan
nft add chain ip lan nat '{ type nat hook postrouting priority srcnat; }'
nft add rule ip lan nat ip saddr 10.75.0.0/24 oifname uplink masquerade
"#;

const START_SWITCH: &str = r#"
[ -e /sys/class/net/lanv ] && exit
set -e
mkdir -p /run/openvswitch
/usr/share/openvswitch/scripts/ovs-ctl start --system-id=realxen --no-monitor >&2
ovs-vsctl --timeout=30 add-br lanv
ip address add 10.76.0.1/24 dev lanv
ip link set lanv up
"#;
