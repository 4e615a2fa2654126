//! IPv6: sources that are another's, headers that are none (NET-18).

use std::net::Ipv6Addr;

use super::List;
use super::build::{ICMP6, IPV6, Ip6, NONE, TCP, UDP, ethernet, icmp6, padded, syn, udp};

pub(super) fn add(list: &mut List) {
    honest(list);
    sources(list);
    headers(list);
    groups(list);
}

pub(super) fn frame(list: &List, packet: &[u8]) -> Vec<u8> {
    ethernet(list.site.neighbour.mac, list.site.own.mac, IPV6, packet)
}

fn from(list: &List, source: Ipv6Addr, next: u8, payload: Vec<u8>) -> Ip6 {
    Ip6::new(source, list.site.neighbour.v6, next, payload)
}

fn echo(list: &List, source: Ipv6Addr) -> Vec<u8> {
    icmp6(source, list.site.neighbour.v6, 128, 0, &[0, 1, 0, 0])
}

fn honest(list: &mut List) {
    let own = list.site.own;
    for (whose, source) in [
        ("", own.v6),
        (" from its link-local address", own.link_local()),
    ] {
        for (name, next, payload) in [
            ("TCP", TCP, syn(40_000, 443)),
            ("UDP", UDP, udp(40_000, 53, b"query")),
            ("ping", ICMP6, echo(list, source)),
            ("GRE", 47, vec![0, 0, 8, 0, 1, 2, 3, 4]),
            ("ESP", 50, vec![1; 24]),
            ("SCTP", 132, vec![0, 1, 0, 2, 0, 0, 0, 0]),
            ("nothing more", NONE, Vec::new()),
            ("an unknown protocol", 200, vec![7; 8]),
        ] {
            let packet = from(list, source, next, payload).bytes();
            list.pass(format!("IPv6 with {name}{whose}"), frame(list, &packet));
        }
    }
    let unreachable = icmp6(own.v6, list.site.neighbour.v6, 1, 4, &[0; 52]);
    let packet = from(list, own.v6, ICMP6, unreachable).bytes();
    list.pass("IPv6 that is unreachable", frame(list, &packet));
    let mut packet = from(list, own.v6, UDP, udp(1, 2, &[])).bytes();
    packet.extend([0xee; 30]);
    list.pass("IPv6 with bytes behind it", frame(list, &packet));
}

fn sources(list: &mut List) {
    let site = list.site;
    let own = u128::from(site.own.v6);
    let local = u128::from(site.own.link_local());
    for (whose, source) in [
        ("a neighbour", site.neighbour.v6),
        ("the gateway", site.gateway.v6),
        (
            "a neighbour's link-local address",
            site.neighbour.link_local(),
        ),
        (
            "the gateway's link-local address",
            site.gateway.link_local(),
        ),
        ("one below its own", (own - 1).into()),
        ("one above its own", (own + 1).into()),
        (
            "another link-local address",
            Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1),
        ),
        (
            "its link-local address of another network",
            (local | 1 << 64).into(),
        ),
        (
            "a site-local address",
            Ipv6Addr::new(0xfec0, 0, 0, 0, 0, 0, 0, 1),
        ),
        (
            "a unique local address",
            Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 7),
        ),
        ("nobody", Ipv6Addr::UNSPECIFIED),
        ("a loopback", Ipv6Addr::LOCALHOST),
        ("its own IPv4 address, mapped", site.own.v4.to_ipv6_mapped()),
        ("a group", Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1)),
        ("6to4", Ipv6Addr::new(0x2002, 0xc000, 0x0207, 0, 0, 0, 0, 1)),
    ] {
        for (name, next, payload) in [
            ("TCP over IPv6", TCP, syn(40_000, 80)),
            ("UDP over IPv6", UDP, udp(40_000, 53, &[])),
            ("a ping over IPv6", ICMP6, echo(list, source)),
        ] {
            let packet = from(list, source, next, payload).bytes();
            list.drop("ip", format!("{name} from {whose}"), frame(list, &packet));
        }
    }
}

fn headers(list: &mut List) {
    let own = list.site.own.v6;
    let honest = from(list, own, TCP, syn(40_000, 80)).bytes();
    for version in [0_u8, 4, 5, 7, 15] {
        let mut packet = honest.clone();
        packet[0] = version << 4;
        list.drop(
            "malformed",
            format!("IPv6 of version {version}"),
            frame(list, &packet),
        );
    }
    for len in [0, 1, 8, 24, 39] {
        let packet = &honest[..len];
        list.drop(
            "malformed",
            format!("IPv6 that is cut off after {len} bytes"),
            frame(list, packet),
        );
    }
    for (name, next) in [("TCP", TCP), ("UDP", UDP)] {
        for len in 0..4 {
            let packet = from(list, own, next, vec![0; len]).bytes();
            list.drop(
                "malformed",
                format!("{len} bytes of {name} over IPv6"),
                frame(list, &packet),
            );
        }
        let mut packet = from(list, own, next, vec![0; 2]).bytes();
        packet.extend([2, 35, 0, 0]);
        let name = format!("{name} over IPv6 whose ports lie behind it");
        list.drop("malformed", name, padded(frame(list, &packet)));
    }
    let packet = from(list, own, ICMP6, Vec::new()).bytes();
    list.drop("malformed", "ICMPv6 without a byte", frame(list, &packet));
    let mut jumbo = honest;
    jumbo[4..6].fill(0);
    list.drop("malformed", "a jumbogram of TCP", frame(list, &jumbo));
}

/// Who hears which group.
fn groups(list: &mut List) {
    let site = list.site;
    let all_routers = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 0x16);
    let group = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 1, 0xff00, 7);
    let record = [&[0, 0, 0, 1, 4, 0, 0, 0][..], &group.octets()].concat();
    let single = [&[0, 0, 0, 0][..], &group.octets()].concat();
    let frame = |from: Ipv6Addr, kind: u8, rest: &[u8]| {
        let alert = vec![0, 0, 5, 2, 0, 0, 1, 0];
        let message = icmp6(from, all_routers, kind, 0, rest);
        let mut packet = Ip6::new(from, all_routers, ICMP6, message).behind(0, alert);
        packet.hops = 1;
        ethernet(
            [0x33, 0x33, 0, 0, 0, 0x16],
            site.own.mac,
            IPV6,
            &packet.bytes(),
        )
    };
    let none = Ipv6Addr::UNSPECIFIED;
    let local = site.own.link_local();
    list.pass("an MLDv2 report", frame(local, 143, &record));
    list.pass("an MLDv2 report from nobody", frame(none, 143, &record));
    list.pass("an MLDv1 report", frame(local, 131, &single));
    list.pass("an MLDv1 report from nobody", frame(none, 131, &single));
    list.pass("an MLDv1 goodbye", frame(local, 132, &single));
    list.drop(
        "ip",
        "an MLDv1 goodbye from nobody",
        frame(none, 132, &single),
    );
    list.drop("ip", "an MLD query from nobody", frame(none, 130, &single));
    for (whose, from) in [
        ("a neighbour", site.neighbour.link_local()),
        ("the gateway", site.gateway.link_local()),
    ] {
        list.drop(
            "ip",
            format!("an MLDv2 report from {whose}"),
            frame(from, 143, &record),
        );
        list.drop(
            "ip",
            format!("an MLD query from {whose}"),
            frame(from, 130, &single),
        );
    }
}
