//! Requests whose segments do not fit into a slot.

use super::{
    Echo, Geometry, MAX_INDIRECT_PAGES, MAX_INDIRECT_SEGMENTS, RawRequest, RawSegment, Reject,
    SEGMENTS_PER_PAGE, SegmentBuf, Transfer, Why, op,
};
use crate::ids::GrantRef;

/// A read or write whose segments are still in guest pages.
///
/// Having one tells you that indirect requests were offered, that the operation inside is a read or
/// an allowed write, and that there are between 1 and the offered number of segments. Nothing else is
/// known before [`resolve`](Self::resolve), for which [`pages`](Self::pages) must be copied.
#[derive(Debug, PartialEq, Eq)]
pub struct Indirect {
    id: u64,
    write: bool,
    sector: u64,
    nr_segments: u16,
    grefs: [GrantRef; MAX_INDIRECT_PAGES],
}

impl Indirect {
    pub(super) fn parse(raw: &RawRequest, geometry: &Geometry) -> Result<Self, Why> {
        let max = geometry.max_indirect_segments.min(MAX_INDIRECT_SEGMENTS);
        let write = match raw.indirect_operation() {
            _ if max == 0 => return Err(Why::IndirectNotOffered),
            op::READ => false,
            op::WRITE if geometry.read_only => return Err(Why::ReadOnly),
            op::WRITE => true,
            inner => return Err(Why::IndirectOperation(inner)),
        };
        let nr_segments = raw.nr_indirect_segments();
        if nr_segments == 0 {
            return Err(Why::NoSegments);
        }
        if nr_segments > max {
            return Err(Why::TooManySegments {
                segments: nr_segments,
                max,
            });
        }
        let (id, sector, grefs) = (raw.id(), raw.sector(), raw.indirect_pages());
        Ok(Self {
            id,
            write,
            sector,
            nr_segments,
            grefs,
        })
    }

    /// Whether data goes to the disk.
    #[must_use]
    pub const fn is_write(&self) -> bool {
        self.write
    }

    /// How many segments the pages hold.
    #[must_use]
    pub const fn nr_segments(&self) -> u16 {
        self.nr_segments
    }

    /// The pages that hold the descriptors: 1 to 8, each full but the last. They are to be copied,
    /// never mapped and parsed: the guest can still write them.
    #[must_use]
    pub fn pages(&self) -> &[GrantRef] {
        let used = usize::from(self.nr_segments).div_ceil(SEGMENTS_PER_PAGE);
        self.grefs.get(..used).unwrap_or(&self.grefs)
    }

    /// Judges the descriptors, given in the order of the pages; more than there are segments are not
    /// looked at. `room` lends its storage to the transfer, until
    /// [`Transfer::recycle`].
    ///
    /// # Errors
    /// [`Reject`], as [`Request::parse`](super::Request::parse).
    pub fn resolve(
        &self,
        descriptors: impl IntoIterator<Item = RawSegment>,
        room: &mut SegmentBuf,
        geometry: &Geometry,
    ) -> Result<Transfer, Reject> {
        Transfer::indirect(self.sector, self.nr_segments, descriptors, room, geometry)
            .map_err(|why| Reject::new(self.echo(), why))
    }

    /// What a response to it repeats.
    pub(super) const fn echo(&self) -> Echo {
        Echo::new(
            self.id,
            if self.write { op::WRITE } else { op::READ },
            false,
        )
    }
}
