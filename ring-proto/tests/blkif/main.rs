//! blkif messages against the tables of the header, and against an independent reader.
#![cfg(not(loom))]
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "helpers of tests, which clippy does not see as such"
)]

mod answers;
mod discards;
mod indirect;
mod oracle;
mod properties;
mod requests;
mod rings;

use std::num::NonZeroU32;

use ring_proto::blkif::{
    Abi, DiscardLimits, Geometry, RawRequest, RawSegment, Reject, Request, SectorSize, Sent,
};
use ring_proto::{GrantRef, Sector};

pub(crate) const ABIS: [Abi; 2] = [Abi::Native, Abi::X86_32];

/// A writable disk of 1000 sectors that offers everything.
pub(crate) fn disk() -> Geometry {
    Geometry {
        sectors: Sector::new(1000),
        sector_size: SectorSize::B512,
        read_only: false,
        discard: Some(DiscardLimits {
            granularity: NonZeroU32::new(8).unwrap(),
            alignment: 0,
            secure: false,
        }),
        max_indirect_segments: 256,
    }
}

pub(crate) fn segment(first: u8, last: u8) -> RawSegment {
    RawSegment::new(GrantRef::new(77), first, last)
}

/// The words of a slot as a backend has copied them.
pub(crate) fn raw(abi: Abi, sent: Sent<'_>) -> RawRequest {
    let encoded = sent.encode(abi);
    assert_eq!(encoded.len(), abi.stride_words());
    let mut words = [0; 28];
    words[..encoded.len()].copy_from_slice(&encoded);
    RawRequest::decode(abi, words)
}

/// A request of one kind with one segment of one sector.
pub(crate) fn one_sector(operation: u8, sector: u64) -> RawRequest {
    let segments = [segment(0, 0)];
    raw(
        Abi::Native,
        Sent::Direct {
            operation,
            nr_segments: 1,
            handle: 0,
            id: 5,
            sector,
            segments: &segments,
        },
    )
}

pub(crate) fn refused(raw: &RawRequest, geometry: &Geometry) -> Reject {
    Request::parse(raw, geometry).unwrap_err()
}
