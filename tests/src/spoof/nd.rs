//! Neighbour discovery: whose addresses, in whose name, and in what wrapping (NET-18).

use std::net::Ipv6Addr;

use super::List;
use super::build::{ICMP6, IPV6, Ip6, ethernet, icmp6};

const SOLICIT: u8 = 135;
const ADVERTISE: u8 = 136;

pub(super) const NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
pub(super) const NONE: Ipv6Addr = Ipv6Addr::UNSPECIFIED;

/// Options: who has the source, who has the target, and a number that nobody can guess.
pub(super) const SOURCE: u8 = 1;
const TARGET: u8 = 2;
const NONCE: [u8; 8] = [14, 1, 9, 8, 7, 6, 5, 4];

pub(super) fn add(list: &mut List) {
    honest(list);
    targets(list);
    options(list);
    headers(list);
}

pub(super) fn lla(kind: u8, mac: [u8; 6]) -> Vec<u8> {
    [&[kind, 1][..], &mac].concat()
}

/// A solicitation or an advertisement.
fn packet(from: Ipv6Addr, to: Ipv6Addr, kind: u8, target: Ipv6Addr, options: &[u8]) -> Ip6 {
    let flags = if kind == ADVERTISE { 0x60 } else { 0 };
    let rest = [&[flags, 0, 0, 0][..], &target.octets(), options].concat();
    Ip6::new(from, to, ICMP6, icmp6(from, to, kind, 0, &rest))
}

pub(super) fn frame(list: &List, packet: &Ip6) -> Vec<u8> {
    let [.., a, b, c, d] = packet.to.octets();
    let to = if packet.to.is_multicast() {
        [0x33, 0x33, a, b, c, d]
    } else {
        list.site.neighbour.mac
    };
    ethernet(to, list.site.own.mac, IPV6, &packet.bytes())
}

/// The group of those who may have an address.
fn solicited(address: Ipv6Addr) -> Ipv6Addr {
    let low = u128::from(address) & 0x00ff_ffff;
    (u128::from(Ipv6Addr::new(0xff02, 0, 0, 0, 0, 1, 0xff00, 0)) | low).into()
}

fn asks(from: Ipv6Addr, target: Ipv6Addr, options: &[u8]) -> Ip6 {
    packet(from, solicited(target), SOLICIT, target, options)
}

fn honest(list: &mut List) {
    let (own, neighbour) = (list.site.own, list.site.neighbour);
    let source = lla(SOURCE, own.mac);
    let target = lla(TARGET, own.mac);
    let both = [&source[..], &NONCE].concat();
    for (name, packet) in [
        ("a solicitation", asks(own.v6, neighbour.v6, &source)),
        (
            "a solicitation from its link-local address",
            asks(own.link_local(), neighbour.v6, &source),
        ),
        (
            "a solicitation without options",
            asks(own.v6, neighbour.v6, &[]),
        ),
        (
            "a solicitation with a nonce",
            asks(own.v6, neighbour.v6, &both),
        ),
        (
            "a solicitation to one",
            packet(own.v6, neighbour.v6, SOLICIT, neighbour.v6, &[]),
        ),
        ("a probe for its own address", asks(NONE, own.v6, &[])),
        (
            "a probe for its link-local address",
            asks(NONE, own.link_local(), &[]),
        ),
        ("a probe with a nonce", asks(NONE, own.v6, &NONCE)),
        (
            "an advertisement",
            packet(own.v6, neighbour.v6, ADVERTISE, own.v6, &target),
        ),
        (
            "an advertisement to all",
            packet(own.v6, NODES, ADVERTISE, own.v6, &target),
        ),
        (
            "an advertisement without options",
            packet(own.v6, neighbour.v6, ADVERTISE, own.v6, &[]),
        ),
        (
            "an advertisement of its link-local address",
            packet(
                own.link_local(),
                NODES,
                ADVERTISE,
                own.link_local(),
                &target,
            ),
        ),
    ] {
        list.pass(name, frame(list, &packet));
    }
}

fn targets(list: &mut List) {
    let site = list.site;
    let own = site.own;
    let option = lla(TARGET, own.mac);
    for (whose, target) in [
        ("a neighbour's address", site.neighbour.v6),
        ("the gateway's address", site.gateway.v6),
        (
            "a neighbour's link-local address",
            site.neighbour.link_local(),
        ),
        (
            "the gateway's link-local address",
            site.gateway.link_local(),
        ),
        (
            "another link-local address",
            Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1),
        ),
        (
            "a stranger's address",
            Ipv6Addr::new(0x2001, 0xdb8, 9, 0, 0, 0, 0, 7),
        ),
        ("nobody's address", NONE),
        ("a group", NODES),
    ] {
        let tells = packet(own.v6, NODES, ADVERTISE, target, &option);
        list.drop(
            "nd",
            format!("an advertisement of {whose}"),
            frame(list, &tells),
        );
        let probes = asks(NONE, target, &[]);
        list.drop("nd", format!("a probe for {whose}"), frame(list, &probes));
    }
    for (whose, from) in [
        ("a neighbour", site.neighbour.v6),
        (
            "the gateway's link-local address",
            site.gateway.link_local(),
        ),
    ] {
        let tells = packet(from, NODES, ADVERTISE, own.v6, &option);
        list.drop(
            "ip",
            format!("an advertisement from {whose}"),
            frame(list, &tells),
        );
        let asks = asks(from, site.neighbour.v6, &[]);
        list.drop(
            "ip",
            format!("a solicitation from {whose}"),
            frame(list, &asks),
        );
        let tells = packet(from, NODES, ADVERTISE, from, &option);
        list.drop(
            "nd",
            format!("an advertisement of and from {whose}"),
            frame(list, &tells),
        );
    }
    let tells = packet(NONE, NODES, ADVERTISE, own.v6, &option);
    list.drop("ip", "an advertisement from nobody", frame(list, &tells));
}

fn options(list: &mut List) {
    let (own, neighbour, gateway) = (list.site.own, list.site.neighbour, list.site.gateway);
    let mine = lla(SOURCE, own.mac);
    let mut wrong = vec![
        ("a neighbour's MAC", lla(SOURCE, neighbour.mac)),
        ("the gateway's MAC", lla(TARGET, gateway.mac)),
        ("everybody's MAC", lla(TARGET, [0xff; 6])),
        (
            "its own MAC and a neighbour's",
            [mine.clone(), lla(TARGET, neighbour.mac)].concat(),
        ),
        (
            "a nonce and a neighbour's MAC",
            [NONCE.to_vec(), lla(SOURCE, neighbour.mac)].concat(),
        ),
        ("three options", [&mine[..], &NONCE, &mine].concat()),
        ("an option of no length", vec![SOURCE, 0, 0, 0, 0, 0, 0, 0]),
        (
            "an option of 16 bytes",
            [&[SOURCE, 2][..], &own.mac, &[0; 8]].concat(),
        ),
        ("an option that is cut off", mine[..7].to_vec()),
        ("an option and 4 bytes", [&mine[..], &[0; 4]].concat()),
        (
            "an option that ends behind it",
            [&[SOURCE, 3][..], &own.mac].concat(),
        ),
    ];
    for kind in [0, 3, 4, 5, 24, 25, 31, 253] {
        let name = match kind {
            0 => "option 0",
            3 => "a prefix",
            4 => "a redirected header",
            5 => "an MTU",
            24 => "a route",
            25 => "a name server",
            31 => "a search list",
            _ => "an experiment",
        };
        wrong.push((name, vec![kind, 1, 0, 0, 0, 0, 0, 0]));
    }
    for (name, bytes) in wrong {
        let tells = packet(own.v6, NODES, ADVERTISE, own.v6, &bytes);
        list.drop(
            "nd",
            format!("an advertisement with {name}"),
            frame(list, &tells),
        );
        let asks = asks(own.v6, neighbour.v6, &bytes);
        list.drop(
            "nd",
            format!("a solicitation with {name}"),
            frame(list, &asks),
        );
    }
}

fn headers(list: &mut List) {
    let own = list.site.own;
    let tells = packet(own.v6, NODES, ADVERTISE, own.v6, &lla(TARGET, own.mac));
    for hops in [0, 1, 64, 254] {
        let mut tells = tells.clone();
        tells.hops = hops;
        list.drop(
            "nd",
            format!("an advertisement with a hop limit of {hops}"),
            frame(list, &tells),
        );
    }
    for code in [1, 255] {
        let mut tells = tells.clone();
        tells.payload[1] = code;
        list.drop(
            "nd",
            format!("an advertisement of code {code}"),
            frame(list, &tells),
        );
    }
    for len in [1, 4, 8, 23] {
        let mut tells = tells.clone();
        tells.payload.truncate(len);
        list.drop(
            "nd",
            format!("an advertisement of {len} bytes"),
            frame(list, &tells),
        );
    }
    for (name, kind, header) in in_front() {
        let name = format!("an advertisement behind {name}");
        list.drop("nd", name, frame(list, &tells.clone().behind(kind, header)));
    }
    let mut cut = frame(list, &tells);
    cut.truncate(cut.len() - 4);
    list.drop("nd", "an advertisement that the frame cuts off", cut);
}

/// What may stand in front of a message, so that who does not look behind it sees none.
pub(super) fn in_front() -> [(&'static str, u8, Vec<u8>); 7] {
    [
        ("hop-by-hop options", 0, vec![0, 0, 1, 4, 0, 0, 0, 0]),
        ("destination options", 60, vec![0, 0, 1, 4, 0, 0, 0, 0]),
        ("many options", 60, [&[0, 3][..], &[0; 30]].concat()),
        ("a routing header", 43, vec![0, 0, 4, 0, 0, 0, 0, 0]),
        (
            "an authentication header",
            51,
            [&[0, 4][..], &[0; 22]].concat(),
        ),
        (
            "a fragment header for no reason",
            44,
            vec![0, 0, 0, 0, 0, 0, 0, 1],
        ),
        (
            "the header of a first fragment",
            44,
            vec![0, 0, 0, 1, 0, 0, 0, 2],
        ),
    ]
}
