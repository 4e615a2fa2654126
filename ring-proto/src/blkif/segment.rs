//! The pieces of guest memory that a transfer goes to or comes from.

use std::fmt;

use super::{Geometry, RawRequest, Why};
use crate::ids::{GrantRef, Sector};

/// A read or write between one extent of the disk and some pieces of guest pages.
///
/// Having one tells you that there is at least one segment and at most as many as were offered; that
/// the extent is exactly as long as all segments together, lies inside the disk and on whole logical
/// blocks; and that its end in bytes fits an `i64`, as offsets in files must.
/// It does not tell that any grant exists or that two segments are different pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transfer<'r> {
    sector: Sector,
    sectors: u32,
    segments: Segments<'r>,
}

impl<'r> Transfer<'r> {
    /// Where on the disk it starts.
    #[must_use]
    pub const fn sector(&self) -> Sector {
        self.sector
    }

    /// Length in 512-byte sectors, at least 1 and at most 8 for each segment.
    #[must_use]
    pub const fn sectors(&self) -> u32 {
        self.sectors
    }

    /// Where on the disk it starts, in bytes.
    #[must_use]
    pub const fn offset(&self) -> u64 {
        self.sector.raw() * Sector::BYTES
    }

    /// Length in bytes, at most 16 MiB.
    #[must_use]
    pub const fn bytes(&self) -> u32 {
        self.sectors * 512
    }

    /// The pieces of guest memory, in the order of the disk.
    #[must_use]
    pub const fn segments(&self) -> Segments<'r> {
        self.segments
    }

    /// Judges the first `count` segments in a slot.
    #[inline]
    pub(super) fn direct(raw: &'r RawRequest, count: u8, geometry: &Geometry) -> Result<Self, Why> {
        let descriptors = raw.segments();
        let segments = descriptors.get(..usize::from(count)).unwrap_or(descriptors);
        Self::judge(raw.sector(), segments, geometry)
    }

    /// Judges segments, and the extent that they make up. There are at most 4096 of them.
    #[inline]
    pub(super) fn judge(
        sector: u64,
        descriptors: &'r [[u32; 2]],
        geometry: &Geometry,
    ) -> Result<Self, Why> {
        let segments = Segments { descriptors };
        let mut sectors = 0;
        for (index, segment) in (0..).zip(segments) {
            segment.judge(index, geometry)?;
            sectors += segment.sectors();
        }
        if !geometry.sector_size.divides(sector) {
            return Err(Why::Misaligned {
                sector,
                block: geometry.sector_size.bytes(),
            });
        }
        let sector = inside(sector, u64::from(sectors), geometry)?;
        Ok(Self {
            sector,
            sectors,
            segments,
        })
    }
}

/// Whether `count` sectors from `sector` on are inside the disk, and its start if they are.
#[inline]
pub(super) fn inside(sector: u64, count: u64, geometry: &Geometry) -> Result<Sector, Why> {
    let disk = geometry.sectors.raw();
    match sector.checked_add(count) {
        Some(end) if end <= disk && end <= LAST_SECTOR => Ok(Sector::new(sector)),
        _ => Err(Why::OutsideDisk {
            sector,
            count,
            disk,
        }),
    }
}

/// The segments of one transfer, still in the private copy of the request.
///
/// Iterating is as cheap as over a slice. All of them have been judged: see [`Segment`].
#[derive(Clone, Copy)]
pub struct Segments<'r> {
    descriptors: &'r [[u32; 2]],
}

impl Segments<'_> {
    /// How many, at least 1.
    #[expect(
        clippy::len_without_is_empty,
        reason = "a transfer has at least one segment"
    )]
    #[must_use]
    pub const fn len(&self) -> usize {
        self.descriptors.len()
    }
}

impl<'r> IntoIterator for Segments<'r> {
    type Item = Segment;
    type IntoIter = SegmentIter<'r>;

    #[inline]
    fn into_iter(self) -> SegmentIter<'r> {
        SegmentIter {
            descriptors: self.descriptors.iter(),
        }
    }
}

impl PartialEq for Segments<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.into_iter().eq(*other)
    }
}

impl Eq for Segments<'_> {}

impl fmt::Debug for Segments<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(*self).finish()
    }
}

/// Iterates over [`Segments`].
#[derive(Clone, Debug)]
pub struct SegmentIter<'r> {
    descriptors: std::slice::Iter<'r, [u32; 2]>,
}

impl Iterator for SegmentIter<'_> {
    type Item = Segment;

    #[inline]
    fn next(&mut self) -> Option<Segment> {
        self.descriptors
            .next()
            .map(|descriptor| Segment::decode(*descriptor))
    }

    #[inline]
    fn size_hint(&self) -> (usize, Option<usize>) {
        self.descriptors.size_hint()
    }
}

impl ExactSizeIterator for SegmentIter<'_> {}

/// A run of 512-byte sectors inside one page of guest memory.
///
/// Having one tells you that `first_sect <= last_sect <= 7` and that the length is a whole number of
/// logical blocks. It does not tell that the grant exists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    gref: GrantRef,
    first_sect: u8,
    last_sect: u8,
}

impl Segment {
    /// Layout of a descriptor, in all ABIs and in descriptor pages: grant reference in the first
    /// word; first sector, last sector and two bytes of padding in the second.
    #[inline]
    const fn decode([gref, sectors]: [u32; 2]) -> Self {
        let [first_sect, last_sect, ..] = sectors.to_le_bytes();
        Self {
            gref: GrantRef::new(gref),
            first_sect,
            last_sect,
        }
    }

    #[inline]
    fn judge(self, index: u16, geometry: &Geometry) -> Result<(), Why> {
        let (first, last) = (self.first_sect, self.last_sect);
        if first > last || last >= SECTORS_PER_PAGE {
            return Err(Why::Segment { index, first, last });
        }
        if !geometry.sector_size.divides(u64::from(self.sectors())) {
            let block = geometry.sector_size.bytes();
            return Err(Why::SegmentLength {
                index,
                sectors: self.sectors(),
                block,
            });
        }
        Ok(())
    }

    /// The page.
    #[must_use]
    pub const fn gref(self) -> GrantRef {
        self.gref
    }

    /// First sector in the page, 0 to 7.
    #[must_use]
    pub const fn first_sect(self) -> u8 {
        self.first_sect
    }

    /// Last sector in the page, 0 to 7, not less than the first.
    #[must_use]
    pub const fn last_sect(self) -> u8 {
        self.last_sect
    }

    /// Length in 512-byte sectors, 1 to 8.
    #[inline]
    #[must_use]
    pub const fn sectors(self) -> u32 {
        (self.last_sect as u32 + 1).saturating_sub(self.first_sect as u32)
    }

    /// Where it starts in the page, in bytes.
    #[inline]
    #[must_use]
    pub const fn offset(self) -> u16 {
        self.first_sect as u16 * 512
    }

    /// Length in bytes, 512 to 4096.
    #[inline]
    #[must_use]
    pub const fn bytes(self) -> u16 {
        (self.last_sect as u16 + 1).saturating_sub(self.first_sect as u16) * 512
    }
}

/// Sectors of 512 bytes in a page of 4096.
const SECTORS_PER_PAGE: u8 = 8;

/// The last sector number whose offset in bytes fits an `i64`.
const LAST_SECTOR: u64 = i64::MAX as u64 / Sector::BYTES;
