//! Frames through the kernel of this machine.

use std::process::{Command, Stdio};

use super::frames::*;
use super::*;
use crate::tap::tests::in_own_network;
use crate::tap::{Tap, TapQueue};

/// What became of a frame: the name under which it was counted.
pub(super) fn verdict(queue: &TapQueue, frame: &[u8]) -> String {
    let kernel = Kernel;
    let before = kernel.counters(&name()).unwrap();
    send(queue, frame);
    let after = kernel.counters(&name()).unwrap();
    let mut found: Vec<String> = Vec::new();
    for (reason, count) in &after.out {
        let known = before.out.get(reason).map_or(0, |count| count.packets);
        found.extend((count.packets > known).then(|| reason.clone()));
    }
    for (rule, count) in &after.rules {
        let known = before.rules.get(rule).map_or(0, |count| count.packets);
        found.extend((count.packets > known).then(|| format!("r{rule}")));
    }
    found.join("+")
}

pub(super) fn send(queue: &TapQueue, frame: &[u8]) {
    let bytes = [&[0; 12][..], frame].concat();
    rustix::io::write(queue, &bytes).unwrap();
}

/// A tap that is up, with rules.
pub(super) fn behind(policy: VifPolicy, test: impl FnOnce(&TapQueue) + Send + 'static) {
    in_own_network(move || {
        let tap = Tap::create(&name(), 1500, 500).unwrap();
        let queue = TapQueue::adopt(tap.queue().unwrap());
        Kernel.install(&name(), &policy).unwrap();
        tap.set_carrier(true).unwrap();
        ip("link set vif7.0 up");
        test(&queue);
        tap.remove().unwrap();
    });
}

pub(super) fn ip(arguments: &str) {
    let status = Command::new("ip")
        .args(arguments.split_whitespace())
        .status();
    assert!(status.unwrap().success(), "ip {arguments}");
}

pub(super) fn nft(arguments: &[&str], input: &str) -> (bool, String) {
    let mut child = Command::new("nft")
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    std::io::Write::write_all(&mut stdin, input.as_bytes()).unwrap();
    drop(stdin);
    let output = child.wait_with_output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8(said).unwrap())
}

/// A host with two bridges.
fn around() -> Surroundings {
    Surroundings {
        bridges: vec![
            (TapName::parse("xenbr0").unwrap(), 3),
            (TapName::parse("-1").unwrap(), 4),
        ],
        macs: vec![OTHER],
    }
}

fn expect(queue: &TapQueue, wanted: &[(&str, Vec<u8>)]) {
    for (at, (reason, frame)) in wanted.iter().enumerate() {
        let got = verdict(queue, frame);
        assert_eq!(got, *reason, "frame {at}: {frame:02x?}");
    }
}

#[test]
fn net_25_every_shape_is_understood_whatever_the_name() {
    for hostile in ["vif7.0", "-", "a.b", "table", "1", "..a", "_", "vif7.0-emu"] {
        understood(TapName::parse(hostile).unwrap());
    }
}

fn understood(name: TapName) {
    in_own_network(move || {
        let tap = Tap::create(&name, 1500, 500).unwrap();
        for (shape, policy) in shapes() {
            let rules = Rules::of(&name, &policy);
            let text = replace(&name, &policy, &rules, &Vec::new(), &around());
            let (fine, said) = nft(&["-c", "-f", "-"], &text);
            // This kernel may lack what bridges need for flows. Then that is all there is to say.
            let lacks = said.lines().filter(|line| line.contains("Error"));
            let shared = policy.is_stateful();
            for line in lacks {
                let known = line.contains("Protocol error") || line.contains("not supported");
                assert!(shared && known, "{shape}: {said}\n{text}");
            }
            assert!(fine || shared, "{shape}: {said}");
        }
        tap.remove().unwrap();
    });
}

#[test]
fn net_15_net_19_a_locked_guest_says_only_what_it_is() {
    behind(locked(), |queue| {
        let udp = ports(1000, 2000, &[0; 8]);
        let plain = own4(PEER4, 17, &udp);
        expect(
            queue,
            &[
                ("default", plain.clone()),
                ("default", own6(17, &udp)),
                ("mac", ethernet(OTHER.0, OTHER.0, IP4, &plain[14..])),
                (
                    "mac",
                    ethernet(OTHER.0, [1, 0, 0, 0, 0, 1], IP4, &plain[14..]),
                ),
                (
                    "l2",
                    ethernet([1, 0x80, 0xc2, 0, 0, 0], MAC.0, IP4, &plain[14..]),
                ),
                (
                    "l2",
                    ethernet([1, 0x80, 0xc2, 0, 0, 15], MAC.0, IP4, &plain[14..]),
                ),
                (
                    "l2",
                    ethernet([1, 0, 0x0c, 0xcc, 0xcc, 0xcc], MAC.0, IP4, &plain[14..]),
                ),
                ("l2", ether(0x88b5, &[0; 46])),
                ("l2", ether(0x0026, &[0x42; 46])),
                ("l2", ether(0x8035, &arp(3, MAC.0, OWN4))),
                ("vlan", tagged(&plain, 0x8100, 0)),
                ("vlan", tagged(&plain, 0x8100, 5)),
                ("vlan", tagged(&plain, 0x88a8, 5)),
                ("vlan", tagged(&plain, 0x9100, 5)),
                ("l2", tagged(&tagged(&plain, 0x8100, 5), 0x8100, 5)),
                ("l2", tagged(&tagged(&plain, 0x8100, 5), 0x9100, 5)),
            ],
        );
    });
}

#[test]
fn net_16_a_locked_guest_speaks_arp_for_itself() {
    behind(locked(), |queue| {
        let with = |at: usize, byte: u8| {
            let mut arp = arp(1, MAC.0, OWN4);
            arp[at] = byte;
            ether(ARP, &arp)
        };
        expect(
            queue,
            &[
                ("default", ether(ARP, &arp(1, MAC.0, OWN4))),
                ("default", ether(ARP, &arp(2, MAC.0, OWN4))),
                ("default", ether(ARP, &arp(1, MAC.0, no4()))),
                ("arp", ether(ARP, &arp(2, MAC.0, no4()))),
                ("arp", ether(ARP, &arp(1, OTHER.0, OWN4))),
                ("arp", ether(ARP, &arp(1, MAC.0, PEER4))),
                ("arp", ether(ARP, &arp(3, MAC.0, OWN4))),
                ("arp", with(6, 1)),
                ("arp", with(1, 6)),
                ("arp", with(2, 9)),
                ("arp", with(4, 8)),
                ("arp", with(5, 16)),
                ("malformed", ether(ARP, &arp(1, MAC.0, OWN4)[..27])),
            ],
        );
        for _ in 0..300 {
            send(queue, &ether(ARP, &arp(1, MAC.0, OWN4)));
        }
        let counters = Kernel.counters(&name()).unwrap();
        assert!(counters.out["arp-rate"].packets >= 100, "{counters:?}");
        assert!(counters.out["default"].packets >= 100, "{counters:?}");
    });
}

#[test]
fn net_17_a_locked_guest_is_a_client_of_dhcp() {
    behind(locked(), |queue| {
        let everyone = [255; 4];
        let from = |ip, to, udp: &[u8]| ether(IP4, &ip4(ip, to, 17, udp));
        let v6 = |from, to| own6(17, &ports(from, to, &[0; 8]));
        expect(
            queue,
            &[
                ("default", from(no4(), everyone, &dhcp(MAC.0))),
                ("default", from(OWN4, PEER4, &dhcp(MAC.0))),
                ("ip", from(no4(), PEER4, &dhcp(MAC.0))),
                ("ip", from(PEER4, everyone, &dhcp(MAC.0))),
                ("dhcp", from(no4(), everyone, &dhcp(OTHER.0))),
                ("dhcp", from(no4(), everyone, &dhcp(MAC.0)[..41])),
                ("dhcp", from(OWN4, everyone, &ports(67, 68, &[0; 240]))),
                ("dhcp", from(OWN4, everyone, &ports(547, 1000, &[0; 8]))),
                ("ip", from(no4(), everyone, &ports(69, 67, &[0; 240]))),
                ("default", v6(546, 547)),
                ("dhcp", v6(547, 546)),
                ("dhcp", v6(67, 1000)),
            ],
        );
        let quick = from(OWN4, PEER4, &dhcp(MAC.0));
        for _ in 0..100 {
            send(queue, &quick);
        }
        let counters = Kernel.counters(&name()).unwrap();
        assert!(counters.out["dhcp-rate"].packets >= 50, "{counters:?}");
    });
    let mut off = locked();
    off.dhcp = Dhcp::Off;
    behind(off, |queue| {
        let v4 = |from, to| own4(PEER4, 17, &ports(from, to, &[0; 8]));
        expect(
            queue,
            &[
                ("dhcp", v4(68, 67)),
                ("dhcp", v4(67, 68)),
                ("dhcp", own6(17, &ports(546, 547, &[0; 8]))),
                (
                    "ip",
                    ether(IP4, &ip4(no4(), [255; 4], 17, &ports(68, 69, &[]))),
                ),
                ("default", v4(68, 69)),
            ],
        );
    });
}

#[test]
fn net_18_a_locked_guest_speaks_nd_for_itself_and_is_no_router() {
    let mut policy = locked();
    policy.storm = None;
    behind(policy, |queue| {
        let from = |from: &str, payload: &[u8]| ether(IP6, &ip6(from, PEER6, 58, payload));
        let own = |payload: &[u8]| from(OWN6, payload);
        let (na, ns, rs) = (136, 135, [133, 0, 0, 0, 0, 0, 0, 0]);
        let mine = lla(2, MAC.0);
        let with = |at: usize, byte: u8| {
            let mut frame = own(&nd(na, OWN6, &mine));
            frame[at] = byte;
            frame
        };
        let nonce = [14, 1, 1, 2, 3, 4, 5, 6];
        let two = [&mine[..], &nonce].concat();
        let three = [&two[..], &nonce].concat();
        let behind = |next: u8, header: &[u8], payload: &[u8]| {
            ether(IP6, &ip6(OWN6, PEER6, next, &[header, payload].concat()))
        };
        let empty = [58, 0, 1, 4, 0, 0, 0, 0];
        let first = [58, 0, 0, 1, 0, 0, 0, 1];
        let later = [58, 0, 0, 8, 0, 0, 0, 1];
        expect(
            queue,
            &[
                ("default", own(&nd(na, OWN6, &mine))),
                ("default", own(&nd(na, LOCAL6, &[]))),
                ("default", own(&nd(na, OWN6, &two))),
                ("default", own(&nd(ns, PEER6, &lla(1, MAC.0)))),
                ("default", from("::", &nd(ns, OWN6, &nonce))),
                ("default", from(LOCAL6, &rs)),
                ("default", from("::", &rs)),
                ("default", from(OWN6, &[&rs[..], &lla(1, MAC.0)].concat())),
                ("nd", own(&nd(na, PEER6, &mine))),
                ("nd", own(&nd(na, OWN6, &lla(2, OTHER.0)))),
                ("nd", own(&nd(na, OWN6, &three))),
                (
                    "nd",
                    own(&nd(na, OWN6, &[&two[..8], &lla(1, OTHER.0)].concat())),
                ),
                ("nd", own(&nd(na, OWN6, &[3, 1, 0, 0, 0, 0, 0, 0]))),
                ("nd", own(&nd(na, OWN6, &[14, 2, 0, 0, 0, 0, 0, 0]))),
                ("nd", own(&nd(na, OWN6, &mine)[..28])),
                ("nd", own(&nd(na, OWN6, &[])[..23])),
                ("nd", from("::", &nd(ns, PEER6, &[]))),
                ("nd", from("fe80::2", &rs)),
                ("nd", own(&[&rs[..], &lla(1, OTHER.0)].concat())),
                ("nd", own(&rs[..7])),
                ("nd", with(14 + 7, 254)),
                ("nd", with(14 + 40 + 1, 1)),
                ("nd", behind(60, &empty, &nd(na, OWN6, &mine))),
                ("nd", behind(0, &empty, &nd(na, OWN6, &mine))),
                ("nd", behind(44, &first, &nd(na, OWN6, &mine))),
                ("ip", from("2001:db8::8", &nd(ns, PEER6, &[]))),
                ("ra", own(&[134; 16])),
                ("ra", own(&[137; 40])),
                ("ra", behind(60, &empty, &[134; 16])),
                ("ra", behind(44, &first, &[134; 16])),
                ("default", behind(44, &later, &[134; 16])),
                ("default", from("::", &[143; 28])),
                ("default", from("::", &[131; 24])),
                ("ip", from("::", &[128; 8])),
                ("ip", from("fe80::2", &[128; 8])),
                ("default", own(&[128; 8])),
            ],
        );
        for _ in 0..300 {
            send(queue, &own(&nd(na, OWN6, &mine)));
        }
        let counters = Kernel.counters(&name()).unwrap();
        assert!(counters.out["nd-rate"].packets >= 100, "{counters:?}");
    });
}

#[test]
fn net_17_net_18_a_locked_guest_has_its_own_addresses() {
    behind(locked(), |queue| {
        let udp = ports(1000, 2000, &[0; 8]);
        let cut = |frame: &[u8], len: usize| frame[..len].to_vec();
        let with = |frame: &[u8], at: usize, byte: u8| {
            let mut frame = frame.to_vec();
            frame[at] = byte;
            frame
        };
        let (v4, v6) = (own4(PEER4, 17, &udp), own6(17, &udp));
        let padded = |frame: Vec<u8>| [&frame[..], &[0; 20]].concat();
        let chain = |next: u8, payload: &[u8]| own6(next, payload);
        expect(
            queue,
            &[
                ("ip", ether(IP4, &ip4([192, 0, 2, 8], PEER4, 17, &udp))),
                ("ip", ether(IP6, &ip6("2001:db8::8", PEER6, 17, &udp))),
                ("ip", ether(IP6, &ip6("fe80::1", PEER6, 17, &udp))),
                ("default", ether(IP6, &ip6(LOCAL6, PEER6, 17, &udp))),
                ("malformed", cut(&v4, 14 + 10)),
                ("malformed", cut(&v4, 14 + 22)),
                ("malformed", cut(&v6, 14 + 39)),
                ("malformed", cut(&v6, 14 + 42)),
                ("malformed", with(&v4, 14, 0x44)),
                ("malformed", with(&v4, 14, 0x65)),
                ("malformed", with(&v6, 14, 0x40)),
                ("malformed", with(&v4, 17, 19)),
                ("malformed", padded(own4(PEER4, 17, &udp[..3]))),
                ("malformed", padded(own4(PEER4, 6, &[]))),
                ("malformed", padded(own4(PEER4, 1, &[]))),
                ("default", padded(own4(PEER4, 1, &[8]))),
                ("default", padded(own4(PEER4, 17, &udp[..4]))),
                ("malformed", padded(own6(17, &udp[..3]))),
                ("malformed", padded(own6(58, &[]))),
                ("default", padded(own6(58, &[128]))),
                // A later fragment has no ports.
                ("default", with(&own4(PEER4, 17, &[]), 14 + 7, 1)),
                ("malformed", with(&own4(PEER4, 17, &[]), 14 + 6, 0x20)),
                ("ip", chain(135, &[59, 0, 0, 0, 0, 0, 0, 0])),
                ("ip", chain(253, &[0; 8])),
                (
                    "ip",
                    chain(60, &[&[139, 0, 0, 0, 0, 0, 0, 0][..], &[0; 8]].concat()),
                ),
                (
                    "default",
                    chain(60, &[&[17, 0, 0, 0, 0, 0, 0, 0][..], &udp].concat()),
                ),
                (
                    "default",
                    chain(51, &[&[17, 2][..], &[0; 14], &udp].concat()),
                ),
                ("malformed", chain(60, &[17, 9, 0, 0, 0, 0, 0, 0])),
                ("default", chain(59, &[])),
                ("default", chain(50, &[0; 8])),
            ],
        );
    });
    behind(VifPolicy::locked(MAC, Vec::new()), |queue| {
        let udp = ports(1000, 2000, &[0; 8]);
        expect(
            queue,
            &[
                ("ip", own4(PEER4, 17, &udp)),
                ("ip", ether(IP6, &ip6(LOCAL6, PEER6, 17, &udp))),
                ("ip", ether(IP4, &ip4(no4(), [255; 4], 17, &dhcp(MAC.0)))),
            ],
        );
    });
}

/// What a worker lets pass at once, whatever the rate.
#[test]
fn net_11_the_kernel_drops_nothing_that_the_worker_shapes() {
    let mut slow = VifPolicy::open(MAC);
    slow.limit_out.packets = 10;
    behind(slow, |queue| {
        (0..256).for_each(|_| send(queue, &ether(IP4, &ip4(OWN4, PEER4, 17, &[0; 8]))));
        let counters = Kernel.counters(&name()).unwrap();
        assert_eq!(counters.out["default"].packets, 256, "{counters:?}");
    });
}
