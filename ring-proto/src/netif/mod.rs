//! netif, the network protocol (`xen/include/public/io/netif.h`, and Linux's copy of it).
//!
//! The names are the guest's: it *transmits* what the backend takes from it, and *receives* what the
//! backend brings.
//!
//! ```text
//! tx ring ─ TxRing::take ─► Assembler     slots become packets, over as many sweeps as it takes
//!                             Verdict::Packet(TxPacket)   what may be copied and sent on
//!                             Verdict::Multicast(edit)    no packet, a change of a list
//!                             Verdict::Bad(BadPacket)     one packet is refused
//!                             TxFault                     the connection is over
//!   TxRing::settle(receipt, status), publish ─► ring      in any order; answers leave in theirs
//!
//! frame ─ RxFeatures::plan ─► RxPlan      how many requests it needs, and whether it was agreed to
//!   RxRing::place ─► pieces to copy, RxRing::publish ─► ring
//!
//! control ring ─► ControlRequest::parse ─► ControlResponse
//! ```
//!
//! On both data rings the answer to a request stands in the request's own slot: frontends know
//! nothing else of an answer that carries extra information. [`TxRing`] and [`RxRing`] keep what
//! they owe themselves, so there is nothing to answer in the wrong order.
//!
//! The walk of a packet, and of a frame:
//!
//! ```
//! # use ring_proto::netif::{Headroom, RX_RING, RxFeatures, RxOffload, RxRing, RxSent, TX_RING};
//! # use ring_proto::netif::{TxOffer, TxRing, TxSent, TxStatus, Verdict};
//! # use ring_proto::{FrontRing, GrantRef, Notify};
//! # use std::sync::{Arc, atomic::AtomicU32};
//! # let page = || -> Arc<[AtomicU32]> { (0..1024).map(|_| AtomicU32::new(0)).collect() };
//! # let (tx_page, rx_page) = (page(), page());
//! # let mut tx_front = FrontRing::init(tx_page.clone(), TX_RING)?;
//! # let sent = TxSent::Data { gref: GrantRef::new(8), offset: 0, flags: 0, id: 1, size: 60 };
//! # tx_front.push_request(&sent.encode())?;
//! # assert_eq!(tx_front.publish(), Notify::Needed);
//! # let mut rx_front = FrontRing::init(rx_page.clone(), RX_RING)?;
//! # rx_front.push_request(&RxSent { id: 0, gref: GrantRef::new(9) }.encode())?;
//! # assert_eq!(rx_front.publish(), Notify::Needed);
//! # let offer = TxOffer { max_frame: 1518, gso_v4: true, gso_v6: true,
//! #     gso_floor: std::num::NonZeroU16::MIN };
//! # let features = RxFeatures { sg: true, blank_v4: true, blank_v6: true, gso_v4: false,
//! #     gso_v6: false, hash: false, headroom: Headroom::NONE };
//! let mut tx = TxRing::attach(tx_page, offer)?;
//! while let Some((receipt, verdict)) = tx.take()? {
//!     let status = match verdict {
//!         Verdict::Packet(packet) => {
//!             for fragment in packet.fragments {
//!                 // copy it, with those of other packets in one batch
//! #               assert_eq!((fragment.gref(), fragment.len()), (GrantRef::new(8), 60));
//!             }
//!             TxStatus::Okay
//!         }
//!         Verdict::Multicast(_) => TxStatus::Okay,
//!         Verdict::Bad(_) => TxStatus::Error,
//!     };
//!     tx.settle(receipt, status); // when it is known, for each packet at its own time
//! }
//! let wake = tx.publish();
//!
//! let mut rx = RxRing::attach(rx_page)?;
//! let most = features.most_requests(1500);
//! if rx.waiting(most)? >= most {
//!     // a frame may be fetched: whatever it is, there is room for it
//!     let plan = features.plan(60, RxOffload::Plain, None)?;
//!     let mut pieces = Vec::new(); // in practice the batch of copies
//!     assert!(rx.place(&plan, |piece| pieces.push(piece))?);
//!     // copy them, and rx.fail(piece.slot) each that cannot be
//! #   assert_eq!(pieces[0].gref, GrantRef::new(9));
//!     let wake = rx.publish();
//! }
//! let asleep = !rx.rearm(most)?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod assembler;
mod control;
mod extra;
mod frontend;
mod offload;
mod reject;
mod rx_plan;
mod rx_ring;
mod tx_packet;
mod tx_ring;

pub use assembler::{Assembled, Assembler, TxOffer, Verdict};
pub use control::{
    ControlEcho, ControlMessage, ControlReject, ControlRequest, ControlResponse, ControlStatus,
    HashAlgorithm, HashKinds, Refusal,
};
pub use extra::Extra;
pub use frontend::{ControlAnswer, ControlSent, RxAnswer, RxSent, TxAnswer, TxSent};
pub use offload::{Gso, Hash, HashKind, Ip};
pub use reject::{BadPacket, TxFault};
pub use rx_plan::{Headroom, RxFeatures, RxOffload, RxPlan, RxRefusal};
pub use rx_ring::{RxPiece, RxRing, RxSlot};
pub use tx_packet::{Fragment, MulticastEdit, TxChecksum, TxPacket};
pub use tx_ring::{Receipt, TxRing, TxStatus};

use crate::shared::RingShape;

/// The transmit ring: 256 slots of 12 bytes in one page.
pub const TX_RING: RingShape = RingShape::known(256, TX_WORDS);

/// The receive ring: 256 slots of 8 bytes in one page.
pub const RX_RING: RingShape = RingShape::known(256, RX_WORDS);

/// The control ring: 128 slots of 16 bytes in one page.
pub const CONTROL_RING: RingShape = RingShape::known(128, CONTROL_WORDS);

/// Words of a transmit request.
pub const TX_WORDS: usize = 3;

/// Words of a receive request, and of its response.
pub const RX_WORDS: usize = 2;

/// Words of a control request.
pub const CONTROL_WORDS: usize = 4;

/// Slots with data that a packet from a guest may have: the first, and
/// `XEN_NETIF_NR_SLOTS_MIN` = 18 behind it.
///
/// The header names 18; Linux counts the first one extra (`xenvif_count_requests`), and its own
/// frontends have come to use all 19.
pub const MAX_TX_SLOTS: usize = 19;

/// Slots with data that a packet may have without being an attack: Linux's `fatal_skb_slots` of 20,
/// and the first.
pub const FATAL_TX_SLOTS: usize = 21;

/// Extra infos that one packet may have: one of each type that there is.
pub const MAX_EXTRAS: u8 = 5;

/// Length of an Ethernet header, and so of the shortest frame.
pub const MIN_FRAME: u32 = 14;

/// Length of the longest frame for a guest: the longest IP packet, an Ethernet header and a VLAN tag.
pub const MAX_RX_FRAME: u32 = 65_535 + 14 + 4;

/// Bytes in a page, whatever the guest's own idea of pages.
const PAGE: u32 = 4096;

/// Flags of transmit requests (`NETTXF_*`). Two of them have each other's numbers in [`rx_flag`].
pub mod tx_flag {
    /// The transport checksum is of the pseudo header only.
    pub const CSUM_BLANK: u16 = 1;
    /// The guest says that the transport checksum is right.
    pub const DATA_VALIDATED: u16 = 2;
    /// The packet goes on in another slot.
    pub const MORE_DATA: u16 = 4;
    /// Extra infos come next.
    pub const EXTRA_INFO: u16 = 8;
}

/// Flags of receive responses (`NETRXF_*`).
pub mod rx_flag {
    /// The transport checksum is right, or nothing on the way can have damaged the data.
    pub const DATA_VALIDATED: u16 = 1;
    /// The transport checksum is of the pseudo header only.
    pub const CSUM_BLANK: u16 = 2;
    /// The packet goes on in another slot.
    pub const MORE_DATA: u16 = 4;
    /// Extra infos come next.
    pub const EXTRA_INFO: u16 = 8;
}

/// Types of control messages (`XEN_NETIF_CTRL_TYPE_*`).
pub mod control_type {
    /// Which kinds of hash there are.
    pub const GET_HASH_FLAGS: u16 = 1;
    /// Which kinds of hash to compute.
    pub const SET_HASH_FLAGS: u16 = 2;
    /// The key of the hash.
    pub const SET_HASH_KEY: u16 = 3;
    /// How many entries the table from hash to queue can have.
    pub const GET_HASH_MAPPING_SIZE: u16 = 4;
    /// How many entries it has.
    pub const SET_HASH_MAPPING_SIZE: u16 = 5;
    /// Some of its entries.
    pub const SET_HASH_MAPPING: u16 = 6;
    /// How to hash.
    pub const SET_HASH_ALGORITHM: u16 = 7;
    /// How many grants can stay mapped.
    pub const GET_GREF_MAPPING_SIZE: u16 = 8;
    /// Map grants for good.
    pub const ADD_GREF_MAPPING: u16 = 9;
    /// Unmap them.
    pub const DEL_GREF_MAPPING: u16 = 10;
}
