//! Why a frame is dropped.

use std::fmt;

/// The check that a frame did not pass, the first of them.
///
/// Names and their order are stable: counters and logs have them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Reason {
    /// A header that a check needs is cut off, or has an impossible length.
    Malformed,
    /// The Ethernet source is not the guest's.
    Mac,
    /// To a group of the link, or neither IP nor ARP.
    L2,
    /// A VLAN tag, or none.
    Vlan,
    /// ARP or RARP that speaks for another.
    Arp,
    /// Too much ARP.
    ArpRate,
    /// DHCP that is not a client's own, or from a server that is none.
    Dhcp,
    /// Too much DHCP.
    DhcpRate,
    /// What only routers say.
    Ra,
    /// Neighbour discovery that speaks for another.
    Nd,
    /// Too much neighbour discovery.
    NdRate,
    /// An IP source that is not the guest's, or headers that hide what follows.
    Ip,
    /// Too much broadcast and multicast.
    Storm,
    /// A rule says so.
    Rule,
    /// No rule matches, and the policy says so.
    Default,
}

impl Reason {
    /// All, in the order of their [`index`](Self::index).
    pub const ALL: [Self; 15] = [
        Self::Malformed,
        Self::Mac,
        Self::L2,
        Self::Vlan,
        Self::Arp,
        Self::ArpRate,
        Self::Dhcp,
        Self::DhcpRate,
        Self::Ra,
        Self::Nd,
        Self::NdRate,
        Self::Ip,
        Self::Storm,
        Self::Rule,
        Self::Default,
    ];

    /// How many there are.
    pub const COUNT: usize = Self::ALL.len();

    /// Its place among [`ALL`](Self::ALL).
    #[must_use]
    pub const fn index(self) -> usize {
        self as usize
    }

    /// Its name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::Mac => "mac",
            Self::L2 => "l2",
            Self::Vlan => "vlan",
            Self::Arp => "arp",
            Self::ArpRate => "arp-rate",
            Self::Dhcp => "dhcp",
            Self::DhcpRate => "dhcp-rate",
            Self::Ra => "ra",
            Self::Nd => "nd",
            Self::NdRate => "nd-rate",
            Self::Ip => "ip",
            Self::Storm => "storm",
            Self::Rule => "rule",
            Self::Default => "default",
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_reason_has_its_place_and_its_name() {
        for (place, reason) in Reason::ALL.into_iter().enumerate() {
            assert_eq!(reason.index(), place);
        }
        let names: BTreeSet<_> = Reason::ALL.map(Reason::name).into();
        assert_eq!(names.len(), Reason::COUNT);
    }
}
