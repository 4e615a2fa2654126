//! What is wrong with what a guest transmits: one packet, or all that it will ever say.

use std::fmt;

use super::Ip;
use crate::back::Overrun;

/// Why a packet is not sent on. The guest's fault, and only this packet's: its slots are answered
/// with an error, and the next ones are as good as any.
///
/// The line between these and [`TxFault`] is Linux's (`xen-netback/netback.c`), because frontends
/// have been written against it; what Linux does not refuse is only ever added here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum BadPacket {
    /// More slots than a backend has to take, and fewer than only an attacker uses.
    TooManySlots(u8),
    /// The fragments are longer than the packet. Frontends that send 64 KiB or more do that: the
    /// length overflows.
    Oversum {
        /// Bytes of the packet, as its first slot says.
        len: u16,
        /// Bytes of the slots behind the first.
        rest: u32,
    },
    /// No room for an Ethernet header.
    TooShort(u16),
    /// All bytes are in the slots behind the first (XSA-448).
    EmptyFirst,
    /// Longer than the interface takes, and not to be cut up.
    TooLong {
        /// Its bytes.
        len: u16,
        /// Bytes it may have.
        max: u32,
    },
    /// To be cut up in a way that does not exist.
    GsoType(u8),
    /// To be cut up in a way that was not offered.
    GsoNotOffered(Ip),
    /// To be cut into pieces so small that it would be an attack on who cuts.
    GsoSize {
        /// Bytes in a piece.
        size: u16,
        /// Fewest allowed.
        min: u16,
    },
}

impl fmt::Display for BadPacket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::TooManySlots(slots) => {
                write!(f, "{slots} slots, at most {} allowed", super::MAX_TX_SLOTS)
            }
            Self::Oversum { len, rest } => {
                write!(
                    f,
                    "{rest} bytes behind the first slot of a packet of {len} bytes"
                )
            }
            Self::TooShort(len) => write!(f, "{len} bytes, at least {} needed", super::MIN_FRAME),
            Self::EmptyFirst => f.write_str("nothing in the first slot"),
            Self::TooLong { len, max } => write!(f, "{len} bytes, at most {max} allowed"),
            Self::GsoType(kind) => write!(f, "GSO type {kind} is neither TCPv4 nor TCPv6"),
            Self::GsoNotOffered(ip) => write!(f, "GSO for {ip} was not offered"),
            Self::GsoSize { size, min } => {
                write!(f, "GSO into pieces of {size} bytes, at least {min} needed")
            }
        }
    }
}

impl std::error::Error for BadPacket {}

/// The guest breaks the protocol in a way that no driver does by mistake; the connection is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TxFault {
    /// The ring's index is impossible.
    Overrun(Overrun),
    /// A packet with more slots than any frontend uses.
    TooManySlots,
    /// A fragment that leaves its page.
    CrossesPage {
        /// Which slot with data, counted from 0.
        slot: u8,
        /// Where it starts in the page.
        offset: u16,
        /// Its bytes.
        len: u16,
    },
    /// An extra info of a type that does not exist.
    UnknownExtra(u8),
    /// More extra infos than there are types.
    TooManyExtras,
}

impl From<Overrun> for TxFault {
    fn from(overrun: Overrun) -> Self {
        Self::Overrun(overrun)
    }
}

impl fmt::Display for TxFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Overrun(overrun) => overrun.fmt(f),
            Self::TooManySlots => {
                write!(f, "a packet has more than {} slots", super::FATAL_TX_SLOTS)
            }
            Self::CrossesPage { slot, offset, len } => {
                write!(
                    f,
                    "slot {slot} of a packet: {len} bytes from {offset} leave the page"
                )
            }
            Self::UnknownExtra(kind) => write!(f, "unknown extra info type {kind}"),
            Self::TooManyExtras => {
                write!(
                    f,
                    "a packet has more than {} extra infos",
                    super::MAX_EXTRAS
                )
            }
        }
    }
}

impl std::error::Error for TxFault {}
