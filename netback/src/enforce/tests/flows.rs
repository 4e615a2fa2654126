//! Rules that follow flows, between the guest and another, routed and bridged.

use std::fs;
use std::path::Path;

use super::frames::*;
use super::kernel::{bridged, received};
use super::live::{ip, nft, send};
use super::*;
use crate::enforce::listing::Listing;
use crate::enforce::nft::list;
use crate::enforce::shared;
use crate::enforce::table::Family;
use crate::tap::tests::in_own_network;
use crate::tap::{Tap, TapQueue};

/// The guest, another, and the Ethernet addresses that they send to.
struct Between<'a> {
    guest: (&'a TapQueue, [u8; 6]),
    other: (&'a TapQueue, [u8; 6]),
}

impl Between<'_> {
    /// Does it arrive that the guest sends from one of its ports to one of the other's?
    fn out(&self, from: u16, to: u16) -> bool {
        let payload = format!("out {from} {to} of a flow");
        let udp = ip4(OWN4, PEER4, 17, &ports(from, to, payload.as_bytes()));
        send(self.guest.0, &ethernet(self.guest.1, MAC.0, IP4, &udp));
        arrives(self.other.0, &payload)
    }

    /// And the other way round?
    fn inward(&self, from: u16, to: u16) -> bool {
        let payload = format!("in {from} {to} of a flow");
        let udp = ip4(PEER4, OWN4, 17, &ports(from, to, payload.as_bytes()));
        send(self.other.0, &ethernet(self.other.1, OTHER.0, IP4, &udp));
        arrives(self.guest.0, &payload)
    }
}

fn arrives(queue: &TapQueue, payload: &str) -> bool {
    let mut frames = received(queue).into_iter();
    frames.any(|frame| frame.ends_with(payload.as_bytes()))
}

fn policy() -> VifPolicy {
    let mut policy = VifPolicy::open(MAC);
    policy.mac_guard = true;
    policy.default_out = Action::Drop;
    policy.default_in = Action::Drop;
    let mut web = rule(Direction::In, Protocol::Udp, &[], &[(80, 80)]);
    let mut dns = rule(
        Direction::Out,
        Protocol::Udp,
        &["198.51.100.0/24"],
        &[(53, 53)],
    );
    web.stateful = true;
    dns.stateful = true;
    let plain = rule(Direction::Out, Protocol::Udp, &[], &[(9, 9)]);
    policy.rules = vec![web, dns, plain];
    policy
}

/// How rules get into the kernel, or out of it.
type Install = fn(Option<&VifPolicy>);

fn follows_flows(between: &Between<'_>, install: Install) {
    let policy = policy();
    install(Some(&policy));
    assert!(
        !between.inward(2000, 81) && !between.out(1000, 54),
        "no rule"
    );
    assert!(!between.out(80, 2000), "nobody has asked");
    assert!(between.inward(2000, 80), "a rule opens a flow");
    assert!(between.out(80, 2000), "its answer");
    assert!(between.inward(2000, 80), "more of it");
    assert!(!between.out(80, 2001), "that is not of it");
    assert!(between.out(1000, 53) && between.inward(53, 1000) && between.out(1000, 53));
    assert!(!between.inward(53, 1001));
    assert!(between.out(1000, 9), "a rule that is about packets");
    assert!(!between.inward(9, 1000), "lets no answer in");
    let counters = Kernel.counters(&name()).unwrap();
    assert!(
        counters.rules[&0].packets >= 1 && counters.rules[&2].packets == 1,
        "{counters:?}"
    );
    assert!(counters.out["flow"].packets >= 1 && counters.into["flow"].packets >= 1);

    // The same rules in another policy: flows go on, as soon as whoever began them speaks.
    let mut other = policy.clone();
    other.flows = 3;
    install(Some(&other));
    assert!(!between.out(80, 2000), "the flow has not been judged yet");
    assert!(between.inward(2000, 80) && between.out(80, 2000));
    assert!(between.out(1000, 53) && between.inward(53, 1000));
    // Flows that there were are not counted, but those that are opened now.
    assert!((2001..=2003).all(|port| between.inward(port, 80)));
    assert!(between.inward(2001, 80), "it has been counted already");
    assert!(!between.inward(2004, 80), "too many flows");
    assert!(between.inward(2000, 80) && between.out(80, 2000));
    let counters = Kernel.counters(&name()).unwrap();
    assert_eq!(counters.out["flows"].packets, 1, "{counters:?}");

    // A policy that does not allow the one flow any more.
    other.rules.remove(0);
    other.flows = 100;
    install(Some(&other));
    assert!(!between.inward(2000, 80) && !between.out(80, 2000));
    assert!(between.out(1000, 53) && between.inward(53, 1000));
    install(None);
    assert!(between.inward(2000, 81), "nothing is left");
}

#[test]
fn net_22_flows_of_a_routed_interface() {
    in_own_network(|| {
        let taps =
            [("vif7.0", "192.0.2.1/24"), ("peer0", "198.51.100.254/24")].map(|(name, address)| {
                let tap = Tap::create(&TapName::parse(name).unwrap(), 1500, 500).unwrap();
                let queue = TapQueue::adopt(tap.queue().unwrap());
                tap.set_carrier(true).unwrap();
                ip(&format!("link set {name} up"));
                ip(&format!("addr add {address} dev {name}"));
                (tap, queue)
            });
        ip("neigh replace 192.0.2.7 lladdr 00:16:3e:00:00:01 dev vif7.0");
        ip("neigh replace 198.51.100.1 lladdr 00:16:3e:00:00:02 dev peer0");
        fs::write("/proc/sys/net/ipv4/ip_forward", "1").unwrap();
        let host = [0xfe, 0xff, 0xff, 0xff, 0xff, 0xff];
        let [(_, ref guest), (_, ref other)] = taps;
        let between = Between {
            guest: (guest, host),
            other: (other, host),
        };
        assert!(
            between.inward(2000, 81) && between.out(1000, 54),
            "it routes"
        );
        let install = if bridges_have_conntrack() {
            everywhere
        } else {
            where_it_routes
        };
        follows_flows(&between, install);
        for (tap, _) in taps {
            tap.remove().unwrap();
        }
    });
}

#[test]
fn net_22_flows_of_a_bridged_interface() {
    bridged(|guest, other| {
        let between = Between {
            guest: (guest, OTHER.0),
            other: (other, MAC.0),
        };
        assert!(
            between.inward(2000, 81) && between.out(1000, 54),
            "it forwards"
        );
        if !bridges_have_conntrack() {
            return is_told_what_lacks();
        }
        follows_flows(&between, everywhere);
    });
}

fn everywhere(policy: Option<&VifPolicy>) {
    match policy {
        Some(policy) => {
            Kernel.install(&name(), policy).unwrap();
            assert!(Kernel.has(&name(), policy).unwrap());
        }
        None => {
            Kernel.remove(&name()).unwrap();
            assert_eq!(nft(&["list", "ruleset"], "").1, "");
        }
    }
}

/// For kernels that have conntrack, but not for bridges.
fn where_it_routes(policy: Option<&VifPolicy>) {
    let objects = list(Path::new("/usr/sbin/nft"), &["ruleset"]).unwrap();
    let there = Listing::parse(&objects);
    let there = Some(&there).filter(|there| !there.chains.is_empty());
    let around = Surroundings::default();
    let script = shared::script(Family::Inet, &name(), policy, there, &around);
    let (fine, said) = nft(&["-f", "-"], &script);
    assert!(fine, "{said}");
}

fn bridges_have_conntrack() -> bool {
    let text = "table bridge t {\nchain c {\nct state new meta ibrname \"b\" accept\n}\n}\n";
    nft(&["-c", "-f", "-"], text).0
}

/// On a kernel without: nothing is half done.
fn is_told_what_lacks() {
    let error = Kernel.install(&name(), &policy()).unwrap_err().to_string();
    assert!(error.contains("does this kernel lack a feature"), "{error}");
    assert_eq!(Kernel.installed().unwrap(), []);
}
