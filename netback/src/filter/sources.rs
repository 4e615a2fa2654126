//! Which addresses are the guest's own.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::policy::{Addresses, Mac, Prefix};

/// The addresses that a guest may call its own. All ranges have both ends.
#[derive(Debug)]
pub(super) struct Sources {
    v4: Vec<(u32, u32)>,
    v6: Vec<(u128, u128)>,
    /// That which follows from its MAC, or all of them.
    link_local: (u128, u128),
}

impl Sources {
    pub(super) fn new(addresses: &Addresses, mac: Mac) -> Self {
        let mut v4 = Vec::new();
        let mut v6 = Vec::new();
        for prefix in &addresses.own {
            match range(prefix) {
                Range::V4(range) => v4.push(range),
                Range::V6(range) => v6.push(range),
            }
        }
        v4.sort_unstable();
        v6.sort_unstable();
        let own = u128::from(link_local(mac));
        let link_local = if addresses.any_link_local {
            (LINK_LOCAL, LINK_LOCAL | u128::from(u64::MAX))
        } else {
            (own, own)
        };
        Self { v4, v6, link_local }
    }

    /// Is it the guest's?
    pub(super) fn has(&self, address: IpAddr) -> bool {
        match address {
            IpAddr::V4(address) => self.has_v4(address),
            IpAddr::V6(address) => self.has_v6(address),
        }
    }

    /// Is it the guest's?
    pub(super) fn has_v4(&self, address: Ipv4Addr) -> bool {
        holds(&self.v4, u32::from(address))
    }

    /// Is it the guest's, or link-local as it may be?
    pub(super) fn has_v6(&self, address: Ipv6Addr) -> bool {
        let address = u128::from(address);
        let (first, last) = self.link_local;
        (first..=last).contains(&address) || holds(&self.v6, address)
    }

    /// Has the guest no address of that family, so that none of it may leave?
    pub(super) fn lacks_family_of(&self, address: IpAddr) -> bool {
        match address {
            IpAddr::V4(_) => self.v4.is_empty(),
            IpAddr::V6(_) => self.v6.is_empty(),
        }
    }
}

/// Is it in one of the ranges, which are sorted and do not overlap?
fn holds<A: Copy + Ord>(ranges: &[(A, A)], address: A) -> bool {
    let below = ranges.partition_point(|&(first, _)| first <= address);
    let found = below.checked_sub(1).and_then(|at| ranges.get(at));
    found.is_some_and(|&(_, last)| address <= last)
}

/// The first and the last address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Range {
    /// IPv4.
    V4((u32, u32)),
    /// IPv6.
    V6((u128, u128)),
}

/// What a prefix holds.
pub(super) fn range(prefix: &Prefix) -> Range {
    let bits = u32::from(prefix.bits());
    // A shift by all bits there are is none that the language knows.
    match prefix.address() {
        IpAddr::V4(address) => {
            let first = u32::from(address);
            let rest = u32::MAX.checked_shr(bits).unwrap_or(0);
            Range::V4((first, first | rest))
        }
        IpAddr::V6(address) => {
            let first = u128::from(address);
            let rest = u128::MAX.checked_shr(bits).unwrap_or(0);
            Range::V6((first, first | rest))
        }
    }
}

/// The link-local address that follows from a MAC (RFC 4291, appendix A).
fn link_local(mac: Mac) -> Ipv6Addr {
    let [a, b, c, d, e, f] = mac.0;
    let id = u64::from_be_bytes([a ^ 2, b, c, 0xff, 0xfe, d, e, f]);
    Ipv6Addr::from(LINK_LOCAL | u128::from(id))
}

/// `fe80::`
const LINK_LOCAL: u128 = 0xfe80 << 112;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guest_has_what_it_was_given_and_one_link_local_address() {
        let own = ["192.0.2.7", "198.51.100.0/30", "2001:db8::/127"];
        let mut addresses = Addresses {
            own: own.iter().map(|text| text.parse().unwrap()).collect(),
            any_link_local: false,
        };
        let mac = Mac([0x00, 0x16, 0x3e, 0x0a, 0x0b, 0x0c]);
        let sources = Sources::new(&addresses, mac);
        let has = |sources: &Sources, text: &str| sources.has(text.parse().unwrap());
        for own in [
            "192.0.2.7",
            "198.51.100.0",
            "198.51.100.3",
            "2001:db8::",
            "2001:db8::1",
            "fe80::216:3eff:fe0a:b0c",
        ] {
            assert!(has(&sources, own), "{own}");
        }
        for other in [
            "192.0.2.6",
            "192.0.2.8",
            "198.51.100.4",
            "198.51.99.255",
            "0.0.0.0",
            "2001:db8::2",
            "2001:db7:ffff::",
            "fe80::216:3eff:fe0a:b0d",
            "::",
        ] {
            assert!(!has(&sources, other), "{other}");
        }
        addresses.any_link_local = true;
        let sources = Sources::new(&addresses, mac);
        assert!(has(&sources, "fe80::1") && has(&sources, "fe80::ffff:0:0:1"));
        assert!(!has(&sources, "fe80:0:0:1::1") && !has(&sources, "fe81::1"));
    }

    #[test]
    fn a_range_is_that_of_the_prefix() {
        for text in ["0.0.0.0/0", "::/0", "10.0.0.0/9", "2001:db8::/33", "::1"] {
            let prefix: Prefix = text.parse().unwrap();
            let (first, last): (IpAddr, IpAddr) = match range(&prefix) {
                Range::V4((a, b)) => (Ipv4Addr::from(a).into(), Ipv4Addr::from(b).into()),
                Range::V6((a, b)) => (Ipv6Addr::from(a).into(), Ipv6Addr::from(b).into()),
            };
            assert_eq!(first, prefix.address());
            assert!(prefix.has(first) && prefix.has(last), "{text}");
        }
    }
}
