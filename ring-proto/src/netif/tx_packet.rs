//! Packets from a guest, before any of their bytes were looked at.

use super::{Gso, Hash};
use crate::ids::{GrantRef, MacAddr};

/// A packet that may be copied from a guest's memory.
///
/// Having one tells you that there are 1 to 19 fragments, that each is inside its page, and that
/// together they are exactly `len` bytes: at least an Ethernet header, and at most what was offered
/// for a packet of its kind. It does not tell that any grant exists, nor that the bytes are what the
/// flags say: that is for who has copied them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TxPacket<'a> {
    /// Where the bytes are, in their order. None of them is empty.
    pub fragments: &'a [Fragment],
    /// Bytes in all, 14 to 65535.
    pub len: u16,
    /// What the guest says about the transport checksum.
    pub checksum: TxChecksum,
    /// How the packet is to be cut up, as was offered; `None` for an ordinary packet.
    pub gso: Option<Gso>,
    /// The hash the guest has computed, if it is of a kind that is known.
    pub hash: Option<Hash>,
}

/// A run of bytes inside one page of guest memory.
///
/// Having one tells you that it is not empty and does not leave its page.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Fragment {
    gref: GrantRef,
    offset: u16,
    len: u16,
}

impl Fragment {
    pub(super) const fn new(gref: GrantRef, offset: u16, len: u16) -> Self {
        Self { gref, offset, len }
    }

    /// The page.
    #[must_use]
    pub const fn gref(self) -> GrantRef {
        self.gref
    }

    /// Where it starts in the page, in bytes, 0 to 4095.
    #[must_use]
    pub const fn offset(self) -> u16 {
        self.offset
    }

    /// Length in bytes, 1 to 4096.
    #[expect(clippy::len_without_is_empty, reason = "it is never empty")]
    #[must_use]
    pub const fn len(self) -> u16 {
        self.len
    }
}

/// What a guest says about the TCP or UDP checksum of a packet. Never to be believed: no flag makes a
/// checksum right, and none says where it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TxChecksum {
    /// The field holds the sum of the pseudo header; the rest has to be added
    /// (`NETTXF_csum_blank`).
    Blank,
    /// The guest says that it has checked it (`NETTXF_data_validated`). The next guest must not be
    /// told so.
    SaidToBeRight,
    /// Nothing was said.
    Plain,
}

/// A change of the list of multicast addresses that a guest wants to hear. Comes instead of a packet,
/// and has no data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MulticastEdit {
    /// `XEN_NETIF_EXTRA_TYPE_MCAST_ADD`.
    Add(MacAddr),
    /// `XEN_NETIF_EXTRA_TYPE_MCAST_DEL`.
    Remove(MacAddr),
}
