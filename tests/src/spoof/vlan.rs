//! VLAN tags: hopping, stacks, priorities (NET-19).

use super::List;
use super::build::{ARP, ArpMessage, BROADCAST, IPV4, IPV6, Ip6, UDP, ethernet, padded, udp};
use super::ethernet::honest;

const TAGS: [u16; 3] = [0x8100, 0x88a8, 0x9100];

fn tagged(control: u16, kind: u16, rest: &[u8]) -> Vec<u8> {
    [&control.to_be_bytes()[..], &kind.to_be_bytes(), rest].concat()
}

pub(super) fn add(list: &mut List) {
    let (own, neighbour, gateway) = (list.site.own, list.site.neighbour, list.site.gateway);
    let segment = honest(list);
    let to = neighbour.mac;
    for kind in TAGS {
        for vlan in [0, 1, 2, 100, 4094, 4095] {
            let frame = ethernet(to, own.mac, kind, &tagged(vlan, IPV4, &segment));
            list.drop("vlan", format!("a tag {kind:04x} of VLAN {vlan}"), frame);
        }
        let inner = ArpMessage::new(1, &own, &gateway).bytes();
        let frame = ethernet(BROADCAST, own.mac, kind, &tagged(5, ARP, &inner));
        list.drop(
            "vlan",
            format!("ARP behind a tag {kind:04x}"),
            padded(frame),
        );
        let inner = Ip6::new(own.v6, neighbour.v6, UDP, udp(1000, 9, &[])).bytes();
        let frame = ethernet(to, own.mac, kind, &tagged(5, IPV6, &inner));
        list.drop("vlan", format!("IPv6 behind a tag {kind:04x}"), frame);
        for second in TAGS {
            let inner = tagged(20, IPV4, &segment);
            let frame = ethernet(to, own.mac, kind, &tagged(1, second, &inner));
            list.drop("l2", format!("tags {kind:04x} and {second:04x}"), frame);
        }
        let frame = ethernet(to, neighbour.mac, kind, &tagged(5, IPV4, &segment));
        list.drop(
            "mac",
            format!("from a neighbour behind a tag {kind:04x}"),
            frame,
        );
        let frame = ethernet(to, own.mac, kind, &tagged(5, 0x88cc, &[0; 46]));
        list.drop("l2", format!("LLDP behind a tag {kind:04x}"), frame);
    }
    let whole = ethernet(to, own.mac, 0x8100, &tagged(5, IPV4, &[]));
    for len in 14..18 {
        list.drop(
            "malformed",
            format!("a tag that ends after {len} bytes"),
            whole[..len].to_vec(),
        );
    }
    list.drop("malformed", "a tag and no packet", whole);
    let priority = ethernet(to, own.mac, 0x8100, &tagged(0xe000, IPV4, &segment));
    list.drop("vlan", "a tag of priority 7 only", priority);
    let length = ethernet(to, own.mac, 0x8100, &tagged(5, 46, &[0xe0; 46]));
    list.drop("l2", "802.3 behind a tag", length);
    let tree = [0x01, 0x80, 0xc2, 0, 0, 0];
    let frame = ethernet(tree, own.mac, 0x8100, &tagged(5, IPV4, &segment));
    list.drop("l2", "to a group of the link, tagged", frame);
    let three = tagged(7, 0x8100, &tagged(8, 0x8100, &tagged(9, IPV4, &segment)));
    list.drop("l2", "three tags", ethernet(to, own.mac, 0x8100, &three));
    let mut broken = segment;
    broken[0] = 0x44;
    let frame = ethernet(to, own.mac, 0x8100, &tagged(5, IPV4, &broken));
    list.drop("malformed", "a broken header behind a tag", frame);
}
