//! Discards: which whole units may be forgotten.

use super::{DiscardLimits, Geometry, RawRequest, Why, segment::inside};
use crate::ids::Sector;

/// Sectors whose contents the guest does not need any more.
///
/// Having one tells you that discard was offered and the disk is writable, and that the extent lies
/// inside the disk and inside what the guest named, and consists of whole units of the disk's
/// granularity. It may be empty: then there is nothing to do, and the answer is still OKAY.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    sector: Sector,
    sectors: u64,
    secure: bool,
}

impl Extent {
    const EMPTY: Self = Self {
        sector: Sector::new(0),
        sectors: 0,
        secure: false,
    };

    pub(super) fn parse(raw: &RawRequest, geometry: &Geometry) -> Result<Self, Why> {
        let limits = geometry.discard.ok_or(Why::DiscardNotOffered)?;
        if geometry.read_only {
            return Err(Why::ReadOnly);
        }
        let (first, count) = (raw.sector(), raw.discard_sectors());
        if count == 0 {
            return Ok(Self::EMPTY);
        }
        inside(first, count, geometry)?;
        // The flag of a guest that was not offered secure erasure means nothing (blkif.h).
        let secure = limits.secure && raw.discard_flags() & SECURE != 0;
        let units = limits.whole_units(first, count);
        if secure && units != (first, count) {
            // Rounding would leave sectors that the guest believes erased.
            let granularity = limits.granularity.get();
            return Err(Why::SecureUnaligned {
                sector: first,
                count,
                granularity,
            });
        }
        let (sector, sectors) = units;
        if sectors == 0 {
            return Ok(Self::EMPTY);
        }
        Ok(Self {
            sector: Sector::new(sector),
            sectors,
            secure,
        })
    }

    /// Where it starts.
    #[must_use]
    pub const fn sector(self) -> Sector {
        self.sector
    }

    /// Length in 512-byte sectors, possibly 0.
    #[must_use]
    pub const fn sectors(self) -> u64 {
        self.sectors
    }

    /// Where it starts, in bytes.
    #[must_use]
    pub const fn offset(self) -> u64 {
        self.sector.raw() * Sector::BYTES
    }

    /// Length in bytes, possibly 0. Start and length together fit an `i64`.
    #[must_use]
    pub const fn bytes(self) -> u64 {
        self.sectors * Sector::BYTES
    }

    /// Whether there is nothing to discard.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.sectors == 0
    }

    /// Whether the contents must be unrecoverable afterwards.
    #[must_use]
    pub const fn is_secure(self) -> bool {
        self.secure
    }
}

impl DiscardLimits {
    /// The units that lie wholly inside `count` sectors from `first` on, which are inside a disk.
    ///
    /// Inwards, never outwards: the rest of a cut unit is a neighbour's data.
    fn whole_units(self, first: u64, count: u64) -> (u64, u64) {
        let unit = u64::from(self.granularity.get());
        let alignment = u64::from(self.alignment) % unit;
        let end = first + count;
        // Both on the grid alignment + k * unit. Inside a disk sectors are below 2^54 and a unit is
        // below 2^32, so nothing overflows.
        let start = first + (alignment + unit - first % unit) % unit;
        let cut = (end % unit + unit - alignment) % unit;
        match end.checked_sub(cut) {
            Some(stop) if stop > start => (start, stop - start),
            _ => (first, 0),
        }
    }
}

/// `BLKIF_DISCARD_SECURE`.
const SECURE: u8 = 1;
