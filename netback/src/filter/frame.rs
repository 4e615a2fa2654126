//! What a frame says in front of its IP header.

use crate::headers::u16_at;

/// The Ethernet header of a frame, and one VLAN tag.
///
/// Having one tells you that both are complete.
#[derive(Clone, Copy, Debug)]
pub(super) struct Frame<'a> {
    /// The first bytes of the frame.
    pub(super) head: &'a [u8],
    /// Ethernet destination.
    pub(super) to: [u8; 6],
    /// Ethernet source.
    pub(super) from: [u8; 6],
    /// The outer tag.
    pub(super) tag: Option<Tag>,
    /// What type the rest is of: an EtherType, that of a second tag, or a length.
    pub(super) kind: u16,
    /// Where the rest starts.
    pub(super) l3: usize,
}

/// A VLAN tag.
#[derive(Clone, Copy, Debug)]
pub(super) struct Tag {
    /// Its EtherType.
    pub(super) kind: u16,
    /// Of which VLAN.
    pub(super) vlan: u16,
}

impl<'a> Frame<'a> {
    /// Reads the headers; `None` if they are cut off. Tags are only looked for if `tags` says so:
    /// without, they are of a type like others.
    pub(super) fn parse(head: &'a [u8], tags: bool) -> Option<Self> {
        let (&to, rest) = head.split_first_chunk()?;
        let (&from, _) = rest.split_first_chunk()?;
        let kind = u16_at(head, 12)?;
        let plain = Self {
            head,
            to,
            from,
            tag: None,
            kind,
            l3: ETHERNET,
        };
        if !tags || !is_tag(kind) {
            return Some(plain);
        }
        let vlan = u16_at(head, ETHERNET)? & 0xfff;
        Some(Self {
            tag: Some(Tag { kind, vlan }),
            kind: u16_at(head, ETHERNET + 2)?,
            l3: ETHERNET + 4,
            ..plain
        })
    }
}

/// Is it the type of a VLAN tag?
pub(super) const fn is_tag(kind: u16) -> bool {
    matches!(kind, VLAN | 0x88a8 | 0x9100)
}

/// The type of 802.1Q's tags.
pub(super) const VLAN: u16 = 0x8100;
/// ARP's EtherType.
pub(super) const ARP: u16 = 0x0806;
/// RARP's EtherType.
pub(super) const RARP: u16 = 0x8035;

const ETHERNET: usize = 14;
