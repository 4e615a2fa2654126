//! Extra information: slots between the first slot of a packet and its other data.

use super::{Gso, Hash, HashKind, Ip};
use crate::ids::MacAddr;

/// An extra info as it stands in a slot (`netif_extra_info`), true or not.
///
/// Layout: type in byte 0, flags in byte 1, six bytes that depend on the type. A transmit slot has
/// four bytes more, which mean nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extra {
    words: [u32; 2],
}

impl Extra {
    /// `XEN_NETIF_EXTRA_TYPE_GSO`.
    pub const GSO: u8 = 1;
    /// `XEN_NETIF_EXTRA_TYPE_MCAST_ADD`.
    pub const MULTICAST_ADD: u8 = 2;
    /// `XEN_NETIF_EXTRA_TYPE_MCAST_DEL`.
    pub const MULTICAST_DEL: u8 = 3;
    /// `XEN_NETIF_EXTRA_TYPE_HASH`.
    pub const HASH: u8 = 4;
    /// `XEN_NETIF_EXTRA_TYPE_XDP`, which only Linux's copy of the header has.
    pub const XDP: u8 = 5;

    /// An extra info that is the last of its packet.
    #[must_use]
    pub const fn new(kind: u8, body: [u8; 6]) -> Self {
        let [a, b, c, d, e, f] = body;
        Self {
            words: [
                u32::from_le_bytes([kind, 0, a, b]),
                u32::from_le_bytes([c, d, e, f]),
            ],
        }
    }

    /// How a packet is to be cut up.
    #[must_use]
    pub const fn gso(gso: Gso) -> Self {
        let [low, high] = gso.size.get().to_le_bytes();
        let kind = match gso.ip {
            Ip::V4 => GSO_TCPV4,
            Ip::V6 => GSO_TCPV6,
        };
        Self::new(Self::GSO, [low, high, kind, 0, 0, 0])
    }

    /// The hash of a packet.
    #[must_use]
    pub const fn hash(hash: Hash) -> Self {
        let [a, b, c, d] = hash.value.to_le_bytes();
        Self::new(Self::HASH, [hash.kind.wire(), TOEPLITZ, a, b, c, d])
    }

    /// How far into its page the data of a received packet starts.
    #[must_use]
    pub const fn xdp(headroom: u16) -> Self {
        let [low, high] = headroom.to_le_bytes();
        Self::new(Self::XDP, [low, high, 0, 0, 0, 0])
    }

    /// The same, with another one behind it (`XEN_NETIF_EXTRA_FLAG_MORE`).
    #[must_use]
    pub const fn followed(self) -> Self {
        let [first, second] = self.words;
        Self {
            words: [first | (MORE as u32) << 8, second],
        }
    }

    /// The extra info in a slot.
    #[must_use]
    pub const fn from_words(words: [u32; 2]) -> Self {
        Self { words }
    }

    /// The words for a slot.
    #[must_use]
    pub const fn words(self) -> [u32; 2] {
        self.words
    }

    /// Its type, any of 256.
    #[must_use]
    pub const fn kind(self) -> u8 {
        self.words[0].to_le_bytes()[0]
    }

    /// Whether it says that another one follows.
    #[must_use]
    pub const fn is_followed(self) -> bool {
        self.words[0].to_le_bytes()[1] & MORE != 0
    }

    /// The six bytes that depend on the type.
    #[must_use]
    pub const fn body(self) -> [u8; 6] {
        let [_, _, a, b] = self.words[0].to_le_bytes();
        let [c, d, e, f] = self.words[1].to_le_bytes();
        [a, b, c, d, e, f]
    }

    /// The address that a multicast edit names.
    pub(super) const fn address(self) -> MacAddr {
        MacAddr::new(self.body())
    }

    /// The size and type that a GSO extra names, whatever they are.
    pub(super) const fn raw_gso(self) -> (u16, u8) {
        let [low, high, kind, ..] = self.body();
        (u16::from_le_bytes([low, high]), kind)
    }

    /// The hash, if it is of a kind and an algorithm that we know.
    pub(super) fn known_hash(self) -> Option<Hash> {
        let [kind, algorithm, a, b, c, d] = self.body();
        let kind = HashKind::from_wire(kind).filter(|_| algorithm == TOEPLITZ)?;
        Some(Hash {
            kind,
            value: u32::from_le_bytes([a, b, c, d]),
        })
    }
}

/// `XEN_NETIF_EXTRA_FLAG_MORE`.
const MORE: u8 = 1;
/// `XEN_NETIF_GSO_TYPE_TCPV4`.
pub(super) const GSO_TCPV4: u8 = 1;
/// `XEN_NETIF_GSO_TYPE_TCPV6`.
pub(super) const GSO_TCPV6: u8 = 2;
/// `XEN_NETIF_CTRL_HASH_ALGORITHM_TOEPLITZ`.
const TOEPLITZ: u8 = 1;
