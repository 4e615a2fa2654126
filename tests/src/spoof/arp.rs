//! ARP: who answers for another, and what is no ARP at all (NET-16).

use std::net::Ipv4Addr;

use super::build::{ARP, ArpMessage, BROADCAST, ethernet, padded};
use super::{List, Station};

const ASK: u16 = 1;
const TELL: u16 = 2;

pub(super) fn add(list: &mut List) {
    honest(list);
    senders(list);
    formats(list);
    cuts(list);
}

fn frame(list: &List, to: [u8; 6], message: &ArpMessage) -> Vec<u8> {
    padded(ethernet(to, list.site.own.mac, ARP, &message.bytes()))
}

fn honest(list: &mut List) {
    let (own, neighbour, gateway) = (list.site.own, list.site.neighbour, list.site.gateway);
    let unknown = |station: Station| Station {
        mac: [0; 6],
        ..station
    };
    let ask = ArpMessage::new(ASK, &own, &unknown(gateway));
    list.pass("an ARP request", frame(list, BROADCAST, &ask));
    let short = ethernet(BROADCAST, own.mac, ARP, &ask.bytes());
    list.pass("an ARP request without padding", short);
    let refresh = ArpMessage::new(ASK, &own, &neighbour);
    list.pass(
        "an ARP request to one",
        frame(list, neighbour.mac, &refresh),
    );
    let tell = ArpMessage::new(TELL, &own, &neighbour);
    list.pass("an ARP reply", frame(list, neighbour.mac, &tell));
    let mut probe = ArpMessage::new(ASK, &own, &unknown(own));
    probe.sender.1 = Ipv4Addr::UNSPECIFIED;
    list.pass("an ARP probe", frame(list, BROADCAST, &probe));
    probe.target.1 = neighbour.v4;
    list.pass(
        "an ARP probe for a neighbour's address",
        frame(list, BROADCAST, &probe),
    );
    let announce = ArpMessage::new(ASK, &own, &unknown(own));
    list.pass("an ARP announcement", frame(list, BROADCAST, &announce));
    let announce = ArpMessage::new(TELL, &own, &own);
    list.pass("a gratuitous ARP reply", frame(list, BROADCAST, &announce));
}

fn senders(list: &mut List) {
    let (own, neighbour, gateway) = (list.site.own, list.site.neighbour, list.site.gateway);
    for (op, what) in [(ASK, "request"), (TELL, "reply")] {
        let [.., last] = own.v4.octets();
        let beside = Ipv4Addr::from(u32::from(own.v4) ^ 2);
        for (whose, address) in [
            ("a neighbour's", neighbour.v4),
            ("the gateway's", gateway.v4),
            ("a stranger's", Ipv4Addr::new(198, 51, 100, last)),
            ("everybody's", Ipv4Addr::BROADCAST),
            ("a loopback", Ipv4Addr::LOCALHOST),
            ("a group's", Ipv4Addr::new(224, 0, 0, 1)),
            ("almost its own", beside),
        ] {
            let mut message = ArpMessage::new(op, &own, &neighbour);
            message.sender.1 = address;
            let name = format!("an ARP {what} with {whose} address");
            list.drop("arp", name, frame(list, BROADCAST, &message));
        }
        for (whose, mac) in [
            ("a neighbour's", neighbour.mac),
            ("the gateway's", gateway.mac),
            ("everybody's", BROADCAST),
            ("nobody's", [0; 6]),
        ] {
            let mut message = ArpMessage::new(op, &own, &gateway);
            message.sender.0 = mac;
            let name = format!("an ARP {what} with {whose} MAC");
            list.drop("arp", name, frame(list, BROADCAST, &message));
        }
        let message = ArpMessage::new(op, &neighbour, &gateway);
        let name = format!("an ARP {what} as a neighbour says it");
        list.drop("arp", name, frame(list, gateway.mac, &message));
        let message = ArpMessage::new(op, &gateway, &gateway);
        let name = format!("a gratuitous ARP {what} of the gateway");
        list.drop("arp", name, frame(list, BROADCAST, &message));
    }
    let mut tell = ArpMessage::new(TELL, &own, &neighbour);
    tell.sender.1 = Ipv4Addr::UNSPECIFIED;
    list.drop(
        "arp",
        "an ARP reply of nobody",
        frame(list, BROADCAST, &tell),
    );
}

fn formats(list: &mut List) {
    let (own, gateway) = (list.site.own, list.site.gateway);
    for op in [0, 3, 4, 5, 8, 9, 10, 255, 0x0101, 0x0200, 0xffff] {
        let message = ArpMessage::new(op, &own, &gateway);
        list.drop(
            "arp",
            format!("ARP operation {op}"),
            frame(list, BROADCAST, &message),
        );
    }
    for (name, at, value) in [
        ("hardware type 0", 1, 0),
        ("hardware type 6", 1, 6),
        ("hardware type 32", 1, 32),
        ("hardware type 257", 0, 1),
        ("protocol type 0806", 3, 6),
        ("protocol type 8600", 2, 0x86),
        ("hardware addresses of 0 bytes", 4, 0),
        ("hardware addresses of 5 bytes", 4, 5),
        ("hardware addresses of 8 bytes", 4, 8),
        ("hardware addresses of 255 bytes", 4, 255),
        ("protocol addresses of 0 bytes", 5, 0),
        ("protocol addresses of 3 bytes", 5, 3),
        ("protocol addresses of 16 bytes", 5, 16),
    ] {
        let mut message = ArpMessage::new(ASK, &own, &gateway);
        message.formats[at] = value;
        list.drop(
            "arp",
            format!("ARP with {name}"),
            frame(list, BROADCAST, &message),
        );
    }
}

fn cuts(list: &mut List) {
    let (own, gateway) = (list.site.own, list.site.gateway);
    let message = ArpMessage::new(ASK, &own, &gateway).bytes();
    for len in [0, 1, 7, 8, 14, 18, 24, 27] {
        let frame = ethernet(BROADCAST, own.mac, ARP, &message[..len]);
        list.drop("malformed", format!("ARP of {len} bytes"), frame);
    }
}
