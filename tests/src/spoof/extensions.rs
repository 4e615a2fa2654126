//! IPv6 extension headers: what hides behind them, and what cannot be looked behind (NET-18).

use super::List;
use super::build::{Ip6, NONE, TCP, UDP, syn, udp};
use super::ipv6::frame;

const HOP_BY_HOP: u8 = 0;
const ROUTING: u8 = 43;
const FRAGMENT: u8 = 44;
const AUTHENTICATION: u8 = 51;
const DESTINATION: u8 = 60;

/// Eight bytes of options that mean nothing.
fn filler() -> Vec<u8> {
    vec![0, 0, 1, 4, 0, 0, 0, 0]
}

/// A fragment header: offset in units of 8 bytes, and whether more follow.
fn piece(offset: u16, more: bool) -> Vec<u8> {
    let [high, low] = (offset << 3 | u16::from(more)).to_be_bytes();
    vec![0, 0, high, low, 0, 0, 0, 5]
}

pub(super) fn add(list: &mut List) {
    honest(list);
    foreign(list);
    hidden(list);
    broken(list);
    fragments(list);
}

fn tcp(list: &List) -> Ip6 {
    let (own, to) = (list.site.own.v6, list.site.neighbour.v6);
    Ip6::new(own, to, TCP, syn(40_000, 80))
}

/// Each kind of header, one of it.
fn kinds() -> [(&'static str, u8, Vec<u8>); 6] {
    [
        ("hop-by-hop options", HOP_BY_HOP, filler()),
        ("a routing header", ROUTING, vec![0, 0, 4, 0, 0, 0, 0, 0]),
        ("destination options", DESTINATION, filler()),
        (
            "an authentication header",
            AUTHENTICATION,
            [&[0, 4][..], &[0; 22]].concat(),
        ),
        ("a fragment header for no reason", FRAGMENT, piece(0, false)),
        (
            "40 bytes of options",
            DESTINATION,
            [&[0, 4][..], &[0; 38]].concat(),
        ),
    ]
}

fn honest(list: &mut List) {
    let mut all = tcp(list);
    // The first of the wire comes last here: hop-by-hop options.
    for (name, kind, header) in kinds().into_iter().rev() {
        let one = tcp(list).behind(kind, header.clone());
        list.pass(format!("TCP behind {name}"), frame(list, &one.bytes()));
        all = all.behind(kind, header);
    }
    list.pass(
        "TCP behind a header of each kind",
        frame(list, &all.bytes()),
    );
    let mut many = tcp(list);
    for count in 1..=8 {
        many = many.behind(DESTINATION, filler());
        if count > 1 {
            let name = format!("TCP behind {count} extension headers");
            list.pass(name, frame(list, &many.bytes()));
        }
    }
    let (own, to) = (list.site.own.v6, list.site.neighbour.v6);
    let nothing = Ip6::new(own, to, NONE, Vec::new()).behind(DESTINATION, filler());
    list.pass("nothing behind options", frame(list, &nothing.bytes()));
    let sealed = Ip6::new(own, to, 50, vec![1; 24]).behind(HOP_BY_HOP, filler());
    list.pass("ESP behind options", frame(list, &sealed.bytes()));
}

/// Another's source, behind each kind of header.
fn foreign(list: &mut List) {
    for (name, kind, header) in kinds() {
        let mut packet = tcp(list).behind(kind, header);
        packet.from = list.site.neighbour.v6;
        let name = format!("a neighbour's TCP behind {name}");
        list.drop("ip", name, frame(list, &packet.bytes()));
    }
}

fn hidden(list: &mut List) {
    let (own, to) = (list.site.own.v6, list.site.neighbour.v6);
    for kind in [135, 139, 140, 253, 254] {
        let packet = tcp(list).behind(kind, filler());
        list.drop(
            "ip",
            format!("TCP behind extension header {kind}"),
            frame(list, &packet.bytes()),
        );
        let packet = packet.behind(HOP_BY_HOP, filler());
        let name = format!("TCP behind options and extension header {kind}");
        list.drop("ip", name, frame(list, &packet.bytes()));
    }
    let mobile = Ip6::new(own, to, 135, vec![NONE, 0, 1, 0, 0, 0, 0, 0]);
    list.drop("ip", "a mobility header", frame(list, &mobile.bytes()));
    let mut many = tcp(list);
    for count in 1..=12 {
        many = many.behind(DESTINATION, filler());
        if count > 8 {
            let name = format!("TCP behind {count} extension headers");
            list.drop("ip", name, frame(list, &many.bytes()));
        }
    }
    for (name, kind, header) in kinds() {
        let offer = Ip6::new(own, to, UDP, udp(547, 546, &[2, 0, 0, 0])).behind(kind, header);
        list.drop(
            "dhcp",
            format!("a DHCPv6 server behind {name}"),
            frame(list, &offer.bytes()),
        );
    }
}

/// Headers whose lengths are not those of what is there.
fn broken(list: &mut List) {
    for (name, kind) in [
        ("hop-by-hop options", HOP_BY_HOP),
        ("a routing header", ROUTING),
        ("destination options", DESTINATION),
        ("an authentication header", AUTHENTICATION),
    ] {
        for units in [7, 255] {
            let mut header = filler();
            header[1] = units;
            let packet = tcp(list).behind(kind, header);
            let name = format!("{name} of {units} units that are not there");
            list.drop("malformed", name, frame(list, &packet.bytes()));
        }
        let mut cut = tcp(list).behind(kind, filler());
        cut.payload.truncate(1);
        let name = format!("one byte of {name}");
        list.drop("malformed", name, frame(list, &cut.bytes()));
    }
    let mut cut = tcp(list).behind(FRAGMENT, piece(0, false));
    cut.payload.truncate(3);
    list.drop(
        "malformed",
        "three bytes of a fragment header",
        frame(list, &cut.bytes()),
    );
    let mut behind = tcp(list).behind(DESTINATION, filler()).bytes();
    behind[4..6].copy_from_slice(&[0, 8]);
    list.drop(
        "malformed",
        "TCP that lies behind the packet's end",
        frame(list, &behind),
    );
    let far = [&[0, 31][..], &[0; 254]].concat();
    let far = tcp(list).behind(DESTINATION, far);
    list.drop(
        "malformed",
        "TCP behind 256 bytes of options",
        frame(list, &far.bytes()),
    );
}

fn fragments(list: &mut List) {
    let site = list.site;
    for (name, offset, more) in [("first", 0, true), ("second", 2, true), ("last", 2, false)] {
        let packet = tcp(list).behind(FRAGMENT, piece(offset, more));
        list.pass(
            format!("the {name} fragment of IPv6"),
            frame(list, &packet.bytes()),
        );
        let mut foreign = packet;
        foreign.from = site.neighbour.v6;
        let name = format!("the {name} fragment of a neighbour's IPv6");
        list.drop("ip", name, frame(list, &foreign.bytes()));
    }
    let (own, to) = (site.own.v6, site.neighbour.v6);
    for (name, next, len) in [("TCP", TCP, 3), ("UDP", UDP, 0), ("ICMPv6", 58, 0)] {
        let tiny = Ip6::new(own, to, next, vec![0; len]).behind(FRAGMENT, piece(0, true));
        let name = format!("a first fragment of IPv6 with {len} bytes of {name}");
        list.drop("malformed", name, frame(list, &tiny.bytes()));
    }
    let offer = Ip6::new(own, to, UDP, udp(547, 546, &[0; 16])).behind(FRAGMENT, piece(0, true));
    list.drop(
        "dhcp",
        "the first fragment of a DHCPv6 server",
        frame(list, &offer.bytes()),
    );
    let twice = tcp(list)
        .behind(FRAGMENT, piece(0, true))
        .behind(FRAGMENT, piece(0, true));
    list.pass("a fragment of a fragment", frame(list, &twice.bytes()));
    for kind in [135, 254] {
        let later = Ip6::new(own, to, kind, vec![0; 16]).behind(FRAGMENT, piece(4, false));
        let name = format!("a later fragment of extension header {kind}");
        list.drop("ip", name, frame(list, &later.bytes()));
    }
    let later = Ip6::new(own, to, DESTINATION, [&[NONE, 0][..], &[0; 14]].concat())
        .behind(FRAGMENT, piece(4, false));
    list.pass("a later fragment of options", frame(list, &later.bytes()));
}
