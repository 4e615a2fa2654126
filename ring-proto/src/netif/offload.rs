//! What both directions say about a packet besides its bytes.

use std::fmt;
use std::num::NonZeroU16;

/// Which Internet protocol a packet belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Ip {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl fmt::Display for Ip {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::V4 => "IPv4",
            Self::V6 => "IPv6",
        })
    }
}

/// A TCP packet that stands for several, to be cut up by whoever cannot pass it on whole.
///
/// From a guest it is an allegation: that the packet is TCP at all, and of this protocol, only its
/// headers tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Gso {
    /// The protocol under TCP (`XEN_NETIF_GSO_TYPE_TCPV4`, `_TCPV6`).
    pub ip: Ip,
    /// Most bytes of payload in each of the pieces: the path's MSS.
    pub size: NonZeroU16,
}

/// A hash over a packet's addresses, computed by the side that sends it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Hash {
    /// Over which fields.
    pub kind: HashKind,
    /// The Toeplitz hash.
    pub value: u32,
}

/// Which fields a hash covers (`_XEN_NETIF_CTRL_HASH_TYPE_*`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum HashKind {
    /// IPv4 addresses.
    Ipv4,
    /// IPv4 addresses and TCP ports.
    Ipv4Tcp,
    /// IPv6 addresses.
    Ipv6,
    /// IPv6 addresses and TCP ports.
    Ipv6Tcp,
}

impl HashKind {
    /// All of them, in the order of their numbers.
    pub const ALL: [Self; 4] = [Self::Ipv4, Self::Ipv4Tcp, Self::Ipv6, Self::Ipv6Tcp];

    /// The number on the wire.
    #[must_use]
    pub const fn wire(self) -> u8 {
        match self {
            Self::Ipv4 => 0,
            Self::Ipv4Tcp => 1,
            Self::Ipv6 => 2,
            Self::Ipv6Tcp => 3,
        }
    }

    pub(super) const fn from_wire(number: u8) -> Option<Self> {
        match number {
            0 => Some(Self::Ipv4),
            1 => Some(Self::Ipv4Tcp),
            2 => Some(Self::Ipv6),
            3 => Some(Self::Ipv6Tcp),
            _ => None,
        }
    }
}
