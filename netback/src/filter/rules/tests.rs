//! Beside one who tries one rule after the other.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Instant;

use proptest::prelude::*;

use crate::filter::{Filter, Reason, Verdict};
use crate::headers::{TCP, UDP};
use crate::policy::{Action, Dhcp, Direction, Mac, PortRange, Prefix, Protocol, Rule, VifPolicy};

/// A packet that rules are asked about.
#[derive(Clone, Copy, Debug)]
struct Asked {
    direction: Direction,
    source: IpAddr,
    destination: IpAddr,
    protocol: u8,
    /// The first bytes of what it carries: ports, or a type.
    ports: (u16, u16),
    /// It is a later fragment.
    later: bool,
}

impl Asked {
    fn frame(&self) -> Vec<u8> {
        let mut frame = vec![2; 12];
        let offset = u8::from(self.later);
        match (self.source, self.destination) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                frame.extend([
                    8,
                    0,
                    0x45,
                    0,
                    0,
                    40,
                    0,
                    0,
                    0,
                    offset,
                    64,
                    self.protocol,
                    0,
                    0,
                ]);
                frame.extend(source.octets());
                frame.extend(destination.octets());
            }
            (IpAddr::V6(source), IpAddr::V6(destination)) => {
                let next = if self.later { 44 } else { self.protocol };
                frame.extend([0x86, 0xdd, 0x60, 0, 0, 0, 0, 40, next, 64]);
                frame.extend(source.octets());
                frame.extend(destination.octets());
                if self.later {
                    frame.extend([self.protocol, 0, 0, 8, 0, 0, 0, 1]);
                }
            }
            mixed => panic!("{mixed:?}"),
        }
        frame.extend(self.ports.0.to_be_bytes());
        frame.extend(self.ports.1.to_be_bytes());
        frame.extend([0; 28]);
        frame
    }

    fn matches(&self, rule: &Rule) -> bool {
        let remote = match self.direction {
            Direction::Out => self.destination,
            Direction::In => self.source,
        };
        let is_v6 = self.source.is_ipv6();
        let protocol = match rule.protocol {
            Protocol::Any => true,
            Protocol::Tcp => self.protocol == 6,
            Protocol::Udp => self.protocol == 17,
            Protocol::Icmp => !is_v6 && self.protocol == 1,
            Protocol::Icmp6 => is_v6 && self.protocol == 58,
            Protocol::Number(number) => self.protocol == number,
        };
        let has_ports = !self.later && matches!(self.protocol, TCP | UDP);
        let within = |ranges: &[PortRange], port: u16| {
            let hit = |range: &PortRange| (range.first..=range.last).contains(&port);
            ranges.is_empty() || has_ports && ranges.iter().any(hit)
        };
        rule.direction == self.direction
            && protocol
            && (rule.remote.is_empty() || rule.remote.iter().any(|prefix| prefix.has(remote)))
            && within(&rule.source_ports, self.ports.0)
            && within(&rule.ports, self.ports.1)
    }

    /// Is it about the link, which carries no flows?
    fn is_free(&self) -> bool {
        let types = [130, 131, 132, 133, 134, 135, 136, 137, 143];
        self.source.is_ipv6()
            && self.protocol == 58
            && !self.later
            && types.contains(&self.ports.0.to_be_bytes()[0])
    }
}

/// What becomes of each packet, rule by rule; and what each rule has decided about. No time goes by.
fn plainly(policy: &VifPolicy, packets: &[Asked]) -> (Vec<Verdict>, Vec<u64>) {
    let mut hits = vec![0; policy.rules.len()];
    let verdicts = packets.iter().map(|packet| {
        if packet.is_free() {
            return Verdict::Pass(None);
        }
        let is_out = packet.direction == Direction::Out;
        let dropped = |action| action != Action::Accept;
        for (place, rule) in policy.rules.iter().enumerate() {
            let left = rule.limit.is_none_or(|limit| hits[place] < limit.into());
            if packet.matches(rule) && left {
                hits[place] += 1;
                return if dropped(rule.action) {
                    Verdict::Drop(Reason::Rule, Some(place))
                } else {
                    Verdict::Pass(Some(place))
                };
            }
        }
        let default = if is_out {
            policy.default_out
        } else {
            policy.default_in
        };
        if dropped(default) {
            Verdict::Drop(Reason::Default, None)
        } else {
            Verdict::Pass(None)
        }
    });
    (verdicts.collect(), hits)
}

fn judged(policy: &VifPolicy, packets: &[Asked]) -> (Vec<Verdict>, Vec<u64>) {
    let start = Instant::now();
    let filter = Filter::new(policy, start);
    let mut hits = vec![0; policy.rules.len()];
    let verdicts = packets.iter().map(|packet| {
        let verdict = match packet.direction {
            Direction::Out => filter.out(&packet.frame(), || start),
            Direction::In => filter.incoming(&packet.frame(), || start),
        };
        if let Some(rule) = verdict.rule() {
            hits[rule] += 1;
        }
        verdict
    });
    (verdicts.collect(), hits)
}

/// Few, so that they meet.
fn v4() -> impl Strategy<Value = Ipv4Addr> {
    let edges = prop::sample::select(vec![0, 1, 0x7fff_ffff, 0x8000_0000, u32::MAX]);
    prop_oneof![edges, 0x0a00_0000_u32..0x0a00_0010].prop_map(Ipv4Addr::from)
}

fn v6() -> impl Strategy<Value = Ipv6Addr> {
    let base = 0x2001_0db8_u128 << 96;
    let edges = prop::sample::select(vec![0, 1, 1 << 127, u128::MAX]);
    prop_oneof![edges, base..base + 16].prop_map(Ipv6Addr::from)
}

fn prefix() -> impl Strategy<Value = Prefix> {
    let cut = |address: IpAddr, len: u8| {
        let first = match address {
            IpAddr::V4(v4) => {
                let mask = u32::MAX
                    .checked_shl(32 - u32::from(len.min(32)))
                    .unwrap_or(0);
                Ipv4Addr::from(u32::from(v4) & mask).into()
            }
            IpAddr::V6(v6) => {
                let mask = u128::MAX.checked_shl(128 - u32::from(len)).unwrap_or(0);
                Ipv6Addr::from(u128::from(v6) & mask).into()
            }
        };
        Prefix::new(first, len).unwrap()
    };
    let of_v4 = (v4(), prop_oneof![Just(0), 28_u8..=32, 0_u8..=32]);
    let of_v6 = (v6(), prop_oneof![Just(0), 124_u8..=128, 0_u8..=128]);
    prop_oneof![
        of_v4.prop_map(move |(address, len)| cut(address.into(), len)),
        of_v6.prop_map(move |(address, len)| cut(address.into(), len)),
    ]
}

fn port() -> impl Strategy<Value = u16> {
    prop_oneof![prop::sample::select(vec![0, 1, u16::MAX]), 20_u16..30]
}

fn ports() -> impl Strategy<Value = Vec<PortRange>> {
    let range = (port(), port()).prop_map(|(one, other)| PortRange {
        first: one.min(other),
        last: one.max(other),
    });
    prop_oneof![Just(Vec::new()), prop::collection::vec(range, 0..3)]
}

fn direction() -> impl Strategy<Value = Direction> {
    prop::sample::select(vec![Direction::Out, Direction::In])
}

fn action() -> impl Strategy<Value = Action> {
    prop::sample::select(vec![Action::Accept, Action::Drop, Action::Reject])
}

fn rule() -> impl Strategy<Value = Rule> {
    let protocol = prop::sample::select(vec![
        Protocol::Any,
        Protocol::Tcp,
        Protocol::Udp,
        Protocol::Icmp,
        Protocol::Icmp6,
        Protocol::Number(6),
        Protocol::Number(47),
    ]);
    let remote = prop::collection::vec(prefix(), 0..3);
    let limit = prop_oneof![4 => Just(None), 1 => (0_u32..3).prop_map(Some)];
    (
        direction(),
        protocol,
        remote,
        ports(),
        ports(),
        action(),
        limit,
    )
        .prop_map(
            |(direction, protocol, remote, ports, source_ports, action, limit)| Rule {
                direction,
                protocol,
                remote,
                ports,
                source_ports,
                action,
                stateful: false,
                limit,
                log: false,
            },
        )
}

fn asked() -> impl Strategy<Value = Asked> {
    let ends = prop_oneof![
        (v4(), v4()).prop_map(|(a, b)| (IpAddr::from(a), IpAddr::from(b))),
        (v6(), v6()).prop_map(|(a, b)| (IpAddr::from(a), IpAddr::from(b))),
    ];
    let protocol = prop::sample::select(vec![6, 6, 17, 1, 58, 47, 2]);
    let ports = (prop_oneof![port(), 0x8000_u16..0x9000], port());
    let later = prop::sample::select(vec![false, false, false, true]);
    (direction(), ends, protocol, ports, later).prop_map(
        |(direction, (source, destination), protocol, ports, later)| Asked {
            direction,
            source,
            destination,
            protocol,
            ports,
            later,
        },
    )
}

fn policy(rules: Vec<Rule>, default_out: Action, default_in: Action) -> VifPolicy {
    VifPolicy {
        rules,
        default_out,
        default_in,
        ..VifPolicy::open(Mac([2; 6]))
    }
}

proptest! {
    #[test]
    fn the_first_rule_that_matches_decides(
        rules in prop::collection::vec(rule(), 0..150),
        default_out in action(),
        default_in in action(),
        packets in prop::collection::vec(asked(), 1..60),
    ) {
        let policy = policy(rules, default_out, default_in);
        prop_assert_eq!(judged(&policy, &packets), plainly(&policy, &packets));
    }
}

fn tcp_to(port: u16) -> Asked {
    Asked {
        direction: Direction::Out,
        source: "192.0.2.7".parse().unwrap(),
        destination: "198.51.100.1".parse().unwrap(),
        protocol: TCP,
        ports: (1000, port),
        later: false,
    }
}

fn to_ports(port: u16, action: Action) -> Rule {
    Rule {
        direction: Direction::Out,
        protocol: Protocol::Tcp,
        remote: Vec::new(),
        ports: vec![PortRange {
            first: port,
            last: port,
        }],
        source_ports: Vec::new(),
        action,
        stateful: false,
        limit: None,
        log: false,
    }
}

#[test]
fn each_of_a_thousand_rules_is_found() {
    let rules = (0..1000).map(|number| to_ports(number, Action::Accept));
    let policy = policy(rules.collect(), Action::Drop, Action::Accept);
    let packets: Vec<_> = (0..1001).map(tcp_to).collect();
    let (verdicts, hits) = judged(&policy, &packets);
    assert_eq!(verdicts.iter().filter(|v| v.passes()).count(), 1000);
    assert_eq!(verdicts[1000], Verdict::Drop(Reason::Default, None));
    assert_eq!(hits, [1; 1000]);
}

#[test]
fn one_stateful_rule_leaves_all_rules_to_the_kernel() {
    let mut rules = vec![to_ports(22, Action::Drop), to_ports(80, Action::Accept)];
    rules[1].stateful = true;
    let policy = VifPolicy {
        mac_guard: true,
        ..policy(rules, Action::Drop, Action::Drop)
    };
    let (verdicts, hits) = judged(&policy, &[tcp_to(22), tcp_to(81)]);
    let spoofed = Verdict::Drop(Reason::Mac, None);
    assert_eq!(judged(&policy, &[tcp_to(22)]).0.len(), 1);
    assert_eq!((verdicts, hits), (vec![Verdict::Pass(None); 2], vec![0; 2]));
    let mut frame = tcp_to(22).frame();
    frame[6] = 4;
    let now = Instant::now();
    assert_eq!(Filter::new(&policy, now).out(&frame, || now), spoofed);
}

const PASS: Verdict = Verdict::Pass(None);

/// NET-17: no rule keeps a guest from its own address.
#[test]
fn net_17_rules_are_not_asked_about_dhcp_that_a_guard_lets_pass() {
    let between = |direction, ports| Asked {
        direction,
        protocol: UDP,
        ports,
        ..tcp_to(0)
    };
    let asked = between(Direction::Out, (68, 67));
    let answer = between(Direction::In, (67, 68));
    let offer = between(Direction::Out, (67, 68));
    let request = between(Direction::In, (68, 67));
    let out = Verdict::Drop(Reason::Default, None);
    for (dhcp, wanted) in [
        (Dhcp::Client, [PASS, PASS, Reason::Dhcp.into(), out]),
        (Dhcp::Server, [PASS, out, PASS, out]),
        (Dhcp::Any, [out; 4]),
        (
            Dhcp::Off,
            [Reason::Dhcp.into(), out, Reason::Dhcp.into(), out],
        ),
    ] {
        let policy = VifPolicy {
            dhcp,
            ..policy(Vec::new(), Action::Drop, Action::Drop)
        };
        let (verdicts, _) = judged(&policy, &[asked, answer, offer, request]);
        assert_eq!(verdicts, wanted, "{dhcp:?}");
    }
}
