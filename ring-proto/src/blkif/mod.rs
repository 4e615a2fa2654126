//! blkif, the block protocol (`xen/include/public/io/blkif.h`).
//!
//! ```text
//! ring slot ─ RawRequest::take_from ─► RawRequest      what the guest says, one layout for all ABIs
//!   Request::parse(raw, geometry) ─► Request         what may be done, or a Reject
//!     Body::Indirect ─ resolve ────► Transfer        after its descriptor pages were copied
//!   Echo::{okay, failed, ..}      ─► Response ─ encode(abi) ─► ring words
//! ```
//!
//! All sector numbers and counts are in units of 512 bytes, whatever the disk's logical block size.

mod abi;
mod discard;
mod frontend;
mod geometry;
mod indirect;
mod raw;
mod reject;
mod request;
mod response;
mod segment;

pub use abi::{Abi, UnknownAbi};
pub use discard::Extent;
pub use frontend::{Answer, RawSegment, Sent, SentWords};
pub use geometry::{DiscardLimits, Geometry, SectorSize};
pub use indirect::Indirect;
pub use raw::RawRequest;
pub use reject::{Reject, Why};
pub use request::{Body, Request};
pub use response::{Echo, Response, ResponseWords, Status};
pub use segment::{Segment, SegmentIter, Segments, Transfer};

/// Words of the longest request of any ABI.
pub const REQUEST_WORDS: usize = 28;

/// Segments that fit into a slot (`BLKIF_MAX_SEGMENTS_PER_REQUEST`).
pub const MAX_DIRECT_SEGMENTS: usize = 11;

/// Pages of descriptors that an indirect request can name (`BLKIF_MAX_INDIRECT_PAGES_PER_REQUEST`).
pub const MAX_INDIRECT_PAGES: usize = 8;

/// Descriptors in one such page.
pub const SEGMENTS_PER_PAGE: usize = 512;

/// Segments that an indirect request can have at most, whatever was offered.
pub const MAX_INDIRECT_SEGMENTS: u16 = 4096;

/// Operation numbers (`BLKIF_OP_*`).
pub mod op {
    /// Disk to guest.
    pub const READ: u8 = 0;
    /// Guest to disk.
    pub const WRITE: u8 = 1;
    /// A write that orders all others. Never offered here: see [`Why::Barrier`](super::Why::Barrier).
    pub const WRITE_BARRIER: u8 = 2;
    /// Make completed writes durable.
    pub const FLUSH: u8 = 3;
    /// Forget the contents of an extent.
    pub const DISCARD: u8 = 5;
    /// A read or write whose segments are in pages of their own.
    pub const INDIRECT: u8 = 6;
}
