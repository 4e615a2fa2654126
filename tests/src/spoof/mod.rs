//! Frames that a guest sends to be taken for another, or to get past those who look; and beside them
//! what an honest guest sends, which must pass.
//!
//! Each has a name, and what becomes of it under the policy `locked`: judged alone, for there are
//! limits of how many a second pass (10 of DHCP, 50 of ARP, 50 of neighbour discovery, 200 to
//! groups).

mod arp;
mod build;
mod dhcp;
mod ethernet;
mod extensions;
mod ipv4;
mod ipv6;
mod nd;
mod routers;
mod vlan;

use std::net::{Ipv4Addr, Ipv6Addr};

/// Who is on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Site {
    /// The attacker, as it is known to the host.
    pub own: Station,
    /// A guest beside it.
    pub neighbour: Station,
    /// The way out.
    pub gateway: Station,
}

/// One who is on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Station {
    /// Its Ethernet address.
    pub mac: [u8; 6],
    /// Its only IPv4 address.
    pub v4: Ipv4Addr,
    /// Its only IPv6 address, beside the link-local one.
    pub v6: Ipv6Addr,
}

/// A frame, and what becomes of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spoof {
    /// What it is, in a few words; no other has the same name.
    pub name: String,
    /// Its bytes; no other has the same.
    pub frame: Vec<u8>,
    /// What becomes of it.
    pub expect: Expect,
}

/// What becomes of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expect {
    /// It passes.
    Pass,
    /// It is dropped, for the reason of that name.
    Drop(&'static str),
}

impl Station {
    /// The link-local address that follows from its MAC.
    #[must_use]
    pub fn link_local(&self) -> Ipv6Addr {
        let [a, b, c, d, e, f] = self.mac.map(u16::from);
        let words = [(a ^ 2) << 8 | b, c << 8 | 0xff, 0xfe00 | d, e << 8 | f];
        Ipv6Addr::new(0xfe80, 0, 0, 0, words[0], words[1], words[2], words[3])
    }
}

impl Site {
    /// One of the documentation's addresses.
    #[must_use]
    pub fn example() -> Self {
        let station = |last: u8| Station {
            mac: [0x00, 0x16, 0x3e, 0x5a, 0x0b, last],
            v4: Ipv4Addr::new(192, 0, 2, last),
            v6: Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, last.into()),
        };
        Self {
            own: station(7),
            neighbour: station(9),
            gateway: station(1),
        }
    }
}

/// Parts of the names of those that nftables does not see through, and the worker drops: behind an authentication header, which
/// nobody takes who has not agreed on a key; behind more extension headers than anybody sends; and
/// behind the end of the packet. What carries them has the guest's own addresses all the same.
pub const UNSEEN_BY_THE_KERNEL: [&str; 8] = [
    "behind an authentication header",
    "an authentication header of",
    "TCP behind 9 extension headers",
    "TCP behind 10 extension headers",
    "TCP behind 11 extension headers",
    "TCP behind 12 extension headers",
    "TCP that lies behind the packet's end",
    "TCP behind 256 bytes of options",
];

/// All frames.
#[must_use]
pub fn matrix(site: &Site) -> Vec<Spoof> {
    let mut list = List {
        site: *site,
        all: Vec::new(),
    };
    ethernet::add(&mut list);
    vlan::add(&mut list);
    arp::add(&mut list);
    ipv4::add(&mut list);
    dhcp::add(&mut list);
    ipv6::add(&mut list);
    nd::add(&mut list);
    routers::add(&mut list);
    extensions::add(&mut list);
    list.all
}

/// An honest datagram to a port of the neighbour.
#[must_use]
pub fn datagram(site: &Site, port: u16) -> Vec<u8> {
    let udp = build::udp(40000, port, b"datagram");
    let packet = build::Ip4::new(site.own.v4, site.neighbour.v4, 17, udp);
    build::ethernet(site.neighbour.mac, site.own.mac, 0x0800, &packet.bytes())
}

/// Frames, as they are collected.
#[derive(Debug)]
struct List {
    site: Site,
    all: Vec<Spoof>,
}

impl List {
    fn pass(&mut self, name: impl Into<String>, frame: Vec<u8>) {
        self.add(name.into(), frame, Expect::Pass);
    }

    fn drop(&mut self, reason: &'static str, name: impl Into<String>, frame: Vec<u8>) {
        self.add(name.into(), frame, Expect::Drop(reason));
    }

    fn add(&mut self, name: String, frame: Vec<u8>, expect: Expect) {
        self.all.push(Spoof {
            name,
            frame,
            expect,
        });
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use super::*;

    #[test]
    fn there_are_many_and_no_two_alike() {
        let all = matrix(&Site::example());
        assert!(all.len() >= 300, "{} are too few", all.len());
        let mut names = BTreeSet::new();
        let mut frames = BTreeMap::new();
        let mut alike = Vec::new();
        for Spoof { name, frame, .. } in &all {
            if !names.insert(name) {
                alike.push(format!("{name} stands twice"));
            }
            if let Some(other) = frames.insert(frame, name) {
                alike.push(format!("{name} says what {other} says"));
            }
            assert!(frame.len() <= 1514, "{name} is too long for the wire");
        }
        assert!(alike.is_empty(), "{}", alike.join("\n"));
        let passing = all.iter().filter(|spoof| spoof.expect == Expect::Pass);
        assert!(passing.count() >= 60);
    }

    #[test]
    fn a_link_local_address_is_made_of_the_mac() {
        let own = Site::example().own.link_local();
        assert_eq!(own.to_string(), "fe80::216:3eff:fe5a:b07");
    }
}
