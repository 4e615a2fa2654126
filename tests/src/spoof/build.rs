//! Frames from their parts. What is wrong with them is put in by who wants it so.

use std::net::{Ipv4Addr, Ipv6Addr};

use super::Station;
use crate::frontend::netfront::frame::{add, fold, pseudo_header};

/// EtherTypes.
pub(super) const IPV4: u16 = 0x0800;
pub(super) const ARP: u16 = 0x0806;
pub(super) const IPV6: u16 = 0x86dd;

/// Protocols.
pub(super) const ICMP: u8 = 1;
pub(super) const TCP: u8 = 6;
pub(super) const UDP: u8 = 17;
pub(super) const ICMP6: u8 = 58;
pub(super) const NONE: u8 = 59;

/// Everybody.
pub(super) const BROADCAST: [u8; 6] = [0xff; 6];

/// An Ethernet frame.
pub(super) fn ethernet(to: [u8; 6], from: [u8; 6], kind: u16, rest: &[u8]) -> Vec<u8> {
    [&to[..], &from, &kind.to_be_bytes(), rest].concat()
}

/// A frame with zeros behind it, as far as Ethernet's shortest has them.
pub(super) fn padded(mut frame: Vec<u8>) -> Vec<u8> {
    frame.resize(frame.len().max(60), 0);
    frame
}

/// An IPv4 packet.
#[derive(Clone, Debug)]
pub(super) struct Ip4 {
    pub(super) from: Ipv4Addr,
    pub(super) to: Ipv4Addr,
    pub(super) protocol: u8,
    /// Flags and offset of a fragment.
    pub(super) piece: u16,
    pub(super) options: Vec<u8>,
    pub(super) payload: Vec<u8>,
}

/// More fragments follow.
pub(super) const MORE: u16 = 0x2000;

impl Ip4 {
    pub(super) fn new(from: Ipv4Addr, to: Ipv4Addr, protocol: u8, payload: Vec<u8>) -> Self {
        Self {
            from,
            to,
            protocol,
            piece: 0,
            options: Vec::new(),
            payload,
        }
    }

    pub(super) fn bytes(&self) -> Vec<u8> {
        let header = 20 + self.options.len();
        let words = u8::try_from(header / 4).expect("few options");
        let total = u16::try_from(header + self.payload.len()).expect("a short packet");
        let mut bytes = vec![0x40 | words, 0];
        bytes.extend(total.to_be_bytes());
        bytes.extend([0, 1]);
        bytes.extend(self.piece.to_be_bytes());
        bytes.extend([64, self.protocol, 0, 0]);
        bytes.extend(self.from.octets());
        bytes.extend(self.to.octets());
        bytes.extend(&self.options);
        let sum = !fold(add(0, &bytes));
        bytes[10..12].copy_from_slice(&sum.to_be_bytes());
        bytes.extend(&self.payload);
        bytes
    }
}

/// An IPv6 packet. `next` is what its payload starts with.
#[derive(Clone, Debug)]
pub(super) struct Ip6 {
    pub(super) from: Ipv6Addr,
    pub(super) to: Ipv6Addr,
    pub(super) next: u8,
    pub(super) hops: u8,
    pub(super) payload: Vec<u8>,
}

impl Ip6 {
    pub(super) fn new(from: Ipv6Addr, to: Ipv6Addr, next: u8, payload: Vec<u8>) -> Self {
        Self {
            from,
            to,
            next,
            hops: 255,
            payload,
        }
    }

    pub(super) fn bytes(&self) -> Vec<u8> {
        let len = u16::try_from(self.payload.len()).expect("a short packet");
        let mut bytes = vec![0x60, 0, 0, 0];
        bytes.extend(len.to_be_bytes());
        bytes.extend([self.next, self.hops]);
        bytes.extend(self.from.octets());
        bytes.extend(self.to.octets());
        bytes.extend(&self.payload);
        bytes
    }

    /// With `header` in front of what it carries, whose first byte is made to say what that is.
    pub(super) fn behind(mut self, kind: u8, mut header: Vec<u8>) -> Self {
        header[0] = self.next;
        header.extend(self.payload);
        self.next = kind;
        self.payload = header;
        self
    }
}

/// A TCP header that opens a connection.
pub(super) fn syn(from_port: u16, port: u16) -> Vec<u8> {
    let mut bytes = [from_port.to_be_bytes(), port.to_be_bytes()].concat();
    bytes.extend([0, 0, 0, 1, 0, 0, 0, 0, 0x50, 2, 0xff, 0xff, 0, 0, 0, 0]);
    bytes
}

/// A UDP datagram without a checksum.
pub(super) fn udp(from_port: u16, port: u16, payload: &[u8]) -> Vec<u8> {
    let len = u16::try_from(8 + payload.len()).expect("a short datagram");
    let mut bytes = Vec::new();
    for word in [from_port, port, len, 0] {
        bytes.extend(word.to_be_bytes());
    }
    bytes.extend(payload);
    bytes
}

/// An ICMP echo request.
pub(super) fn ping() -> Vec<u8> {
    vec![8, 0, 0xf7, 0xfe, 0, 1, 0, 0]
}

/// An ICMPv6 message with its checksum.
pub(super) fn icmp6(from: Ipv6Addr, to: Ipv6Addr, kind: u8, code: u8, rest: &[u8]) -> Vec<u8> {
    let mut bytes = [&[kind, code, 0, 0][..], rest].concat();
    let addresses = [from.octets(), to.octets()].concat();
    let pseudo = pseudo_header(&addresses, ICMP6, bytes.len());
    let sum = !fold(add(add(0, &pseudo), &bytes));
    bytes[2..4].copy_from_slice(&sum.to_be_bytes());
    bytes
}

/// One who asks or tells by ARP.
#[derive(Clone, Debug)]
pub(super) struct ArpMessage {
    /// Hardware type, protocol type, lengths of both.
    pub(super) formats: [u8; 6],
    pub(super) op: u16,
    pub(super) sender: ([u8; 6], Ipv4Addr),
    pub(super) target: ([u8; 6], Ipv4Addr),
}

impl ArpMessage {
    pub(super) fn new(op: u16, sender: &Station, target: &Station) -> Self {
        Self {
            formats: [0, 1, 8, 0, 6, 4],
            op,
            sender: (sender.mac, sender.v4),
            target: (target.mac, target.v4),
        }
    }

    pub(super) fn bytes(&self) -> Vec<u8> {
        let mut bytes = self.formats.to_vec();
        bytes.extend(self.op.to_be_bytes());
        for (mac, address) in [self.sender, self.target] {
            bytes.extend(mac);
            bytes.extend(address.octets());
        }
        bytes
    }
}

/// What a DHCP client says first.
pub(super) fn discover(chaddr: [u8; 6]) -> Vec<u8> {
    let mut message = vec![0; 240];
    message[..8].copy_from_slice(&[1, 1, 6, 0, 0x11, 0x22, 0x33, 0x44]);
    message[28..34].copy_from_slice(&chaddr);
    message[236..].copy_from_slice(&[0x63, 0x82, 0x53, 0x63]);
    message.extend([53, 1, 1, 255]);
    message
}
