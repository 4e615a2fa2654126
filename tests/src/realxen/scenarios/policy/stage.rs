//! A bridge with a hostile guest, its neighbour, and a way out, and who sees what on it.
//!
//! ```text
//! attacker ─┬─ lanp ─┬─ neighbour
//!           │        └─ upp ── eth0 in namespace "outside"
//!           └─ lan0, on which it is told what to send, and nothing is kept from it
//! ```

use std::fs;
use std::time::Duration;

use anyhow::Context;

use crate::realxen::backend::{Backend, Devices};
use crate::realxen::capture;
use crate::realxen::dom0::Dom0;
use crate::realxen::guest::{Guest, Kind};
use crate::realxen::lan;
use crate::realxen::nic::{Link, Nic, Wiring};
use crate::spoof::Spoof;

/// The bridge that policies are tried on.
const BRIDGE: Wiring = Wiring::Bridge("lanp");
/// The attacker's own address on it.
const ATTACKER: &str = "00:16:3e:80:00:11";
/// The neighbour's.
const NEIGHBOUR: &str = "00:16:3e:80:00:12";
/// What belongs to the attacker, besides 10.80.0.11.
pub(super) const OWN_V6: &str = "fd80::11";
/// Where the attacker is told what to send.
const TOLD_AT: &str = "10.77.0.21";

/// Guests with many interfaces, and the addresses of these: as many as libxl gives a guest within its
/// ten seconds, on this slow machine as on others.
const MANY: [(&str, [&str; 4]); 3] = [
    (
        "many-1",
        [
            "00:16:3e:80:01:00",
            "00:16:3e:80:01:01",
            "00:16:3e:80:01:02",
            "00:16:3e:80:01:03",
        ],
    ),
    (
        "many-2",
        [
            "00:16:3e:80:01:10",
            "00:16:3e:80:01:11",
            "00:16:3e:80:01:12",
            "00:16:3e:80:01:13",
        ],
    ),
    (
        "many-3",
        [
            "00:16:3e:80:01:20",
            "00:16:3e:80:01:21",
            "00:16:3e:80:01:22",
            "00:16:3e:80:01:23",
        ],
    ),
];
/// What they begin with.
pub(super) const MANY_MACS: [u8; 5] = [0, 0x16, 0x3e, 0x80, 0x01];

const LIMIT: Duration = Duration::from_secs(60);

/// Everything is in place, and a policy governs the attacker.
pub(super) struct Stage {
    pub(super) attacker: Guest,
    pub(super) neighbour: Guest,
    /// The attacker's interface on the bridge.
    pub(super) link: Link,
    /// The neighbour's.
    pub(super) beside: Link,
}

impl Stage {
    /// Sets it up, with the daemon restarted for `config`, unless it is there.
    pub(super) fn set(dom0: &mut Dom0, config: &str) -> anyhow::Result<Self> {
        lan::raise(dom0)?;
        dom0.sh(RAISE)?;
        let told = Nic::on("00:16:3e:77:00:21", lan::BRIDGE);
        let on_bridge = Nic::on(ATTACKER, BRIDGE);
        let attacker = Guest::diskless("attacker", Kind::Pv, vec![told, on_bridge]);
        let told_too = Nic::on("00:16:3e:77:00:22", lan::BRIDGE);
        let beside = Nic::on(NEIGHBOUR, BRIDGE);
        let neighbour = Guest::diskless("neighbour", Kind::Pv, vec![told_too, beside]);
        if !attacker.exists(dom0)? {
            configure(dom0, config)?;
            attacker.create(dom0)?;
            neighbour.create(dom0)?;
        }
        told.raise(dom0, &attacker, &[&format!("{TOLD_AT}/24")])?;
        told_too.raise(dom0, &neighbour, &["10.77.0.22/24"])?;
        let link = on_bridge.raise(dom0, &attacker, &[])?;
        let beside = beside.raise(dom0, &neighbour, &[])?;
        let stage = Self {
            attacker,
            neighbour,
            link,
            beside,
        };
        // What the guests' own kernels would say by themselves.
        for (guest, nic) in [
            (&stage.attacker, &stage.link.inside),
            (&stage.neighbour, &stage.beside.inside),
        ] {
            let quiet = format!("echo 1 > /proc/sys/net/ipv6/conf/{nic}/disable_ipv6");
            guest.sh(dom0, &quiet, LIMIT)?;
        }
        Ok(stage)
    }

    /// Puts `frames` where [`send`](Self::send) and [`send_as_worker`](Self::send_as_worker) find
    /// them.
    pub(super) fn arm(&self, dom0: &mut Dom0, frames: &[Spoof]) -> anyhow::Result<()> {
        let file = dom0.logs().join("frames");
        // A guest's socat ends at what is no frame, or too long.
        let frames = frames.iter().map(|spoof| spoof.frame.as_slice());
        let frames = frames.filter(|frame| (14..=1514).contains(&frame.len()));
        fs::write(&file, capture::pack(frames)?).with_context(|| file.display().to_string())?;
        dom0.sh("cp /share/logs/frames /run/frames").map(drop)
    }

    /// Has the attacker send everything.
    pub(super) fn send(&self, dom0: &mut Dom0) -> anyhow::Result<()> {
        let listen = format!(
            "grep -q ':2328 ' /proc/self/net/udp && exit\n\
             setsid socat -u UDP4-RECV:9000 INTERFACE:{} < /dev/null > /run/socat.log 2>&1 &\n\
             for _ in $(seq 100); do grep -q ':2328 ' /proc/self/net/udp && exit; sleep 0.1; done\n\
             cat /run/socat.log; exit 1",
            self.link.inside
        );
        self.attacker.sh(dom0, &listen, LIMIT)?;
        let program = program(dom0)?;
        dom0.sh(&format!(
            "{program} guest /run/frames {TOLD_AT}:9000 --gap 10000"
        ))
        .map(drop)
    }

    /// Has a worker in bad hands send everything, past its own checks.
    pub(super) fn send_as_worker(&self, dom0: &mut Dom0) -> anyhow::Result<()> {
        let program = program(dom0)?;
        dom0.sh(&format!("{program} tap /run/frames {}", self.link.outside))
            .map(drop)
    }

    /// What dom0 and the attacker can tell of its interface.
    pub(super) fn told(&self, dom0: &mut Dom0) -> anyhow::Result<String> {
        let outside = &self.link.outside;
        let here = dom0.sh(&format!(
            "exec 2>&1; xen-netback policy show {outside} || true; ip -s link show {outside}; \
             bridge -d link show dev {outside}; bridge fdb show dev {outside}"
        ))?;
        let inside = format!("cat /run/socat.log; ip -s link show {}", self.link.inside);
        Ok(here + &self.attacker.sh(dom0, &inside, LIMIT)?)
    }

    /// Begins to note what the neighbour and those outside see.
    pub(super) fn watch(&self, dom0: &mut Dom0) -> anyhow::Result<()> {
        dom0.sh(&format!(
            "ip netns exec outside bash <<'END'\n{}\nEND",
            watch("eth0")
        ))?;
        let script = watch(&self.beside.inside);
        self.neighbour.sh(dom0, &script, LIMIT).map(drop)
    }

    /// What they have seen: the neighbour, and those outside.
    pub(super) fn seen(&self, dom0: &mut Dom0) -> anyhow::Result<[Vec<Vec<u8>>; 2]> {
        dom0.sh(UNWATCH)?;
        self.neighbour.sh(dom0, UNWATCH, LIMIT)?;
        dom0.sh(
            "cp /run/seen.pcap /share/logs/outside.pcap\n\
             rm -f /share/logs/neighbour.pcap\n\
             setsid socat -u TCP4-LISTEN:9001 CREATE:/run/neighbour.pcap > /dev/null 2>&1 < /dev/null &\n\
             for _ in $(seq 100); do grep -q ':2329 ' /proc/net/tcp && exit; sleep 0.1; done; exit 1",
        )?;
        let send = "socat -u OPEN:/run/seen.pcap TCP4:10.77.0.1:9001";
        self.neighbour.sh(dom0, send, LIMIT)?;
        dom0.sh(
            "while pgrep -f TCP4-LISTEN:9001 > /dev/null; do sleep 0.1; done\n\
             cp /run/neighbour.pcap /share/logs/neighbour.pcap",
        )?;
        let read = |name: &str| {
            let bytes = fs::read(dom0.logs().join(name)).with_context(|| name.to_owned())?;
            capture::of_tcpdump(&bytes).with_context(|| name.to_owned())
        };
        Ok([read("neighbour.pcap")?, read("outside.pcap")?])
    }

    /// Gives both guests their addresses on the bridge, which say nothing by themselves without.
    pub(super) fn address(&self, dom0: &mut Dom0) -> anyhow::Result<()> {
        for (guest, nic, address) in self.addressed() {
            let script = format!("ip address replace {address}/24 dev {nic}");
            guest.sh(dom0, &script, LIMIT)?;
        }
        Ok(())
    }

    /// Takes them away.
    pub(super) fn no_address(&self, dom0: &mut Dom0) -> anyhow::Result<()> {
        for (guest, nic, address) in self.addressed() {
            let script = format!("ip address del {address}/24 dev {nic}");
            guest.sh(dom0, &script, LIMIT)?;
        }
        Ok(())
    }

    fn addressed(&self) -> [(&Guest, &str, &'static str); 2] {
        [
            (&self.attacker, &self.link.inside, "10.80.0.11"),
            (&self.neighbour, &self.beside.inside, "10.80.0.12"),
        ]
    }

    /// Ends both guests, and takes the policy away.
    pub(super) fn strike(self, dom0: &mut Dom0) -> anyhow::Result<()> {
        self.attacker.destroy(dom0)?;
        self.neighbour.destroy(dom0)?;
        Backend::Daemon.stop(dom0, Devices::Nics)?;
        dom0.sh("rm /etc/xen-backends/netback.toml")?;
        Backend::Daemon.start(dom0, Devices::Nics)
    }
}

/// Has each frontend of guests with many interfaces connect `rounds` times, and send spoofed frames at
/// once each time; how often all have connected. A single one would be made to wait: a minute each
/// time, in the end.
pub(super) fn reconnect(dom0: &mut Dom0, rounds: usize) -> anyhow::Result<usize> {
    let guests = MANY.map(|(name, macs)| {
        let nics = macs.map(|mac| Nic::on(mac, BRIDGE));
        Guest::diskless(name, Kind::Pv, nics.to_vec())
    });
    for guest in &guests {
        guest.create(dom0)?;
    }
    let script = format!("times={rounds}\n{RECONNECT}");
    let limit = Duration::from_secs(400);
    let mut jobs = Vec::new();
    for guest in &guests {
        jobs.push(guest.start(dom0, &script, limit)?);
    }
    for (guest, job) in guests.iter().zip(jobs) {
        let ended = dom0.finish(job)?.success();
        ended.with_context(|| guest.name())?;
    }
    for guest in &guests {
        guest.destroy(dom0)?;
    }
    let nics: usize = MANY.iter().map(|(_, macs)| macs.len()).sum();
    Ok(nics * rounds)
}

/// Restarts the daemon with another configuration.
fn configure(dom0: &mut Dom0, config: &str) -> anyhow::Result<()> {
    Backend::Daemon.stop(dom0, Devices::Nics)?;
    write_config(dom0, config)?;
    Backend::Daemon.start(dom0, Devices::Nics)
}

/// Changes the configuration file.
pub(super) fn write_config(dom0: &mut Dom0, config: &str) -> anyhow::Result<()> {
    dom0.sh(&format!(
        "mkdir -p /etc/xen-backends\ncat > /etc/xen-backends/netback.toml <<'END'\n{config}\nEND"
    ))
    .map(drop)
}

fn program(dom0: &Dom0) -> anyhow::Result<String> {
    let program = dom0.program("pv-frames");
    program.context("no pv-frames beside the daemon; build it: cargo build -p pv-tests")
}

/// A script that notes all frames that come in at `nic`, from now on.
fn watch(nic: &str) -> String {
    format!(
        "rm -f /run/seen.pcap\n\
         setsid tcpdump -Z root -i {nic} -Q in -s 0 -U -w /run/seen.pcap < /dev/null > /run/tcpdump.log 2>&1 &\n\
         echo $! > /run/tcpdump.pid\n\
         for _ in $(seq 100); do grep -q 'listening on' /run/tcpdump.log && exit; sleep 0.1; done\n\
         cat /run/tcpdump.log; exit 1"
    )
}

/// Ends it, when what is under way has come.
const UNWATCH: &str = "sleep 2; kill $(cat /run/tcpdump.pid)
for _ in $(seq 100); do grep -q 'packets captured' /run/tcpdump.log && exit; sleep 0.1; done
cat /run/tcpdump.log; exit 1";

/// Each round, spoofed frames go out as long as there is no carrier, and when it has come; then one
/// that may pass. The spoofed one is an answer to ARP in the neighbour's name.
const RECONNECT: &str = r#"
arp() { printf '\377\377\377\377\377\377\0\026\076\200'$1'\010\006\0\001\010\0\006\004\0\002\0\026\076\200'$1'\012\120\0\0'$2'\0\0\0\0\0\0\012\120\0\001'; }
arp '\0\022' 14 > /run/spoofed
rounds() {
	device=$1
	driver=$(readlink -f /sys/bus/xen/devices/$device/driver)
	mac=$(cat /sys/bus/xen/devices/$device/net/*/address)
	arp '\001\'$(printf %03o 0x${mac##*:}) 24 > /run/honest.$device
	for round in $(seq $times); do
		echo $device > $driver/unbind && echo $device > $driver/bind || return
		for _ in $(seq 200); do [ -e /sys/bus/xen/devices/$device/net ] && break; sleep 0.05; done
		nic=$(ls /sys/bus/xen/devices/$device/net) || return
		echo 1 > /proc/sys/net/ipv6/conf/$nic/disable_ipv6
		ip link set $nic up || return
		say() { socat -u OPEN:/run/$1 INTERFACE:$nic 2> /dev/null; }
		for _ in $(seq 200); do
			say spoofed
			[ "$(cat /sys/class/net/$nic/carrier)" = 1 ] && break
			sleep 0.5
		done
		# The bridge takes up to a second to learn of the carrier.
		for _ in 1 2 3 4; do
			say spoofed && say honest.$device || { echo "$nic: round $round: it cannot send"; return 1; }
			sleep 0.5
		done
	done
}
for device in $(cd /sys/bus/xen/devices; ls -d vif-*); do
	{ rounds $device || touch /run/failed; } &
done
wait
[ ! -e /run/failed ]
"#;

const RAISE: &str = r#"
[ -e /sys/class/net/lanp ] && exit
set -e
ip link add lanp type bridge stp_state 0 forward_delay 0 mcast_snooping 0
echo 1 > /proc/sys/net/ipv6/conf/lanp/disable_ipv6
ip link set lanp up
ip netns add outside
ip link add upp type veth peer name eth0 netns outside
echo 1 > /proc/sys/net/ipv6/conf/upp/disable_ipv6
ip netns exec outside sh -c 'echo 1 > /proc/sys/net/ipv6/conf/eth0/disable_ipv6'
ip link set upp master lanp up
ip -n outside link set eth0 promisc on up
"#;
