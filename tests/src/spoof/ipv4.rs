//! IPv4: sources that are another's, headers that are none, fragments (NET-17).

use std::net::Ipv4Addr;

use super::List;
use super::build::{BROADCAST, ICMP, IPV4, Ip4, MORE, TCP, UDP, ethernet, padded, ping, syn, udp};

pub(super) fn add(list: &mut List) {
    honest(list);
    sources(list);
    headers(list);
    short_transports(list);
    fragments(list);
}

fn frame(list: &List, packet: &[u8]) -> Vec<u8> {
    ethernet(list.site.neighbour.mac, list.site.own.mac, IPV4, packet)
}

fn from(list: &List, source: Ipv4Addr, protocol: u8, payload: Vec<u8>) -> Ip4 {
    Ip4::new(source, list.site.neighbour.v4, protocol, payload)
}

fn honest(list: &mut List) {
    let own = list.site.own;
    for (name, protocol, payload) in [
        ("TCP", TCP, syn(40_000, 443)),
        ("UDP", UDP, udp(40_000, 53, b"query")),
        ("ping", ICMP, ping()),
        ("GRE", 47, vec![0, 0, 8, 0, 1, 2, 3, 4]),
        ("ESP", 50, vec![1; 24]),
        ("AH", 51, [&[TCP, 4][..], &[0; 22], &syn(1, 2)].concat()),
        ("SCTP", 132, vec![0, 1, 0, 2, 0, 0, 0, 0]),
        ("IP in IP", 4, from(list, own.v4, TCP, syn(1, 2)).bytes()),
        ("an unknown protocol", 253, vec![7; 8]),
        ("nothing at all", 47, Vec::new()),
        (
            "UDP to a DHCP server's port from another",
            UDP,
            udp(40_000, 67, &[]),
        ),
        ("UDP to a DHCP client's port", UDP, udp(40_000, 68, &[])),
    ] {
        let packet = from(list, own.v4, protocol, payload).bytes();
        list.pass(format!("IPv4 with {name}"), frame(list, &packet));
    }
    let mut padded_packet = from(list, own.v4, UDP, udp(1, 2, &[])).bytes();
    padded_packet.extend([0xee; 40]);
    list.pass("IPv4 with bytes behind it", frame(list, &padded_packet));
    let mut options = from(list, own.v4, TCP, syn(40_000, 22));
    options.options = vec![0x94, 4, 0, 0];
    list.pass("IPv4 with a router alert", frame(list, &options.bytes()));
    options.options = vec![1; 40];
    list.pass(
        "IPv4 with all options that fit",
        frame(list, &options.bytes()),
    );
    let join = [0x22, 0, 0, 0, 0, 0, 0, 1, 4, 0, 0, 0, 239, 1, 2, 3];
    let mut join = Ip4::new(own.v4, Ipv4Addr::new(224, 0, 0, 22), 2, join.to_vec());
    join.options = vec![0x94, 4, 0, 0];
    let to = [0x01, 0, 0x5e, 0, 0, 22];
    list.pass("an IGMP report", ethernet(to, own.mac, IPV4, &join.bytes()));
    let shout = Ip4::new(own.v4, Ipv4Addr::BROADCAST, UDP, udp(9, 9, &[]));
    list.pass(
        "IPv4 to everybody",
        ethernet(BROADCAST, own.mac, IPV4, &shout.bytes()),
    );
    let long = from(list, own.v4, UDP, udp(7, 7, &[0x5a; 1472])).bytes();
    list.pass("IPv4 as long as Ethernet's longest", frame(list, &long));
}

fn sources(list: &mut List) {
    let site = list.site;
    let own = u32::from(site.own.v4);
    for (whose, source) in [
        ("a neighbour", site.neighbour.v4),
        ("the gateway", site.gateway.v4),
        ("one below its own", Ipv4Addr::from(own - 1)),
        ("one above its own", Ipv4Addr::from(own + 1)),
        ("its own mirrored", Ipv4Addr::from(own.swap_bytes())),
        ("nobody", Ipv4Addr::UNSPECIFIED),
        ("everybody", Ipv4Addr::BROADCAST),
        ("a loopback", Ipv4Addr::LOCALHOST),
        ("a group", Ipv4Addr::new(224, 0, 0, 1)),
        ("a link-local address", Ipv4Addr::new(169, 254, 1, 1)),
        ("the network", Ipv4Addr::from(own & 0xffff_ff00)),
        ("the network's broadcast", Ipv4Addr::from(own | 0xff)),
        ("a private address", Ipv4Addr::new(10, 0, 0, 1)),
        ("the metadata service", Ipv4Addr::new(169, 254, 169, 254)),
    ] {
        for (name, protocol, payload) in [
            ("TCP", TCP, syn(40_000, 80)),
            ("UDP", UDP, udp(40_000, 53, &[])),
            ("a ping", ICMP, ping()),
        ] {
            let packet = from(list, source, protocol, payload).bytes();
            list.drop("ip", format!("{name} from {whose}"), frame(list, &packet));
        }
    }
    let packet = from(list, site.gateway.v4, 47, vec![0; 8]).bytes();
    list.drop("ip", "GRE from the gateway", frame(list, &packet));
    let redirect = [&[5, 1, 0, 0][..], &site.own.v4.octets(), &[0x45; 28]].concat();
    let packet = from(list, site.gateway.v4, ICMP, redirect).bytes();
    list.drop(
        "ip",
        "an ICMP redirect from the gateway",
        frame(list, &packet),
    );
}

fn headers(list: &mut List) {
    let own = list.site.own.v4;
    let honest = from(list, own, TCP, syn(40_000, 80)).bytes();
    for version in [0_u8, 3, 5, 6, 15] {
        let mut packet = honest.clone();
        packet[0] = version << 4 | 5;
        list.drop(
            "malformed",
            format!("IPv4 of version {version}"),
            frame(list, &packet),
        );
    }
    for words in 0..5_u8 {
        let mut packet = honest.clone();
        packet[0] = 0x40 | words;
        list.drop(
            "malformed",
            format!("IPv4 with a header of {words} words"),
            frame(list, &packet),
        );
    }
    let mut packet = honest.clone();
    packet[0] = 0x4f;
    list.drop(
        "malformed",
        "IPv4 with a header longer than the frame",
        frame(list, &packet),
    );
    for total in [0_u8, 1, 19] {
        let mut packet = honest.clone();
        packet[3] = total;
        list.drop(
            "malformed",
            format!("IPv4 of {total} bytes in all"),
            frame(list, &packet),
        );
    }
    let mut options = from(list, own, TCP, syn(40_000, 80));
    options.options = vec![1; 8];
    let mut packet = options.bytes();
    packet[3] = 27;
    list.drop(
        "malformed",
        "IPv4 that ends in its options",
        frame(list, &packet),
    );
    for len in [0, 1, 9, 12, 16, 19] {
        let packet = &honest[..len];
        list.drop(
            "malformed",
            format!("IPv4 that is cut off after {len} bytes"),
            frame(list, packet),
        );
    }
}

/// What is too short for ports, or for a type.
fn short_transports(list: &mut List) {
    let own = list.site.own.v4;
    for (name, protocol) in [("TCP", TCP), ("UDP", UDP)] {
        for len in 0..4 {
            let packet = from(list, own, protocol, vec![0; len]).bytes();
            list.drop(
                "malformed",
                format!("{len} bytes of {name} over IPv4"),
                frame(list, &packet),
            );
        }
        let mut packet = from(list, own, protocol, vec![0; 2]).bytes();
        packet.extend([0, 67, 0, 0]);
        let name = format!("{name} over IPv4 whose ports lie behind it");
        list.drop("malformed", name, padded(frame(list, &packet)));
    }
    let packet = from(list, own, ICMP, Vec::new()).bytes();
    list.drop("malformed", "ICMP without a byte", frame(list, &packet));
}

fn fragments(list: &mut List) {
    let site = list.site;
    let mut piece = from(list, site.own.v4, UDP, udp(40_000, 53, &[0; 16]));
    for (name, bits) in [
        ("first", MORE),
        ("second", MORE | 3),
        ("last", 3),
        ("overlapping", MORE | 1),
        ("farthest", 0x1fff),
    ] {
        piece.piece = bits;
        list.pass(
            format!("the {name} fragment of IPv4"),
            frame(list, &piece.bytes()),
        );
    }
    piece.piece = 0x4000;
    list.pass("IPv4 that must not be cut", frame(list, &piece.bytes()));
    let mut foreign = from(list, site.neighbour.v4, UDP, vec![0; 24]);
    for (name, bits) in [("second", MORE | 3), ("last", 3), ("overlapping", MORE | 1)] {
        foreign.piece = bits;
        let name = format!("the {name} fragment of a neighbour's IPv4");
        list.drop("ip", name, frame(list, &foreign.bytes()));
    }
    for (what, protocol, len) in [("TCP", TCP, 3), ("UDP", UDP, 1), ("ICMP", ICMP, 0)] {
        let mut tiny = from(list, site.own.v4, protocol, vec![0; len]);
        tiny.piece = MORE;
        let name = format!("a first fragment with {len} bytes of {what}");
        list.drop("malformed", name, frame(list, &tiny.bytes()));
        tiny.piece = 1;
        let name = format!("a later fragment with {len} bytes of {what}");
        list.pass(name, frame(list, &tiny.bytes()));
    }
}
