//! The Ethernet header: sources that are another's, groups of the link, what is no IP (NET-15,
//! NET-19).

use super::List;
use super::build::{
    ARP, ArpMessage, BROADCAST, IPV4, IPV6, Ip4, Ip6, TCP, UDP, ethernet, padded, syn, udp,
};

pub(super) fn add(list: &mut List) {
    runts(list);
    sources(list);
    groups(list);
    types(list);
    lengths(list);
}

fn runts(list: &mut List) {
    let own = list.site.own;
    let whole = ethernet(list.site.neighbour.mac, own.mac, IPV4, &[]);
    for len in [1, 6, 11, 12, 13] {
        list.drop(
            "malformed",
            format!("{len} bytes of Ethernet"),
            whole[..len].to_vec(),
        );
    }
}

/// An honest TCP segment.
pub(super) fn honest(list: &List) -> Vec<u8> {
    let (own, to) = (list.site.own, list.site.neighbour);
    Ip4::new(own.v4, to.v4, TCP, syn(40_000, 80)).bytes()
}

fn sources(list: &mut List) {
    let (own, neighbour, gateway) = (list.site.own, list.site.neighbour, list.site.gateway);
    let segment = honest(list);
    let to = neighbour.mac;
    let mut others = vec![
        ("a neighbour".to_owned(), neighbour.mac),
        ("the gateway".to_owned(), gateway.mac),
        ("everybody".to_owned(), BROADCAST),
        ("nobody".to_owned(), [0; 6]),
        ("a group".to_owned(), [0x01, 0, 0x5e, 0, 0, 1]),
        ("an IPv6 group".to_owned(), [0x33, 0x33, 0, 0, 0, 1]),
        ("spanning tree".to_owned(), [0x01, 0x80, 0xc2, 0, 0, 0]),
        (
            "the host's interface".to_owned(),
            [0xfe, 0xff, 0xff, 0xff, 0xff, 0xff],
        ),
    ];
    for byte in 0..6 {
        let mut mac = own.mac;
        mac[byte] ^= if byte == 0 { 2 } else { 1 };
        others.push((format!("one bit of byte {byte} wrong"), mac));
    }
    for (who, mac) in others {
        list.drop(
            "mac",
            format!("from {who}"),
            ethernet(to, mac, IPV4, &segment),
        );
    }
    let asks = ArpMessage::new(1, &own, &gateway).bytes();
    list.drop(
        "mac",
        "ARP from a neighbour",
        ethernet(BROADCAST, neighbour.mac, ARP, &asks),
    );
    let six = Ip6::new(own.v6, neighbour.v6, UDP, udp(1000, 9, &[])).bytes();
    list.drop(
        "mac",
        "IPv6 from a neighbour",
        ethernet(to, neighbour.mac, IPV6, &six),
    );
    list.drop(
        "mac",
        "LLDP from a neighbour",
        ethernet(to, neighbour.mac, 0x88cc, &[0; 46]),
    );
}

fn groups(list: &mut List) {
    let own = list.site.own.mac;
    let segment = honest(list);
    for last in 0..16 {
        let to = [0x01, 0x80, 0xc2, 0, 0, last];
        list.drop(
            "l2",
            format!("IPv4 to 01:80:c2:00:00:{last:02x}"),
            ethernet(to, own, IPV4, &segment),
        );
    }
    let cisco = [0x01, 0, 0x0c, 0xcc, 0xcc, 0xcc];
    list.drop(
        "l2",
        "IPv4 to Cisco's group",
        ethernet(cisco, own, IPV4, &segment),
    );
    let beside = [0x01, 0x80, 0xc2, 0, 0, 0x10];
    list.pass(
        "IPv4 to a group beside the link's",
        ethernet(beside, own, IPV4, &segment),
    );
    let beside = [0x01, 0, 0x0c, 0xcc, 0xcc, 0xcd];
    list.pass(
        "IPv4 to a group beside Cisco's",
        ethernet(beside, own, IPV4, &segment),
    );
    for (name, to, kind) in [
        ("LLDP", [0x01, 0x80, 0xc2, 0, 0, 0x0e], 0x88cc),
        ("802.1X", [0x01, 0x80, 0xc2, 0, 0, 0x03], 0x888e),
        ("LACP", [0x01, 0x80, 0xc2, 0, 0, 0x02], 0x8809),
        ("pause", [0x01, 0x80, 0xc2, 0, 0, 0x01], 0x8808),
        ("MVRP", [0x01, 0x80, 0xc2, 0, 0, 0x21], 0x88f5),
        ("MMRP", [0x01, 0x80, 0xc2, 0, 0, 0x20], 0x88f6),
        ("MRP ring", [0x01, 0x15, 0x4e, 0, 0, 0x01], 0x88e3),
        ("PTP", [0x01, 0x1b, 0x19, 0, 0, 0], 0x88f7),
        ("CFM", [0x01, 0x80, 0xc2, 0, 0, 0x30], 0x8902),
    ] {
        list.drop(
            "l2",
            format!("{name} to its group"),
            ethernet(to, own, kind, &[1; 46]),
        );
    }
}

fn types(list: &mut List) {
    let own = list.site.own.mac;
    let to = list.site.neighbour.mac;
    for (name, kind) in [
        ("LLDP", 0x88cc),
        ("802.1X", 0x888e),
        ("slow protocols", 0x8809),
        ("flow control", 0x8808),
        ("RARP", 0x8035),
        ("PPPoE discovery", 0x8863),
        ("PPPoE session", 0x8864),
        ("MPLS", 0x8847),
        ("MPLS multicast", 0x8848),
        ("IPX", 0x8137),
        ("AppleTalk", 0x809b),
        ("AppleTalk ARP", 0x80f3),
        ("wake on LAN", 0x0842),
        ("FCoE", 0x8906),
        ("FCoE initialisation", 0x8914),
        ("ATA over Ethernet", 0x88a2),
        ("MACsec", 0x88e5),
        ("PROFINET", 0x8892),
        ("EtherCAT", 0x88a4),
        ("B.A.T.M.A.N.", 0x4305),
        ("TRILL", 0x22f3),
        ("loopback", 0x9000),
        ("802.1ah", 0x88e7),
        ("an old QinQ", 0x9200),
        ("an experiment", 0x88b5),
        ("the lowest EtherType", 0x0600),
        ("one beside IPv4's", 0x0801),
        ("one beside IPv6's", 0x86de),
        ("the highest EtherType", 0xffff),
    ] {
        let frame = ethernet(to, own, kind, &[0x45; 46]);
        list.drop("l2", format!("{name} to a neighbour"), frame);
    }
    let reverse = ArpMessage {
        formats: [0, 1, 8, 0, 6, 4],
        op: 3,
        sender: (own, [0; 4].into()),
        target: (own, [0; 4].into()),
    };
    let frame = ethernet(BROADCAST, own, 0x8035, &reverse.bytes());
    list.drop("l2", "RARP about itself", padded(frame));
}

/// 802.3: a length where an EtherType would be.
fn lengths(list: &mut List) {
    let own = list.site.own.mac;
    let segment = honest(list);
    let bpdu = [0x42, 0x42, 3, 0, 0, 0, 0, 0];
    let tree = [0x01, 0x80, 0xc2, 0, 0, 0];
    let mut root = bpdu.to_vec();
    root.extend([0; 35]);
    list.drop(
        "l2",
        "a spanning tree's root",
        padded(ethernet(tree, own, 38, &root)),
    );
    let pvst = [0x01, 0, 0x0c, 0xcc, 0xcc, 0xcd];
    let snap = [0xaa, 0xaa, 3, 0, 0, 0x0c, 0x01, 0x0b];
    list.drop("l2", "PVST+", padded(ethernet(pvst, own, 50, &snap)));
    let cisco = [0x01, 0, 0x0c, 0xcc, 0xcc, 0xcc];
    let cdp = [0xaa, 0xaa, 3, 0, 0, 0x0c, 0x20, 0, 2, 180];
    list.drop("l2", "CDP", padded(ethernet(cisco, own, 10, &cdp)));
    let dtp = [0xaa, 0xaa, 3, 0, 0, 0x0c, 0x20, 0x04, 1];
    list.drop("l2", "DTP", padded(ethernet(cisco, own, 9, &dtp)));
    let to = list.site.neighbour.mac;
    list.drop(
        "l2",
        "a tree's root to a neighbour",
        padded(ethernet(to, own, 38, &root)),
    );
    for len in [0, 1, 46, 0x05dc, 0x05ff] {
        let frame = ethernet(to, own, len, &[0xe0; 46]);
        list.drop("l2", format!("802.3 of {len} bytes"), frame);
    }
    let inner = [&[0xaa, 0xaa, 3, 0, 0, 0, 8, 0][..], &segment].concat();
    list.drop("l2", "IPv4 in SNAP", padded(ethernet(to, own, 48, &inner)));
    list.drop("l2", "raw IPX", padded(ethernet(to, own, 30, &[0xff; 30])));
    let isis = [0x01, 0x80, 0xc2, 0, 0, 0x14];
    list.drop("l2", "IS-IS", padded(ethernet(isis, own, 20, &[0xfe; 20])));
}
