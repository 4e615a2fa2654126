//! Merging changes no verdict.

use proptest::prelude::*;

use super::super::cells::{self, Cell, Ip};
use super::super::merge::groups;
use super::*;
use crate::policy::Prefix;

/// A thousand rules as a big site may have them.
pub(super) fn many() -> Vec<Rule> {
    let mut rules = Vec::new();
    for at in 0..500_u16 {
        let (high, low) = (at / 250, at % 250);
        let v4 = format!("10.{high}.{low}.0/24");
        let v6 = format!("2001:db8:{at:x}::/48");
        let ports = [(1000 + at, 1000 + at), (8000, 8010)];
        let mut out = rule(Direction::Out, Protocol::Tcp, &[&v4, &v6], &ports);
        let mut into = rule(Direction::In, Protocol::Udp, &[&v4], &[(53, 53)]);
        if at % 3 == 0 {
            out.action = Action::Drop;
            into.action = Action::Drop;
        }
        rules.extend([out, into]);
    }
    rules
}

#[test]
fn a_thousand_rules_are_a_few_lookups() {
    let rules = many();
    for direction in [Direction::Out, Direction::In] {
        let of = rules.iter().enumerate();
        let groups = groups(of.filter(|(_, rule)| rule.direction == direction));
        assert!(groups.len() <= 4, "{} lookups", groups.len());
    }
}

/// One packet, as rules see it.
#[derive(Clone, Copy, Debug)]
struct Packet {
    protocol: u8,
    remote: std::net::IpAddr,
    ports: (u16, u16),
}

fn holds(cell: &Cell, packet: &Packet) -> bool {
    let v4 = packet.remote.is_ipv4();
    let has_ports = packet.protocol == 6 || packet.protocol == 17;
    let within = |range: Option<PortRange>, port: u16| {
        range.is_none_or(|range| has_ports && (range.first..=range.last).contains(&port))
    };
    (cell.ip == Ip::Both || (cell.ip == Ip::V4) == v4)
        && cell.protocol.is_none_or(|own| own == packet.protocol)
        && cell
            .remote
            .is_none_or(|prefix: Prefix| prefix.has(packet.remote))
        && within(cell.to, packet.ports.1)
        && within(cell.from, packet.ports.0)
}

/// What a rule says, read from its definition.
fn matches(rule: &Rule, packet: &Packet) -> bool {
    let v4 = packet.remote.is_ipv4();
    let protocol = match rule.protocol {
        Protocol::Any => true,
        Protocol::Tcp => packet.protocol == 6,
        Protocol::Udp => packet.protocol == 17,
        Protocol::Icmp => packet.protocol == 1 && v4,
        Protocol::Icmp6 => packet.protocol == 58 && !v4,
        Protocol::Number(number) => packet.protocol == number,
    };
    let has_ports = packet.protocol == 6 || packet.protocol == 17;
    let ports = |ranges: &[PortRange], port: u16| {
        let mut found = ranges.iter();
        ranges.is_empty()
            || has_ports && found.any(|range| range.first <= port && port <= range.last)
    };
    let remote =
        rule.remote.is_empty() || rule.remote.iter().any(|prefix| prefix.has(packet.remote));
    protocol
        && remote
        && ports(&rule.ports, packet.ports.1)
        && ports(&rule.source_ports, packet.ports.0)
}

/// Few values, so that rules meet.
fn a_rule() -> impl Strategy<Value = Rule> {
    let remotes = [
        "10.0.0.0/8",
        "10.1.0.0/16",
        "10.1.1.1",
        "10.1.1.2",
        "0.0.0.0/0",
        "2001:db8::/32",
        "2001:db8::1",
        "::/0",
    ];
    let remote = prop::sample::subsequence(remotes.to_vec(), 0..3);
    let range = (0_u16..6, 0_u16..3).prop_map(|(first, more)| (first, first + more));
    let ports = || prop::collection::vec(range.clone(), 0..3);
    let protocol = prop::sample::select(vec![
        Protocol::Any,
        Protocol::Tcp,
        Protocol::Udp,
        Protocol::Icmp,
        Protocol::Icmp6,
        Protocol::Number(47),
        Protocol::Number(6),
    ]);
    let action = prop::sample::select(vec![Action::Accept, Action::Drop]);
    (protocol, remote, ports(), ports(), action, 0..8).prop_map(
        |(protocol, remote, ports, source_ports, action, kind)| {
            let mut rule = rule(Direction::Out, protocol, &remote, &ports);
            let range = |(first, last)| PortRange { first, last };
            rule.source_ports = source_ports.into_iter().map(range).collect();
            rule.action = action;
            rule.log = kind == 0;
            rule.limit = (kind == 1).then_some(7);
            rule
        },
    )
}

fn a_packet() -> impl Strategy<Value = Packet> {
    let protocol = prop::sample::select(vec![1_u8, 6, 17, 47, 58]);
    let remote = prop::sample::select(vec![
        "10.1.1.1",
        "10.1.1.2",
        "10.1.2.3",
        "10.2.0.1",
        "192.0.2.1",
        "2001:db8::1",
        "2001:db8::2",
        "fe80::1",
    ]);
    (protocol, remote, (0_u16..9, 0_u16..9)).prop_map(|(protocol, remote, ports)| Packet {
        protocol,
        remote: remote.parse().unwrap(),
        ports,
    })
}

proptest! {
    #[test]
    fn the_first_element_found_is_of_the_first_rule_that_matches(
        rules in prop::collection::vec(a_rule(), 0..12),
        packets in prop::collection::vec(a_packet(), 40),
        within in any::<bool>(),
    ) {
        // A rule that is over its limit does not match, also where it was merged.
        let takes = |rule: &Rule| within || rule.limit.is_none();
        let groups = groups(rules.iter().enumerate());
        for packet in packets {
            let first = rules.iter().position(|rule| takes(rule) && matches(rule, &packet));
            let found: Vec<Vec<usize>> = groups
                .iter()
                .map(|group| {
                    let members = group.members.iter();
                    let members = members.filter(|member| holds(&member.cell, &packet));
                    members.map(|member| member.rule).collect()
                })
                .collect();
            prop_assert!(found.iter().all(|members| members.len() <= 1), "elements meet");
            let mut decided = found.iter().flatten().copied();
            let decided = decided.find(|&index| takes(&rules[index]));
            prop_assert_eq!(decided, first);
        }
    }
}

#[test]
fn a_rule_of_many_parts_is_parts_that_do_not_meet() {
    let mut all = rule(
        Direction::Out,
        Protocol::Any,
        &["10.0.0.0/8", "10.1.0.0/16", "2001:db8::/32"],
        &[(1, 5), (5, 9), (10, 10), (20, 20)],
    );
    all.source_ports = vec![PortRange { first: 9, last: 3 }];
    assert_eq!(cells::of(&all), [], "there is no such port");
    all.source_ports.clear();
    let cells = cells::of(&all);
    // Two remotes, TCP and UDP, 1 to 10 and 20.
    assert_eq!(cells.len(), 8);
    for (at, cell) in cells.iter().enumerate() {
        assert!(cells[..at].iter().all(|other| !other.meets(cell)));
    }
}
