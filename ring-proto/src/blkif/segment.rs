//! The pieces of guest memory that a transfer goes to or comes from.

use std::ops::Deref;

use super::{Geometry, MAX_DIRECT_SEGMENTS, MAX_INDIRECT_SEGMENTS, RawSegment, Why};
use crate::ids::{GrantRef, Sector};

/// A read or write between one extent of the disk and some pieces of guest pages.
///
/// Having one tells you that there is at least one segment and at most as many as were offered; that
/// the extent is exactly as long as all segments together, lies inside the disk and on whole logical
/// blocks; and that its end in bytes fits an `i64`, as offsets of files must.
/// It does not tell that any grant exists or that two segments are different pages.
#[derive(Debug, PartialEq, Eq)]
pub struct Transfer {
    sector: Sector,
    sectors: u32,
    segments: SegmentList,
}

impl Transfer {
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
    #[inline]
    #[must_use]
    pub fn segments(&self) -> &[Segment] {
        &self.segments
    }

    /// Gives the storage of a long segment list back for the next indirect request.
    pub fn recycle(self, room: &mut SegmentBuf) {
        if let List::Long(segments) = self.segments.list
            && room.segments.capacity() < segments.capacity()
        {
            room.segments = segments;
        }
    }

    /// Judges the extent, once the segments are.
    #[inline]
    fn on_disk(
        sector: u64,
        tally: &Tally,
        segments: SegmentList,
        geometry: &Geometry,
    ) -> Result<Self, Why> {
        let sectors = tally.sectors;
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

    /// Judges the segments in a slot. At most [`MAX_DIRECT_SEGMENTS`] are looked at.
    #[inline]
    pub(super) fn direct(sector: u64, raw: &[[u32; 2]], geometry: &Geometry) -> Result<Self, Why> {
        let mut tally = Tally::default();
        let mut short = Short {
            len: 0,
            segments: [Segment::EMPTY; MAX_DIRECT_SEGMENTS],
        };
        for (to, words) in short.segments.iter_mut().zip(raw) {
            *to = tally.judge(RawSegment::from_words(*words), geometry)?;
        }
        short.len = tally.segments;
        let segments = SegmentList {
            list: List::Short(short),
        };
        Self::on_disk(sector, &tally, segments, geometry)
    }

    /// Judges `count` descriptors that were copied from descriptor pages. `room` loses its storage
    /// only when the result is a transfer.
    pub(super) fn indirect(
        sector: u64,
        count: u16,
        descriptors: impl IntoIterator<Item = RawSegment>,
        room: &mut SegmentBuf,
        geometry: &Geometry,
    ) -> Result<Self, Why> {
        let count = count.min(MAX_INDIRECT_SEGMENTS);
        let mut tally = Tally::default();
        room.segments.clear();
        room.segments.reserve(usize::from(count));
        for raw in descriptors.into_iter().take(usize::from(count)) {
            room.segments.push(tally.judge(raw, geometry)?);
        }
        if tally.segments != count {
            return Err(Why::DescriptorsMissing {
                copied: tally.segments,
                promised: count,
            });
        }
        let empty = SegmentList {
            list: List::Long(Vec::new()),
        };
        let mut transfer = Self::on_disk(sector, &tally, empty, geometry)?;
        transfer.segments.list = List::Long(std::mem::take(&mut room.segments));
        Ok(transfer)
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

/// Sums segments up while they are judged.
#[derive(Default)]
struct Tally {
    segments: u16,
    sectors: u32,
}

impl Tally {
    #[inline]
    fn judge(&mut self, raw: RawSegment, geometry: &Geometry) -> Result<Segment, Why> {
        let (first, last) = (raw.first_sect(), raw.last_sect());
        let index = self.segments;
        if first > last || last >= SECTORS_PER_PAGE {
            return Err(Why::Segment { index, first, last });
        }
        let segment = Segment {
            gref: raw.gref(),
            first_sect: first,
            last_sect: last,
        };
        if !geometry.sector_size.divides(u64::from(segment.sectors())) {
            let block = geometry.sector_size.bytes();
            return Err(Why::SegmentLength {
                index,
                sectors: segment.sectors(),
                block,
            });
        }
        // At most 4096 segments of 8 sectors: neither sum can overflow.
        self.segments += 1;
        self.sectors += segment.sectors();
        Ok(segment)
    }
}

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
    const EMPTY: Self = Self {
        gref: GrantRef::new(0),
        first_sect: 0,
        last_sect: 0,
    };

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
        (self.last_sect - self.first_sect) as u32 + 1
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
        (self.last_sect - self.first_sect + 1) as u16 * 512
    }
}

/// The segments of one transfer: in place up to 11, beyond that in storage that is recycled.
#[derive(Debug)]
pub struct SegmentList {
    list: List,
}

#[derive(Debug)]
enum List {
    Short(Short),
    Long(Vec<Segment>),
}

#[derive(Debug)]
struct Short {
    len: u16,
    segments: [Segment; MAX_DIRECT_SEGMENTS],
}

impl Deref for SegmentList {
    type Target = [Segment];

    #[inline]
    fn deref(&self) -> &[Segment] {
        match &self.list {
            List::Short(short) => short
                .segments
                .get(..usize::from(short.len))
                .unwrap_or(&short.segments),
            List::Long(segments) => segments,
        }
    }
}

impl PartialEq for SegmentList {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl Eq for SegmentList {}

/// Storage for the segments of indirect requests, owned by whoever resolves them, so that none of
/// them costs an allocation.
#[derive(Debug, Default)]
pub struct SegmentBuf {
    segments: Vec<Segment>,
}

impl SegmentBuf {
    /// Room for requests of up to `segments` segments. Longer ones make it grow once.
    #[must_use]
    pub fn with_capacity(segments: u16) -> Self {
        Self {
            segments: Vec::with_capacity(usize::from(segments)),
        }
    }
}

/// Sectors of 512 bytes in a page of 4096.
const SECTORS_PER_PAGE: u8 = 8;

/// The last sector number whose offset in bytes fits an `i64`.
const LAST_SECTOR: u64 = i64::MAX as u64 / Sector::BYTES;
