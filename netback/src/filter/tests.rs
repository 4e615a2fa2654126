//! What holds for any bytes, and for time. What becomes of which frame stands beside the attacks.

use std::cell::Cell;
use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::*;
use crate::policy::{Action, Addresses, Dhcp, Mac, PortRange, Protocol, Rule, Vlan};

const MAC: Mac = Mac([0x00, 0x16, 0x3e, 1, 2, 3]);
const OWN: [u8; 4] = [192, 0, 2, 7];

fn locked() -> VifPolicy {
    let own = ["192.0.2.7", "2001:db8::7"];
    VifPolicy::locked(MAC, own.iter().map(|text| text.parse().unwrap()).collect())
}

/// What `policy` says to a frame of the guest at its first moment.
fn once(policy: &VifPolicy, frame: &[u8]) -> Verdict {
    let now = Instant::now();
    Filter::new(policy, now).out(frame, || now)
}

fn ethernet(to: [u8; 6], kind: u16, rest: &[u8]) -> Vec<u8> {
    [&to[..], &MAC.0, &kind.to_be_bytes(), rest].concat()
}

fn arp(op: u8) -> Vec<u8> {
    let own = [&[0, 1, 8, 0, 6, 4, 0, op][..], &MAC.0, &OWN].concat();
    ethernet(
        [0xff; 6],
        0x0806,
        &[&own[..], &[0; 6], &[192, 0, 2, 1]].concat(),
    )
}

fn udp(to: [u8; 6], from_port: u16, port: u16, payload: &[u8]) -> Vec<u8> {
    let len = u16::try_from(28 + payload.len()).unwrap().to_be_bytes();
    let mut ip = vec![0x45, 0, len[0], len[1], 0, 0, 0, 0, 64, 17, 0, 0];
    ip.extend(OWN);
    ip.extend([255; 4]);
    ip.extend(from_port.to_be_bytes());
    ip.extend(port.to_be_bytes());
    ip.extend([0; 4]);
    ip.extend(payload);
    ethernet(to, 0x0800, &ip)
}

fn dhcp() -> Vec<u8> {
    let message = [&[1, 1, 6, 0][..], &[0; 24], &MAC.0, &[0; 10]].concat();
    udp([0xff; 6], 68, 67, &message)
}

fn solicitation() -> Vec<u8> {
    let mut ip = vec![0x60, 0, 0, 0, 0, 24, 58, 255];
    ip.extend(
        "2001:db8::7"
            .parse::<std::net::Ipv6Addr>()
            .unwrap()
            .octets(),
    );
    ip.extend(
        "ff02::1:ff00:1"
            .parse::<std::net::Ipv6Addr>()
            .unwrap()
            .octets(),
    );
    ip.extend([135, 0, 0, 0, 0, 0, 0, 0]);
    ip.extend(
        "2001:db8::1"
            .parse::<std::net::Ipv6Addr>()
            .unwrap()
            .octets(),
    );
    ethernet([0x33, 0x33, 0xff, 0, 0, 1], 0x86dd, &ip)
}

/// How many of a thousand pass at once, and in the second after it, and what the others are told.
fn passing(policy: &VifPolicy, frame: &[u8]) -> (usize, usize, Vec<Verdict>) {
    let now = Cell::new(Instant::now());
    let filter = Filter::new(policy, now.get());
    let mut told = Vec::new();
    let mut burst = || {
        let verdicts = (0..1000).map(|_| filter.out(frame, || now.get()));
        let passed = verdicts.filter(|&verdict| {
            if !verdict.passes() && !told.contains(&verdict) {
                told.push(verdict);
            }
            verdict.passes()
        });
        passed.count()
    };
    let first = burst();
    now.set(now.get() + Duration::from_secs(1));
    let then = burst();
    (first, then, told)
}

#[test]
fn net_16_net_17_net_18_net_21_floods_are_held_to_their_rates() {
    let free = VifPolicy {
        storm: None,
        ..locked()
    };
    let drop = |reason: Reason| vec![Verdict::from(reason)];
    let ask = passing(&free, &arp(1));
    assert_eq!(ask, (100, 50, drop(Reason::ArpRate)));
    assert_eq!(passing(&free, &dhcp()), (20, 10, drop(Reason::DhcpRate)));
    assert_eq!(
        passing(&free, &solicitation()),
        (100, 50, drop(Reason::NdRate))
    );
    let group = udp([1, 0, 0x5e, 0, 0, 9], 1000, 9, &[]);
    assert_eq!(passing(&locked(), &group), (400, 200, drop(Reason::Storm)));
    let none = VifPolicy {
        storm: Some(0),
        ..locked()
    };
    assert_eq!(passing(&none, &group), (0, 0, drop(Reason::Storm)));
    let alone = udp([2, 0, 0, 0, 0, 1], 1000, 9, &[]);
    assert_eq!(passing(&none, &alone), (1000, 1000, Vec::new()));
}

/// In a PV dom0, it is a system call.
#[test]
fn the_time_is_asked_for_only_where_a_limit_depends_on_it() {
    let filter = Filter::new(&locked(), Instant::now());
    let frame = udp([2, 0, 0, 0, 0, 1], 1000, 9, &[]);
    let verdict = filter.out(&frame, || panic!("the time does not matter"));
    assert_eq!(verdict, Verdict::Pass(None));
}

#[test]
fn what_is_open_needs_no_frame() {
    let now = Instant::now();
    let idle = |policy: &VifPolicy| {
        let filter = Filter::new(policy, now);
        [Direction::Out, Direction::In].map(|direction| filter.is_idle(direction))
    };
    let open = VifPolicy::open(MAC);
    assert_eq!(idle(&open), [true, true]);
    let filter = Filter::new(&open, now);
    assert_eq!(filter.out(&[], || panic!()), Verdict::Pass(None));
    assert_eq!(filter.incoming(&[], || panic!()), Verdict::Pass(None));
    assert_eq!(idle(&locked()), [false, true]);
    let changed = |change: &dyn Fn(&mut VifPolicy)| {
        let mut policy = open.clone();
        change(&mut policy);
        idle(&policy)
    };
    let out: [&dyn Fn(&mut VifPolicy); 10] = [
        &|policy| policy.mac_guard = true,
        &|policy| policy.addresses = Some(Addresses::default()),
        &|policy| policy.ra_guard = true,
        &|policy| policy.dhcp = Dhcp::Client,
        &|policy| policy.dhcp = Dhcp::Off,
        &|policy| policy.ip_only = true,
        &|policy| policy.bpdu = false,
        &|policy| policy.vlan = Vlan::Access(7),
        &|policy| policy.storm = Some(7),
        &|policy| policy.default_out = Action::Drop,
    ];
    for change in out {
        assert_eq!(changed(change), [false, true]);
    }
    let server = "192.0.2.1".parse().unwrap();
    assert_eq!(
        changed(&|policy| policy.dhcp_servers = vec![server]),
        [true, false]
    );
    assert_eq!(
        changed(&|policy| policy.default_in = Action::Reject),
        [true, false]
    );
    assert_eq!(
        changed(&|policy| policy.default_out = Action::Reject),
        [false, true]
    );
}

#[test]
fn net_19_only_the_vlans_of_a_trunk_leave_and_guards_look_behind_one_tag() {
    let ip = udp([2, 0, 0, 0, 0, 1], 1000, 9, &[]).split_off(14);
    let tagged = |kind: u16, vlan: u16, inner: u16| {
        let tag = [&vlan.to_be_bytes()[..], &inner.to_be_bytes(), &ip].concat();
        ethernet([2, 0, 0, 0, 0, 1], kind, &tag)
    };
    let plain = ethernet([2, 0, 0, 0, 0, 1], 0x0800, &ip);
    let trunk = |native| VifPolicy {
        vlan: Vlan::Trunk {
            tags: vec![7, 9],
            native,
        },
        ..locked()
    };
    let no = Verdict::from(Reason::Vlan);
    for (policy, frame, wanted) in [
        (trunk(None), tagged(0x8100, 7, 0x0800), Verdict::Pass(None)),
        (
            trunk(None),
            tagged(0x8100, 0xe007, 0x0800),
            Verdict::Pass(None),
        ),
        (trunk(None), tagged(0x8100, 8, 0x0800), no),
        (trunk(None), tagged(0x8100, 0, 0x0800), no),
        (trunk(None), tagged(0x88a8, 7, 0x0800), no),
        (trunk(None), tagged(0x8100, 7, 0x8100), Reason::L2.into()),
        (trunk(None), plain.clone(), no),
        (trunk(Some(1)), plain.clone(), Verdict::Pass(None)),
    ] {
        assert_eq!(
            once(&policy, &frame),
            wanted,
            "{:?} {frame:x?}",
            policy.vlan
        );
    }
    let mixed = VifPolicy {
        ip_only: false,
        ..trunk(None)
    };
    assert_eq!(once(&mixed, &tagged(0x8100, 7, 0x8100)), no);
    let any = VifPolicy {
        vlan: Vlan::Any,
        ..locked()
    };
    let mut spoofed = tagged(0x9100, 3, 0x0800);
    assert_eq!(once(&any, &spoofed), Verdict::Pass(None));
    spoofed[14 + 4 + 15] ^= 1;
    assert_eq!(once(&any, &spoofed), Reason::Ip.into());
}

#[test]
fn net_16_rarp_announces_only_the_guest_itself() {
    let announce = |op: u8, target: [u8; 6]| {
        let own = [&[0, 1, 8, 0, 6, 4, 0, op][..], &MAC.0, &[0; 4]].concat();
        ethernet([0xff; 6], 0x8035, &[&own[..], &target, &[0; 4]].concat())
    };
    let allowed = VifPolicy {
        rarp: true,
        ..locked()
    };
    assert_eq!(once(&locked(), &announce(3, MAC.0)), Reason::L2.into());
    assert_eq!(once(&allowed, &announce(3, MAC.0)), Verdict::Pass(None));
    assert_eq!(once(&allowed, &announce(4, MAC.0)), Verdict::Pass(None));
    assert_eq!(once(&allowed, &announce(1, MAC.0)), Reason::Arp.into());
    assert_eq!(once(&allowed, &announce(3, [2; 6])), Reason::Arp.into());
}

#[test]
fn net_17_dhcp_comes_only_from_servers_that_are_known() {
    let policy = VifPolicy {
        dhcp_servers: vec!["192.0.2.1".parse().unwrap()],
        ..VifPolicy::open(MAC)
    };
    let now = Instant::now();
    let filter = Filter::new(&policy, now);
    let mut offer = udp(MAC.0, 67, 68, &[]);
    assert_eq!(filter.incoming(&offer, || now), Reason::Dhcp.into());
    offer[14 + 15] = 1;
    assert_eq!(filter.incoming(&offer, || now), Verdict::Pass(None));
    let other = udp(MAC.0, 53, 68, &[]);
    assert_eq!(filter.incoming(&other, || now), Verdict::Pass(None));
}

/// All that can be asked at once, with a rule of each sort.
fn strict(dhcp: Dhcp, vlan: Vlan) -> VifPolicy {
    let rule = |direction, protocol| Rule {
        direction,
        protocol,
        remote: vec![
            "192.0.2.0/24".parse().unwrap(),
            "2001:db8::/32".parse().unwrap(),
        ],
        ports: vec![PortRange {
            first: 0,
            last: 1000,
        }],
        source_ports: Vec::new(),
        action: Action::Drop,
        stateful: false,
        limit: Some(3),
        log: false,
    };
    VifPolicy {
        dhcp,
        vlan,
        dhcp_servers: vec!["192.0.2.1".parse().unwrap()],
        rules: vec![
            rule(Direction::Out, Protocol::Any),
            rule(Direction::In, Protocol::Tcp),
        ],
        ..locked()
    }
}

proptest! {
    #[test]
    fn any_bytes_are_judged_without_harm(
        mut bytes in prop::collection::vec(any::<u8>(), 0..300),
        kind in prop::sample::select(vec![0x0800_u16, 0x86dd, 0x0806, 0x8100, 0x8035]),
        inner in prop::sample::select(vec![0x0800_u16, 0x86dd, 0x0806, 0x8100]),
        first in prop::sample::select(vec![0x45, 0x46, 0x4f, 0x60]),
        next in prop::sample::select(vec![0_u8, 6, 17, 43, 44, 51, 58, 60]),
        own in any::<bool>(),
    ) {
        let mut put = |at: usize, new: &[u8]| {
            if let Some(place) = bytes.get_mut(at..at + new.len()) {
                place.copy_from_slice(new);
            }
        };
        put(12, &kind.to_be_bytes());
        put(14, &[first]);
        put(20, &[next]);
        if kind == 0x8100 {
            put(16, &inner.to_be_bytes());
            put(18, &[first]);
            put(24, &[next]);
        }
        if own {
            put(6, &MAC.0);
        }
        let now = Instant::now();
        for policy in [
            locked(),
            strict(Dhcp::Off, Vlan::Any),
            strict(Dhcp::Client, Vlan::Trunk { tags: vec![1], native: Some(1) }),
        ] {
            let filter = Filter::new(&policy, now);
            let _ = filter.out(&bytes, || now);
            let _ = filter.incoming(&bytes, || now);
            prop_assert!(own || !filter.out(&bytes, || now).passes()
                || bytes.get(6..12) == Some(&MAC.0[..]));
        }
    }
}
