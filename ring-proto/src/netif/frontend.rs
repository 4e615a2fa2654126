//! The frontend's side of the messages: what tests, demos and benchmarks write and read.

use super::{CONTROL_WORDS, Extra, RX_WORDS, TX_WORDS};
use crate::ids::GrantRef;

/// What a frontend writes into a transmit slot, true or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TxSent {
    /// A slot with data (`netif_tx_request`).
    Data {
        /// The page.
        gref: GrantRef,
        /// Where in the page.
        offset: u16,
        /// Any of [`tx_flag`](super::tx_flag).
        flags: u16,
        /// Number of the slot.
        id: u16,
        /// Bytes of the whole packet in its first slot, else of the slot.
        size: u16,
    },
    /// A slot with an extra info.
    Extra(Extra),
}

impl TxSent {
    /// The words for a slot.
    #[must_use]
    pub const fn encode(self) -> [u32; TX_WORDS] {
        match self {
            Self::Data {
                gref,
                offset,
                flags,
                id,
                size,
            } => [
                gref.raw(),
                offset as u32 | (flags as u32) << 16,
                id as u32 | (size as u32) << 16,
            ],
            Self::Extra(extra) => {
                let [first, second] = extra.words();
                [first, second, 0]
            }
        }
    }
}

/// A transmit response as a frontend reads it: what the backend says, true or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TxAnswer {
    /// The slot's number, unless the status is [`NULL`](Self::NULL).
    pub id: u16,
    /// 0, -1, -2 or [`NULL`](Self::NULL), unless the backend is broken.
    pub status: i16,
}

impl TxAnswer {
    /// The status for extra infos (`NETIF_RSP_NULL`).
    pub const NULL: i16 = 1;

    /// Reads a response.
    #[must_use]
    pub const fn decode([word]: [u32; 1]) -> Self {
        let [a, b, c, d] = word.to_le_bytes();
        Self {
            id: u16::from_le_bytes([a, b]),
            status: i16::from_le_bytes([c, d]),
        }
    }
}

/// A buffer that a frontend offers for what it receives (`netif_rx_request`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RxSent {
    /// Number of the request.
    pub id: u16,
    /// The buffer, a page.
    pub gref: GrantRef,
}

impl RxSent {
    /// The words for a slot.
    #[must_use]
    pub const fn encode(self) -> [u32; RX_WORDS] {
        [self.id as u32, self.gref.raw()]
    }
}

/// A receive response as a frontend reads it, where it expects one with data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RxAnswer {
    /// The request's number.
    pub id: u16,
    /// Where in the buffer the data is.
    pub offset: u16,
    /// Any of [`rx_flag`](super::rx_flag).
    pub flags: u16,
    /// Bytes of data, or less than 0.
    pub status: i16,
}

impl RxAnswer {
    /// Reads a response. One that holds an extra info is for [`Extra::from_words`].
    #[must_use]
    pub const fn decode([place, data]: [u32; RX_WORDS]) -> Self {
        let [a, b, c, d] = place.to_le_bytes();
        let [e, f, g, h] = data.to_le_bytes();
        Self {
            id: u16::from_le_bytes([a, b]),
            offset: u16::from_le_bytes([c, d]),
            flags: u16::from_le_bytes([e, f]),
            status: i16::from_le_bytes([g, h]),
        }
    }
}

/// A control message as a frontend writes it, true or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ControlSent {
    /// Number of the request.
    pub id: u16,
    /// Any of [`control_type`](super::control_type).
    pub kind: u16,
    /// What depends on the type.
    pub data: [u32; 3],
}

impl ControlSent {
    /// The words for a slot.
    #[must_use]
    pub const fn encode(self) -> [u32; CONTROL_WORDS] {
        let [first, second, third] = self.data;
        [
            self.id as u32 | (self.kind as u32) << 16,
            first,
            second,
            third,
        ]
    }
}

/// A control response as a frontend reads it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ControlAnswer {
    /// The request's number.
    pub id: u16,
    /// The request's type.
    pub kind: u16,
    /// 0 to 3, unless the backend is broken.
    pub status: u32,
    /// What was asked for.
    pub data: u32,
}

impl ControlAnswer {
    /// Words to take from a response slot.
    pub const WORDS: usize = 3;

    /// Reads a response.
    #[must_use]
    pub const fn decode([head, status, data]: [u32; Self::WORDS]) -> Self {
        let [a, b, c, d] = head.to_le_bytes();
        Self {
            id: u16::from_le_bytes([a, b]),
            kind: u16::from_le_bytes([c, d]),
            status,
            data,
        }
    }
}
