//! The Xen split-driver wire: ids, ring arithmetic, blkif and netif messages.
//!
//! No I/O, no dependencies, no unsafe code: everything here is a function of words in memory that a
//! guest can write at any moment, and of what the host has decided.
//!
//! What holds throughout:
//!
//! 1. Shared memory is words of [`AtomicU32`](sync::AtomicU32) behind [`RingMemory`]. Nobody can hold a
//!    reference to a guest's bytes; each word of a request is read at most once, into private memory,
//!    and only that is parsed.
//! 2. A request that was taken is a [`Claim`]: one answer is owed, and answering uses it up.
//! 3. The guest's index is believed only as far as the ring reaches. An impossible one is an
//!    [`Overrun`], not an empty ring, and ends the connection.
//! 4. [`blkif::Request::parse`] is the only way to a request, [`blkif::Reject`] has its answer with it.
//! 5. Network rings are answered in their own order: [`netif::TxRing`] and [`netif::RxRing`] keep it.
//!
//! The walk of one request:
//!
//! ```
//! # use ring_proto::blkif::{Abi, Geometry, RawRequest, Request, SectorSize, Sent, RawSegment, Answer};
//! # use ring_proto::{BackRing, FrontRing, GrantRef, Notify, Sector};
//! # use std::sync::{Arc, atomic::AtomicU32};
//! # let abi = Abi::Native;
//! # let shape = abi.ring_shape(1).ok_or("no such ring")?;
//! # let page: Arc<[AtomicU32]> = (0..1024).map(|_| AtomicU32::new(0)).collect();
//! # let mut front = FrontRing::init(page.clone(), shape)?;
//! # let segments = [RawSegment::new(GrantRef::new(8), 0, 7)];
//! # let sent = Sent::Direct { operation: 0, nr_segments: 1, handle: 0, id: 1, sector: 0, segments: &segments };
//! # front.push_request(&sent.encode(abi))?;
//! # assert_eq!(front.publish(), Notify::Needed);
//! # let geometry = Geometry { sectors: Sector::new(8), sector_size: SectorSize::B512, read_only: false,
//! #     discard: None, max_indirect_segments: 0 };
//! let mut ring = BackRing::attach(page, shape)?;
//! let mut raw = RawRequest::default(); // in practice a fixed slot per request in flight
//! while let Some(claim) = raw.take_from(&mut ring, abi)? {
//!     let response = match Request::parse(&raw, &geometry) {
//!         Ok(request) => request.echo().okay(), // after doing what request.body says
//!         Err(reject) => reject.response(),
//!     };
//!     ring.respond(claim, &response.encode(abi));
//! }
//! if ring.publish() == Notify::Needed {
//!     // send an event
//! }
//! assert!(!ring.rearm()?, "more requests: take them before sleeping");
//! # assert_eq!(front.take_response()?.map(Answer::decode), Some(Answer { id: 1, operation: 0, status: 0 }));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
#![forbid(unsafe_code)]

mod back;
pub mod blkif;
mod front;
mod ids;
pub mod netif;
mod shared;
pub mod sync;

pub use back::{AttachError, BackRing, Claim, Indices, Overrun};
pub use front::{FrontRing, Full, ResponseOverrun};
pub use ids::{DomId, GrantRef, MacAddr, Sector};
pub use shared::{Notify, RingMemory, RingShape, TooSmall};
