//! Installing, replacing, removing, comparing.

use std::os::fd::AsFd as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::super::program::RUNS;
use super::frames::*;
use super::live::{behind, ip, nft, send, verdict};
use super::*;
use crate::tap::tests::in_own_network;
use crate::tap::{Tap, TapQueue};

fn ruleset() -> String {
    nft(&["list", "ruleset"], "").1
}

#[test]
fn what_is_installed_is_known_and_leaves_no_trace() {
    in_own_network(|| {
        let tap = Tap::create(&name(), 1500, 500).unwrap();
        let kernel = Kernel;
        assert_eq!(kernel.installed().unwrap(), []);
        let mut policy = locked();
        assert!(!kernel.has(&name(), &policy).unwrap());
        kernel.install(&name(), &policy).unwrap();
        assert_eq!(kernel.installed().unwrap(), [name()]);
        assert!(kernel.has(&name(), &policy).unwrap());
        policy.dhcp = Dhcp::Off;
        assert!(!kernel.has(&name(), &policy).unwrap());
        kernel.install(&name(), &policy).unwrap();
        assert!(kernel.has(&name(), &policy).unwrap());
        // What somebody else has done shows.
        assert!(nft(&["flush", "chain", "netdev", "xb-vif7.0", "ingress"], "").0);
        assert!(nft(&["delete", "chain", "netdev", "xb-vif7.0", "ingress"], "").0);
        assert!(!kernel.has(&name(), &policy).unwrap());
        let open = VifPolicy::open(MAC);
        kernel.install(&name(), &open).unwrap();
        assert_eq!(ruleset(), "");
        assert!(kernel.has(&name(), &open).unwrap() && kernel.installed().unwrap().is_empty());
        policy.host = Some(Vec::new());
        kernel.install(&name(), &policy).unwrap();
        assert!(kernel.has(&name(), &policy).unwrap());
        tap.remove().unwrap();
        kernel.remove(&name()).unwrap();
        kernel.remove(&name()).unwrap();
        assert_eq!(ruleset(), "");
    });
}

/// A toolstack waits ten seconds for an interface, and each run of nft may take half a second.
#[test]
fn nft_runs_as_few_times_as_it_can() {
    in_own_network(|| {
        let tap = Tap::create(&name(), 1500, 500).unwrap();
        let runs = |what: &dyn Fn()| {
            let before = RUNS.get();
            what();
            RUNS.get() - before
        };
        let mut policy = locked();
        assert_eq!(runs(&|| Kernel.install_first(&name(), &policy).unwrap()), 1);
        assert_eq!(
            runs(&|| assert!(!Kernel.keep(&name(), &policy).unwrap())),
            2
        );
        policy.dhcp = Dhcp::Off;
        assert_eq!(runs(&|| assert!(Kernel.keep(&name(), &policy).unwrap())), 3);
        policy.host = Some(Vec::new());
        let first = || Kernel.install_first(&name(), &policy).unwrap();
        assert_eq!(runs(&first), 3);
        assert_eq!(
            runs(&|| assert!(!Kernel.keep(&name(), &policy).unwrap())),
            4
        );
        tap.remove().unwrap();
        Kernel.remove(&name()).unwrap();
    });
}

#[test]
fn rules_of_other_programs_and_other_interfaces_stay() {
    in_own_network(|| {
        let other = TapName::parse("vif7.0-emu").unwrap();
        let taps = [name(), other.clone()].map(|name| Tap::create(&name, 1500, 500).unwrap());
        assert!(nft(&["-f", "-"], "table inet mine {\nchain c {\n}\n}\n").0);
        let mut policy = locked();
        policy.host = Some(vec![crate::policy::HostService::Ping]);
        for name in [name(), other.clone()] {
            Kernel.install(&name, &policy).unwrap();
        }
        let both = ruleset();
        Kernel.install(&name(), &policy).unwrap();
        assert!(Kernel.has(&other, &policy).unwrap());
        assert_eq!(both.len(), ruleset().len());
        Kernel.remove(&name()).unwrap();
        assert!(Kernel.has(&other, &policy).unwrap());
        assert_eq!(Kernel.installed().unwrap(), std::slice::from_ref(&other));
        assert!(!ruleset().contains("xb-vif7.0/") && !ruleset().contains("xb-vif7.0 "));
        Kernel.remove(&other).unwrap();
        assert_eq!(ruleset(), "table inet mine {\n\tchain c {\n\t}\n}\n");
        for tap in taps {
            tap.remove().unwrap();
        }
    });
}

#[test]
fn what_nft_refuses_is_told_with_the_line_and_nothing_was_done() {
    in_own_network(|| {
        let tap = Tap::create(&name(), 1500, 500).unwrap();
        let foreign = "table bridge xen_backends {\nset host {\ntype ether_addr;\n}\n}\n";
        assert!(nft(&["-f", "-"], foreign).0);
        let before = ruleset();
        let mut policy = locked();
        policy.host = Some(Vec::new());
        let error = Kernel.install(&name(), &policy).unwrap_err().to_string();
        assert!(error.contains("rules of vif7.0"), "{error}");
        assert!(error.contains("of the line `"), "{error}");
        assert_eq!(ruleset(), before);
        tap.remove().unwrap();
    });
}

#[test]
fn the_first_rule_that_matches_decides_and_is_counted() {
    let mut policy = VifPolicy::open(MAC);
    let tcp_to = |remote: &str, port| rule(Direction::Out, Protocol::Tcp, &[remote], &[port]);
    policy.rules = vec![
        tcp_to("10.0.0.1", (80, 80)),
        tcp_to("10.0.0.2", (80, 90)),
        rule(Direction::Out, Protocol::Tcp, &["10.0.0.0/24"], &[]),
        tcp_to("10.0.0.3", (443, 443)),
        tcp_to("2001:db8:1::/48", (25, 25)),
        rule(Direction::Out, Protocol::Icmp6, &[], &[]),
        rule(Direction::Out, Protocol::Any, &[], &[(7, 7)]),
    ];
    policy.rules[2].action = Action::Drop;
    policy.rules[6].limit = Some(3);
    policy.default_out = Action::Drop;
    behind(policy, |queue| {
        let to = |last, port| own4([10, 0, 0, last], 6, &tcp(1000, port));
        for (wanted, frame) in [
            ("r0", to(1, 80)),
            ("r1", to(2, 80)),
            ("r1", to(2, 90)),
            ("r2", to(2, 91)),
            ("r2", to(1, 81)),
            ("r2", to(3, 443)),
            ("r4", own6(6, &tcp(1000, 25))),
            ("default", own6(6, &tcp(1000, 26))),
            ("r5", own6(58, &[128, 0, 0, 0])),
            ("pass", own6(58, &nd(135, OWN6, &[]))),
            ("pass", ether(ARP, &arp(1, MAC.0, OWN4))),
            ("pass", ether(0x88b5, &[0; 46])),
            ("default", own4([10, 0, 1, 1], 6, &tcp(1000, 80))),
            // TCP and UDP have ports.
            ("r6", own4(PEER4, 17, &ports(9, 7, &[]))),
            ("r6", own4(PEER4, 6, &tcp(9, 7))),
            ("default", own4(PEER4, 33, &ports(9, 7, &[]))),
        ] {
            assert_eq!(verdict(queue, &frame), wanted, "{frame:02x?}");
        }
        for _ in 0..50 {
            send(queue, &own4(PEER4, 17, &ports(9, 7, &[])));
        }
        let counters = Kernel.counters(&name()).unwrap();
        assert!(counters.rules[&6].packets < 50, "{counters:?}");
        assert!(counters.out["default"].packets > 3, "{counters:?}");
    });
}

#[test]
fn net_19_a_trunk_and_what_is_behind_one_tag() {
    let udp = ports(1000, 2000, &[0; 8]);
    let plain = own4(PEER4, 17, &udp);
    let spoofed = ether(IP4, &ip4(PEER4, OWN4, 17, &udp));
    let mut policy = locked();
    policy.vlan = Vlan::Trunk {
        tags: vec![5, 6],
        native: None,
    };
    let with = plain.clone();
    behind(policy.clone(), move |queue| {
        for (wanted, frame) in [
            ("default", tagged(&with, 0x8100, 5)),
            ("default", tagged(&with, 0x8100, 0xe006)),
            ("vlan", tagged(&with, 0x8100, 7)),
            ("vlan", tagged(&with, 0x8100, 0)),
            ("vlan", tagged(&with, 0x88a8, 5)),
            ("vlan", with.clone()),
            ("ip", tagged(&spoofed, 0x8100, 5)),
            ("l2", tagged(&tagged(&with, 0x8100, 5), 0x8100, 6)),
            ("arp", tagged(&ether(ARP, &arp(1, MAC.0, PEER4)), 0x8100, 5)),
            ("ra", tagged(&own6(58, &[134; 16]), 0x8100, 5)),
        ] {
            assert_eq!(verdict(queue, &frame), wanted, "{frame:02x?}");
        }
    });
    policy.ip_only = false;
    policy.vlan = Vlan::Trunk {
        tags: vec![5],
        native: Some(1),
    };
    behind(policy, move |queue| {
        for (wanted, frame) in [
            ("default", plain.clone()),
            ("vlan", tagged(&tagged(&plain, 0x8100, 5), 0x8100, 6)),
            ("default", ether(0x88b5, &[0; 46])),
        ] {
            assert_eq!(verdict(queue, &frame), wanted, "{frame:02x?}");
        }
    });
}

/// The guest's tap and another's on one bridge: what comes out there has passed all of it.
pub(super) fn bridged(test: impl FnOnce(&TapQueue, &TapQueue) + Send + 'static) {
    in_own_network(move || {
        let peer = TapName::parse("peer0").unwrap();
        let taps = [name(), peer].map(|name| {
            let tap = Tap::create(&name, 1500, 5000).unwrap();
            let queue = TapQueue::adopt(tap.queue().unwrap());
            (tap, queue)
        });
        ip("link add br0 type bridge");
        for ((tap, _), port) in taps.iter().zip(["vif7.0", "peer0"]) {
            tap.set_carrier(true).unwrap();
            ip(&format!("link set {port} master br0"));
            ip(&format!("link set {port} up"));
        }
        ip("link set br0 up");
        let [(_, ref vif), (_, ref peer)] = taps;
        wait_for_the_bridge(vif, peer);
        test(vif, peer);
        for (tap, _) in taps {
            tap.remove().unwrap();
        }
    });
}

/// It forwards as soon as it has heard that its ports have carrier, which is told a little later.
fn wait_for_the_bridge(vif: &TapQueue, peer: &TapQueue) {
    let frame = ethernet([0xff; 6], OTHER.0, 0x88b5, &[0; 46]);
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        send(peer, &frame);
        if received(vif).contains(&frame) {
            return;
        }
        assert!(Instant::now() < deadline, "the bridge does not forward");
        std::thread::yield_now();
    }
}

/// The frames that wait.
pub(super) fn received(queue: &TapQueue) -> Vec<Vec<u8>> {
    let mut frames = Vec::new();
    let mut bytes = [0; 2048];
    while queue.has_frames() {
        let len = rustix::io::read(queue, &mut bytes).unwrap();
        frames.push(bytes[12..len].to_vec());
    }
    frames
}

#[test]
fn rules_for_what_the_guest_receives() {
    bridged(|vif, peer| {
        let mut policy = VifPolicy::open(MAC);
        let mut dns = rule(Direction::In, Protocol::Udp, &["198.51.100.0/24"], &[]);
        dns.source_ports = vec![PortRange {
            first: 53,
            last: 53,
        }];
        policy.rules = vec![dns];
        policy.default_in = Action::Drop;
        policy.dhcp_servers = vec!["198.51.100.1".parse().unwrap()];
        policy.dhcp = Dhcp::Client;
        Kernel.install(&name(), &policy).unwrap();
        let to_guest = |from: [u8; 4], from_port| {
            let udp = ports(from_port, 68, &[7; 8]);
            ethernet(MAC.0, OTHER.0, IP4, &ip4(from, OWN4, 17, &udp))
        };
        for (from, port, passes) in [
            (PEER4, 53, true),
            (PEER4, 54, false),
            ([192, 0, 2, 1], 53, false),
            (PEER4, 67, true),
            ([198, 51, 100, 2], 67, false),
        ] {
            let frame = to_guest(from, port);
            send(peer, &frame);
            assert_eq!(received(vif).contains(&frame), passes, "{from:?} {port}");
            let tag = tagged(&frame, 0x8100, 5);
            send(peer, &tag);
            let seen = received(vif).contains(&tag);
            assert_eq!(seen, passes, "behind a tag: {from:?} {port}");
        }
        let arp = ethernet([0xff; 6], OTHER.0, ARP, &arp(1, OTHER.0, PEER4));
        send(peer, &arp);
        assert!(received(vif).contains(&arp));
        let counters = Kernel.counters(&name()).unwrap();
        assert_eq!(counters.rules[&0].packets, 2, "{counters:?}");
        assert_eq!(counters.into["dhcp"].packets, 2, "{counters:?}");
        // The bridge itself may have spoken.
        assert!(counters.into["default"].packets >= 4, "{counters:?}");
    });
}

#[test]
fn net_24_no_spoofed_frame_passes_while_rules_are_replaced() {
    bridged(|vif, peer| {
        let mut policies = [locked(), locked()];
        policies[1].rules = merge::many();
        policies[1].rules.truncate(40);
        Kernel.install(&name(), &policies[0]).unwrap();
        let udp = ports(1000, 2000, &[0; 8]);
        let honest = own4(PEER4, 17, &udp);
        let spoofed = [
            ethernet(OTHER.0, OTHER.0, IP4, &honest[14..]),
            ether(IP4, &ip4(PEER4, OWN4, 17, &udp)),
            tagged(&honest, 0x8100, 5),
        ];
        send(vif, &honest);
        assert!(received(peer).contains(&honest));
        let done = Arc::new(AtomicBool::new(false));
        let sender = {
            let (done, spoofed) = (Arc::clone(&done), spoofed.clone());
            let queue = TapQueue::adopt(vif.as_fd().try_clone_to_owned().unwrap());
            std::thread::spawn(move || {
                let mut sent = 0_u64;
                while !done.load(Ordering::Relaxed) {
                    for frame in &spoofed {
                        send(&queue, frame);
                        sent += 1;
                    }
                }
                sent
            })
        };
        let mut leaked = 0;
        for at in 0..1000 {
            Kernel.install(&name(), &policies[at % 2]).unwrap();
            let frames = received(peer);
            leaked += frames
                .iter()
                .filter(|frame| spoofed.contains(frame))
                .count();
        }
        done.store(true, Ordering::Relaxed);
        let sent = sender.join().unwrap();
        leaked += received(peer)
            .iter()
            .filter(|frame| spoofed.contains(frame))
            .count();
        assert!(sent > 1000, "{sent}");
        assert_eq!(leaked, 0, "of {sent}");
        send(vif, &honest);
        assert!(received(peer).contains(&honest));
    });
}
