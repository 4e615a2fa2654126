//! Frames as a guest may send them.

use std::net::{Ipv4Addr, Ipv6Addr};

use super::{MAC, OTHER};

pub(super) const OWN4: [u8; 4] = [192, 0, 2, 7];
pub(super) const PEER4: [u8; 4] = [198, 51, 100, 1];
pub(super) const OWN6: &str = "2001:db8::7";
/// What the MAC makes.
pub(super) const LOCAL6: &str = "fe80::216:3eff:fe00:1";
pub(super) const PEER6: &str = "2001:db8:1::1";

pub(super) const ARP: u16 = 0x0806;
pub(super) const IP4: u16 = 0x0800;
pub(super) const IP6: u16 = 0x86dd;

/// From the guest to another.
pub(super) fn ether(kind: u16, payload: &[u8]) -> Vec<u8> {
    ethernet(OTHER.0, MAC.0, kind, payload)
}

pub(super) fn ethernet(to: [u8; 6], from: [u8; 6], kind: u16, payload: &[u8]) -> Vec<u8> {
    [&to[..], &from, &kind.to_be_bytes(), payload].concat()
}

/// The frame with a tag in front of its type.
pub(super) fn tagged(frame: &[u8], kind: u16, vlan: u16) -> Vec<u8> {
    let tag = [kind.to_be_bytes(), vlan.to_be_bytes()].concat();
    [&frame[..12], &tag, &frame[12..]].concat()
}

pub(super) fn ip4(from: [u8; 4], to: [u8; 4], protocol: u8, payload: &[u8]) -> Vec<u8> {
    let len = u16::try_from(20 + payload.len()).unwrap().to_be_bytes();
    let start = [0x45, 0, len[0], len[1], 0, 1, 0, 0, 64, protocol, 0, 0];
    let mut header = [&start[..], &from, &to].concat();
    // A bridge may have netfilter look at IP, which then wants the sum to be right.
    let words = header
        .chunks(2)
        .map(|word| u32::from(word[0]) << 8 | u32::from(word[1]));
    let sum: u32 = words.sum();
    let sum = !u16::try_from((sum & 0xffff) + (sum >> 16)).unwrap();
    header[10..12].copy_from_slice(&sum.to_be_bytes());
    [&header[..], payload].concat()
}

pub(super) fn ip6(from: &str, to: &str, next: u8, payload: &[u8]) -> Vec<u8> {
    let len = u16::try_from(payload.len()).unwrap().to_be_bytes();
    let start = [0x60, 0, 0, 0, len[0], len[1], next, 255];
    [&start[..], &v6(from), &v6(to), payload].concat()
}

pub(super) fn v6(text: &str) -> [u8; 16] {
    text.parse::<Ipv6Addr>().unwrap().octets()
}

pub(super) fn ports(from: u16, to: u16, payload: &[u8]) -> Vec<u8> {
    let len = u16::try_from(8 + payload.len()).unwrap().to_be_bytes();
    let (from, to) = (from.to_be_bytes(), to.to_be_bytes());
    [&from[..], &to, &len, &[0, 0], payload].concat()
}

pub(super) fn tcp(from: u16, to: u16) -> Vec<u8> {
    let (from, to) = (from.to_be_bytes(), to.to_be_bytes());
    // A SYN.
    let rest = [0, 0, 0, 1, 0, 0, 0, 0, 0x50, 2, 0xff, 0xff, 0, 0, 0, 0];
    [&from[..], &to, &rest].concat()
}

pub(super) fn arp(op: u8, mac: [u8; 6], ip: [u8; 4]) -> Vec<u8> {
    let start = [0, 1, 8, 0, 6, 4, 0, op];
    [&start[..], &mac, &ip, &[0; 6], &PEER4].concat()
}

pub(super) fn dhcp(chaddr: [u8; 6]) -> Vec<u8> {
    let mut message = vec![0; 240];
    message[28..34].copy_from_slice(&chaddr);
    ports(68, 67, &message)
}

/// ICMPv6 of that type with a target, and options.
pub(super) fn nd(kind: u8, target: &str, options: &[u8]) -> Vec<u8> {
    [&[kind, 0, 0, 0, 0, 0, 0, 0][..], &v6(target), options].concat()
}

/// An option with a link-layer address.
pub(super) fn lla(kind: u8, mac: [u8; 6]) -> Vec<u8> {
    [&[kind, 1][..], &mac].concat()
}

pub(super) fn own4(to: [u8; 4], protocol: u8, payload: &[u8]) -> Vec<u8> {
    ether(IP4, &ip4(OWN4, to, protocol, payload))
}

pub(super) fn own6(next: u8, payload: &[u8]) -> Vec<u8> {
    ether(IP6, &ip6(OWN6, PEER6, next, payload))
}

pub(super) fn no4() -> [u8; 4] {
    Ipv4Addr::UNSPECIFIED.octets()
}
