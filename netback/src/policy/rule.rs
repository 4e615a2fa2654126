//! One rule.

use serde::{Deserialize, Serialize};

use super::Remotes;

/// A rule: what it matches, and what becomes of that. What is `None` or empty matches anything.
///
/// Rules match IPv4 and IPv6 packets. ARP and ND, which carry no flows, are the guards' matter, and
/// always pass the rules; so does what is no IP at all.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// Which way the packet goes; of a stateful rule, that of a flow's first packet.
    pub direction: Direction,
    /// The transport.
    pub protocol: Protocol,
    /// The other end's addresses: the destination out, the source in.
    pub remote: Remotes,
    /// Destination ports of TCP and UDP; empty: any.
    pub ports: Vec<PortRange>,
    /// Source ports of TCP and UDP; empty: any.
    pub source_ports: Vec<PortRange>,
    /// What becomes of it.
    pub action: Action,
    /// Accepts the flow, and not only the packet: what belongs to it, either way, passes before all
    /// rules. Only rules that accept are stateful.
    pub stateful: bool,
    /// Packets (of a stateful rule: flows) that it matches in a second; beyond, it does not match.
    pub limit: Option<u32>,
    /// A sample of what it matches is logged.
    pub log: bool,
}

/// Which way, as the guest sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Direction {
    /// From the guest.
    Out,
    /// To the guest.
    In,
}

impl Direction {
    /// As it is written in policies, in names of the kernel's chains, and for people.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Out => "out",
            Self::In => "in",
        }
    }
}

/// A transport protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Protocol {
    /// All of IPv4 and IPv6.
    Any,
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// ICMP of IPv4.
    Icmp,
    /// ICMPv6, but for ND, which the guards judge.
    Icmp6,
    /// The protocol with this number.
    Number(u8),
}

/// What becomes of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Action {
    /// It passes.
    Accept,
    /// It is dropped.
    Drop,
    /// It is dropped, and who has sent it is told (TCP reset, ICMP unreachable), where the kernel can
    /// tell him; dropped where not.
    Reject,
}

/// Ports, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PortRange {
    /// The first.
    pub first: u16,
    /// The last, not below the first.
    pub last: u16,
}
