//! The disk as requests are judged against it.

use std::num::NonZeroU32;

use crate::ids::Sector;

/// What a disk is and what its backend has offered. The host's word, not the guest's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Geometry {
    /// Size of the disk.
    pub sectors: Sector,
    /// The logical block: the unit that requests must start on and consist of.
    pub sector_size: SectorSize,
    /// Whether everything that writes is refused.
    pub read_only: bool,
    /// How the disk discards, if that was offered.
    pub discard: Option<DiscardLimits>,
    /// Most segments of an indirect request, as offered; 0 if not. More than
    /// [`MAX_INDIRECT_SEGMENTS`](super::MAX_INDIRECT_SEGMENTS) is taken for that.
    pub max_indirect_segments: u16,
}

/// A logical block size that guests can use: 512, 1024, 2048 or 4096 bytes.
///
/// A larger one would make every request invalid: segments are multiples of it, and at most a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SectorSize {
    /// 512-byte sectors in a block, less one.
    mask: u8,
}

impl SectorSize {
    /// The size that is right unless the disk cannot do it.
    pub const B512: Self = Self { mask: 0 };
    /// One page.
    pub const B4096: Self = Self { mask: 7 };

    /// The block size `bytes`; `None` if guests cannot use it.
    #[must_use]
    pub const fn new(bytes: u32) -> Option<Self> {
        match bytes {
            512 => Some(Self::B512),
            1024 => Some(Self { mask: 1 }),
            2048 => Some(Self { mask: 3 }),
            4096 => Some(Self::B4096),
            _ => None,
        }
    }

    /// Bytes in a block.
    #[must_use]
    pub const fn bytes(self) -> u32 {
        (self.mask as u32 + 1) * 512
    }

    /// Whether `sectors` is a whole number of blocks.
    #[inline]
    pub(super) const fn divides(self, sectors: u64) -> bool {
        sectors & self.mask as u64 == 0
    }
}

/// How a disk discards, as `discard-granularity` and `discard-alignment` say to the guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DiscardLimits {
    /// Size of the units that can be discarded, in 512-byte sectors.
    pub granularity: NonZeroU32,
    /// Where the first unit starts, in 512-byte sectors from the start of the disk.
    pub alignment: u32,
    /// Whether secure erasure (`discard-secure`) was offered.
    pub secure: bool,
}
