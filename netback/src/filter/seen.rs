//! A frame in words, for logs and people.

use std::fmt;

use super::frame::{ARP, Frame, RARP, is_tag};
use super::packet::{ICMP, ICMP6, Packet};
use crate::headers::{TCP, UDP, u16_at};
use crate::policy::Mac;

/// The first bytes of a frame, as words: who, to whom, what.
#[derive(Clone, Copy, Debug)]
pub struct Seen<'a>(pub &'a [u8]);

impl fmt::Display for Seen<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(frame) = Frame::parse(self.0, true) else {
            return write!(f, "{} bytes, which are no frame", self.0.len());
        };
        write!(f, "{} > {}", Mac(frame.from), Mac(frame.to))?;
        if let Some(tag) = frame.tag {
            write!(f, ", VLAN {}", tag.vlan)?;
        }
        match Packet::parse(&frame) {
            Some(Ok(packet)) => packet_in_words(f, &packet),
            Some(Err(_)) => write!(f, ", an IP packet that is cut off or malformed"),
            None => payload(f, &frame),
        }
    }
}

fn packet_in_words(f: &mut fmt::Formatter<'_>, packet: &Packet<'_>) -> fmt::Result {
    let Packet {
        source,
        destination,
        ..
    } = packet;
    let protocol = packet.found.protocol;
    let name = match protocol {
        TCP => "TCP",
        UDP => "UDP",
        ICMP => "ICMP",
        ICMP6 => "ICMPv6",
        _ => return write!(f, ", {source} > {destination}, protocol {protocol}"),
    };
    match (packet.ports, packet.icmp6) {
        (Some((from, to)), _) => {
            write!(f, ", {name} {source} port {from} > {destination} port {to}")
        }
        (None, Some(kind)) => write!(f, ", {name} {source} > {destination}, type {kind}"),
        (None, None) if packet.found.later => {
            write!(f, ", {name} {source} > {destination}, a later fragment")
        }
        (None, None) => write!(f, ", {name} {source} > {destination}"),
    }
}

fn payload(f: &mut fmt::Formatter<'_>, frame: &Frame<'_>) -> fmt::Result {
    match frame.kind {
        ARP | RARP => arp(f, frame),
        kind if is_tag(kind) => write!(f, ", tagged twice"),
        kind if kind < ETHERTYPES => write!(f, ", 802.3"),
        kind => write!(f, ", type {kind:#06x}"),
    }
}

fn arp(f: &mut fmt::Formatter<'_>, frame: &Frame<'_>) -> fmt::Result {
    let name = if frame.kind == ARP { "ARP" } else { "RARP" };
    let field = |at: usize| {
        let bytes = frame.head.get(frame.l3 + at..)?.first_chunk::<4>()?;
        Some(std::net::Ipv4Addr::from(*bytes))
    };
    // Hardware, protocol, lengths, operation, sender, target.
    let (operation, sender, target) = (u16_at(frame.head, frame.l3 + 6), field(14), field(24));
    match (operation, sender, target) {
        (Some(1), Some(sender), Some(target)) => write!(f, ", {name} {sender} asks for {target}"),
        (Some(2), Some(sender), Some(target)) => write!(f, ", {name} {sender} answers {target}"),
        (Some(operation), Some(sender), Some(target)) => {
            write!(f, ", {name} operation {operation}, {sender}, {target}")
        }
        _ => write!(f, ", {name} that is cut off"),
    }
}

/// Numbers below are lengths.
const ETHERTYPES: u16 = 0x600;

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u16, rest: &[u8]) -> Vec<u8> {
        let mut frame = vec![0xff; 6];
        frame.extend([0, 0x16, 0x3e, 0, 0, 5]);
        frame.extend(kind.to_be_bytes());
        frame.extend(rest);
        frame
    }

    #[test]
    fn a_frame_is_told_in_words() {
        let arp = |operation: u8| {
            let mut arp = vec![0, 1, 8, 0, 6, 4, 0, operation];
            arp.extend([0, 0x16, 0x3e, 0, 0, 5, 10, 0, 0, 5]);
            arp.extend([0, 0, 0, 0, 0, 0, 10, 0, 0, 1]);
            arp
        };
        let mut udp = vec![0x45, 0, 0, 28, 0, 0, 0, 0, 64, 17, 0, 0];
        udp.extend([10, 0, 0, 5, 10, 0, 0, 1, 0x9c, 0x40, 0, 53, 0, 8, 0, 0]);
        let tagged = [&[0, 7, 8, 0][..], &udp].concat();
        let mut fragment = udp.clone();
        fragment[7] = 9;
        let mut other = udp.clone();
        other[9] = 89;
        for (kind, rest, told) in [
            (0x0806, arp(1), "ARP 10.0.0.5 asks for 10.0.0.1"),
            (0x0806, arp(2), "ARP 10.0.0.5 answers 10.0.0.1"),
            (0x8035, arp(3), "RARP operation 3, 10.0.0.5, 10.0.0.1"),
            (0x0806, arp(1)[..20].to_vec(), "ARP that is cut off"),
            (
                0x0800,
                udp.clone(),
                "UDP 10.0.0.5 port 40000 > 10.0.0.1 port 53",
            ),
            (
                0x8100,
                tagged,
                "VLAN 7, UDP 10.0.0.5 port 40000 > 10.0.0.1 port 53",
            ),
            (
                0x0800,
                fragment,
                "UDP 10.0.0.5 > 10.0.0.1, a later fragment",
            ),
            (0x0800, other, "10.0.0.5 > 10.0.0.1, protocol 89"),
            (
                0x0800,
                udp[..12].to_vec(),
                "an IP packet that is cut off or malformed",
            ),
            (0x88cc, vec![2, 7], "type 0x88cc"),
            (0x0026, vec![0x42, 0x42, 3], "802.3"),
            (
                0x8100,
                vec![0, 7, 0x81, 0, 0, 8, 8, 0],
                "VLAN 7, tagged twice",
            ),
        ] {
            let frame = frame(kind, &rest);
            let wanted = format!("00:16:3e:00:00:05 > ff:ff:ff:ff:ff:ff, {told}");
            assert_eq!(Seen(&frame).to_string(), wanted);
        }
        assert_eq!(Seen(&[1; 9]).to_string(), "9 bytes, which are no frame");
    }
}
