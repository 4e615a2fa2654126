//! Why a request is not executed, and what the guest is told.

use std::fmt;

use super::{Echo, RawRequest, Response, Status, op};

/// A request that is answered without being executed. The guest's fault, and only this request's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reject {
    echo: Echo,
    why: Why,
}

impl Reject {
    #[cold]
    pub(super) fn of(raw: &RawRequest, why: Why) -> Self {
        Self {
            echo: Echo::new(raw.id(), raw.echoed_operation(), false),
            why,
        }
    }

    /// The request's id.
    #[must_use]
    pub const fn id(&self) -> u64 {
        self.echo.id()
    }

    /// The operation as the response repeats it.
    #[must_use]
    pub const fn operation(&self) -> u8 {
        self.echo.operation()
    }

    /// What is wrong with it.
    #[must_use]
    pub const fn why(&self) -> Why {
        self.why
    }

    /// The answer.
    pub fn response(&self) -> Response {
        Response::new(self.echo, Status::from(self))
    }
}

/// The one place where a refusal becomes a wire status.
impl From<&Reject> for Status {
    fn from(reject: &Reject) -> Self {
        match reject.why {
            // "I will never do this": the frontend stops asking. Said of reads and writes, Windows
            // frontends would take it for success, so it must not be said of them.
            Why::UnknownOperation(_) | Why::Barrier | Why::DiscardNotOffered => {
                match reject.echo.operation() {
                    op::READ | op::WRITE => Self::Error,
                    _ => Self::NotSupported,
                }
            }
            Why::NoSegments
            | Why::TooManySegments { .. }
            | Why::Segment { .. }
            | Why::SegmentLength { .. }
            | Why::OutsideDisk { .. }
            | Why::Misaligned { .. }
            | Why::ReadOnly
            | Why::IndirectNotOffered
            | Why::IndirectOperation(_)
            | Why::DescriptorsMissing { .. }
            | Why::SecureUnaligned { .. } => Self::Error,
        }
    }
}

impl fmt::Display for Reject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "operation {}: {}", self.operation(), self.why)
    }
}

impl std::error::Error for Reject {}

/// What is wrong with a request. Sectors are of 512 bytes; segments are counted from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// A read or write without segments.
    NoSegments,
    /// More segments than a slot holds, or than were offered.
    TooManySegments {
        /// Segments it says to have.
        segments: u16,
        /// Segments it may have.
        max: u16,
    },
    /// A segment that is not inside its page.
    Segment {
        /// Which one.
        index: u16,
        /// Its first sector.
        first: u8,
        /// Its last sector.
        last: u8,
    },
    /// A segment that is not a whole number of logical blocks.
    SegmentLength {
        /// Which one.
        index: u16,
        /// Its length.
        sectors: u32,
        /// Bytes in a logical block.
        block: u32,
    },
    /// Sectors that the disk does not have.
    OutsideDisk {
        /// The first one.
        sector: u64,
        /// How many.
        count: u64,
        /// How many the disk has.
        disk: u64,
    },
    /// A start inside a logical block.
    Misaligned {
        /// The start.
        sector: u64,
        /// Bytes in a logical block.
        block: u32,
    },
    /// A write, a flush with data or a discard on a read-only disk.
    ReadOnly,
    /// An indirect request that was not offered.
    IndirectNotOffered,
    /// An indirect request that wraps neither a read nor a write.
    IndirectOperation(u8),
    /// The copy of the descriptor pages is shorter than the request needs.
    DescriptorsMissing {
        /// Descriptors copied.
        copied: usize,
        /// Segments it has.
        promised: u16,
    },
    /// A secure discard of parts of units, of which the rest would stay readable.
    SecureUnaligned {
        /// The first sector.
        sector: u64,
        /// How many.
        count: u64,
        /// Sectors in a unit.
        granularity: u32,
    },
    /// A discard that was not offered.
    DiscardNotOffered,
    /// A write barrier. Never offered: frontends that know flushes prefer them (`xen-blkfront.c`),
    /// and a barrier would stall the ring.
    Barrier,
    /// A number that means nothing to us.
    UnknownOperation(u8),
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::NoSegments => f.write_str("no segments"),
            Self::TooManySegments { segments, max } => {
                write!(f, "{segments} segments, at most {max} allowed")
            }
            Self::Segment { index, first, last } => {
                write!(
                    f,
                    "segment {index}: sectors {first} to {last} of a page of 8"
                )
            }
            Self::SegmentLength {
                index,
                sectors,
                block,
            } => {
                write!(
                    f,
                    "segment {index}: {sectors} sectors are no multiple of {block} bytes"
                )
            }
            Self::OutsideDisk {
                sector,
                count,
                disk,
            } => {
                write!(f, "{count} sectors from {sector}, the disk has {disk}")
            }
            Self::Misaligned { sector, block } => {
                write!(f, "sector {sector} is no multiple of {block} bytes")
            }
            Self::ReadOnly => f.write_str("the disk is read-only"),
            Self::IndirectNotOffered => f.write_str("indirect requests were not offered"),
            Self::IndirectOperation(inner) => {
                write!(f, "indirect operation {inner} is neither read nor write")
            }
            Self::DescriptorsMissing { copied, promised } => {
                write!(f, "{copied} of {promised} segment descriptors")
            }
            Self::SecureUnaligned {
                sector,
                count,
                granularity,
            } => write!(
                f,
                "secure discard of {count} sectors from {sector} cuts units of {granularity}"
            ),
            Self::DiscardNotOffered => f.write_str("discard was not offered"),
            Self::Barrier => f.write_str("barriers were not offered"),
            Self::UnknownOperation(operation) => write!(f, "unknown operation {operation}"),
        }
    }
}
