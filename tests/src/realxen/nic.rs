//! A guest's network interface: the line of an `xl` configuration, and its ends once it is there.

use std::time::Duration;

use anyhow::Context;

use super::dom0::Dom0;
use super::guest::Guest;

/// How long both ends of an interface may take to be ready.
const LIMIT: Duration = Duration::from_secs(60);

/// How an interface is wired up in dom0: which script does it, most of them the toolstack's own,
/// and what that is told.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Wiring {
    /// `vif-bridge`: a port of this Linux bridge.
    Bridge(&'static str),
    /// `vif-openvswitch`: a port of this switch.
    OpenVswitch(&'static str),
    /// `vif-route`: dom0 routes to `ip`, under its own address on the interface `gateway`.
    Route {
        /// The guest's address.
        ip: &'static str,
        /// The interface.
        gateway: &'static str,
    },
    /// `vif-nat`: dom0 is the guest's gateway.
    Nat {
        /// The guest's address.
        ip: &'static str,
    },
    /// A hotplug script of this project's.
    Own {
        /// Its name.
        script: &'static str,
        /// What it is told: more of the line.
        keys: &'static str,
    },
}

/// What a guest is given.
#[derive(Clone, Copy, Debug)]
pub struct Nic {
    /// Its Ethernet address, which tells it from all others.
    pub mac: &'static str,
    /// How dom0 reaches it.
    pub wiring: Wiring,
    /// Its MTU, if not that of its bridge.
    pub mtu: Option<u32>,
    /// Its name in dom0, if not `vifD.H`.
    pub name: Option<&'static str>,
}

/// An interface whose two ends are up: the guest's has its addresses, and frames pass.
#[derive(Clone, Debug)]
pub struct Link {
    /// Its name in the guest.
    pub inside: String,
    /// Its name in dom0.
    pub outside: String,
    /// Its directory in xenstore, in the backend's half.
    pub node: String,
}

impl Nic {
    /// A port of a bridge.
    #[must_use]
    pub fn on(mac: &'static str, wiring: Wiring) -> Self {
        Self {
            mac,
            wiring,
            mtu: None,
            name: None,
        }
    }

    /// Its specification for `xl`.
    #[must_use]
    pub fn line(&self) -> String {
        let mut line = format!("mac={},", self.mac);
        line += &match self.wiring {
            Wiring::Bridge(bridge) => format!("script=vif-bridge,bridge={bridge}"),
            Wiring::OpenVswitch(switch) => format!("script=vif-openvswitch,bridge={switch}"),
            Wiring::Route { ip, gateway } => {
                format!("script=vif-route,ip={ip},gatewaydev={gateway}")
            }
            Wiring::Nat { ip } => format!("script=vif-nat,ip={ip}"),
            Wiring::Own { script, keys } => format!("script={script},{keys}"),
        };
        if let Some(mtu) = self.mtu {
            line += &format!(",mtu={mtu}");
        }
        if let Some(name) = self.name {
            line += &format!(",vifname={name}");
        }
        line
    }

    /// Waits until both ends are there, gives the guest's end `addresses` and turns it on.
    ///
    /// # Errors
    ///
    /// dom0 or the guest has gone, or an end does not come up.
    pub fn raise(
        &self,
        dom0: &mut Dom0,
        guest: &Guest,
        addresses: &[&str],
    ) -> anyhow::Result<Link> {
        let inside = guest.sh(dom0, &self.inside(addresses), LIMIT)?;
        self.outside(dom0, guest, inside.trim())
    }

    /// A script for the guest that does its half, and prints the interface's name.
    pub(super) fn inside(&self, addresses: &[&str]) -> String {
        let mut script = format!(
            "mac={}\nmtu={}\n{INSIDE}",
            self.mac,
            self.mtu.unwrap_or(1500)
        );
        for address in addresses {
            let no_detection = if address.contains(':') { "nodad" } else { "" };
            script += &format!("ip address replace {address} dev $nic {no_detection} || exit\n");
        }
        script + "echo $nic\n"
    }

    /// Waits for dom0's half of the interface that is called `inside` in the guest.
    pub(super) fn outside(
        &self,
        dom0: &mut Dom0,
        guest: &Guest,
        inside: &str,
    ) -> anyhow::Result<Link> {
        let script = format!(
            "guest={}\nmac={}\nname={}\n{OUTSIDE}",
            guest.name(),
            self.mac,
            self.name.unwrap_or_default()
        );
        let printed = dom0.run(&script, LIMIT)?.success();
        let printed = printed.with_context(|| format!("dom0's end of {}", self.line()))?;
        let (outside, node) = printed
            .trim()
            .split_once(' ')
            .with_context(|| format!("dom0 printed {printed:?}, not an interface and its node"))?;
        Ok(Link {
            inside: inside.to_owned(),
            outside: outside.to_owned(),
            node: node.to_owned(),
        })
    }
}

/// Finds the guest's end by its Ethernet address.
const INSIDE: &str = r#"
for _ in $(seq 200); do
	nic=
	for dir in /sys/class/net/*; do
		[ "$(cat $dir/address)" = $mac ] && nic=${dir##*/}
	done
	[ -n "$nic" ] && break
	sleep 0.1
done
[ -n "$nic" ] || { echo "no interface $mac"; ip link; exit 1; }
ip link set $nic mtu $mtu up || exit
"#;

/// Finds dom0's end, and waits until frames pass: the frontend sends before the backend listens,
/// and a bridge learns of a carrier a moment after it came.
const OUTSIDE: &str = r#"
domid=$(xl domid $guest) || exit
handle=$(xl network-list $guest | awk -v mac=$mac '$3 == mac { print $1 }')
[ -n "$handle" ] || { echo "xl lists no interface $mac" >&2; exit 1; }
: ${name:=vif$domid.$handle}
node=/local/domain/0/backend/vif/$domid/$handle
link=/sys/class/net/$name
for _ in $(seq 300); do
	state=$(xenstore-read $node/state)
	carrier=$(cat $link/carrier 2> /dev/null)
	port=$(cat $link/brport/state 2> /dev/null)
	[ "$state $carrier ${port:-3}" = "4 1 3" ] && { echo "$name $node"; exit; }
	sleep 0.1
done
echo "$name: backend state $state, carrier $carrier, bridge port state $port" >&2
exit 1
"#;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_has_what_was_asked_for_and_nothing_else() {
        let plain = Nic::on("00:16:3e:00:00:01", Wiring::Bridge("xenbr0"));
        assert_eq!(
            plain.line(),
            "mac=00:16:3e:00:00:01,script=vif-bridge,bridge=xenbr0"
        );
        let full = Nic {
            mtu: Some(9000),
            name: Some("front"),
            wiring: Wiring::Route {
                ip: "10.1.1.1",
                gateway: "uplink",
            },
            ..plain
        };
        assert_eq!(
            full.line(),
            "mac=00:16:3e:00:00:01,script=vif-route,ip=10.1.1.1,gatewaydev=uplink,mtu=9000,\
             vifname=front"
        );
    }
}
