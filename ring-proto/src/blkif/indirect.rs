//! Requests whose segments do not fit into a slot.

use super::{
    Echo, Geometry, MAX_INDIRECT_SEGMENTS, RawRequest, Reject, SEGMENTS_PER_PAGE, Transfer, Why, op,
};
use crate::ids::GrantRef;

/// A read or write whose segments are still in guest pages.
///
/// Having one tells you that indirect requests were offered, that the operation inside is a read or
/// an allowed write, and that there are between 1 and the offered number of segments. Nothing else is
/// known before [`resolve`](Self::resolve), for which [`pages`](Self::pages) must be copied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Indirect<'r> {
    raw: &'r RawRequest,
    write: bool,
}

impl<'r> Indirect<'r> {
    pub(super) fn parse(raw: &'r RawRequest, geometry: &Geometry) -> Result<Self, Why> {
        let max = geometry.max_indirect_segments.min(MAX_INDIRECT_SEGMENTS);
        let write = match raw.indirect_operation() {
            _ if max == 0 => return Err(Why::IndirectNotOffered),
            op::READ => false,
            op::WRITE if geometry.read_only => return Err(Why::ReadOnly),
            op::WRITE => true,
            inner => return Err(Why::IndirectOperation(inner)),
        };
        match raw.nr_indirect_segments() {
            0 => Err(Why::NoSegments),
            segments if segments > max => Err(Why::TooManySegments { segments, max }),
            _ => Ok(Self { raw, write }),
        }
    }

    /// Whether data goes to the disk.
    #[must_use]
    pub const fn is_write(&self) -> bool {
        self.write
    }

    /// How many segments the pages hold: 1 to as many as were offered.
    #[must_use]
    pub const fn nr_segments(&self) -> u16 {
        self.raw.nr_indirect_segments()
    }

    /// The pages that hold the descriptors, 8 bytes each: 1 to 8 pages, each full but the last. They
    /// are to be copied, never mapped and parsed: the guest can still write them.
    pub fn pages(&self) -> impl Iterator<Item = GrantRef> + use<'r> {
        let used = usize::from(self.nr_segments()).div_ceil(SEGMENTS_PER_PAGE);
        self.raw.indirect_pages().take(used)
    }

    /// Judges the descriptors, copied from the pages in their order; more than there are segments
    /// are not looked at.
    ///
    /// # Errors
    /// [`Reject`], as [`Request::parse`](super::Request::parse).
    pub fn resolve<'d>(
        &self,
        descriptors: &'d [[u32; 2]],
        geometry: &Geometry,
    ) -> Result<Transfer<'d>, Reject> {
        let promised = self.nr_segments();
        let transfer = match descriptors.get(..usize::from(promised)) {
            Some(descriptors) => Transfer::judge(self.raw.sector(), descriptors, geometry),
            None => Err(Why::DescriptorsMissing {
                copied: descriptors.len(),
                promised,
            }),
        };
        transfer.map_err(|why| Reject::of(self.raw, why))
    }

    /// What a response to it repeats.
    pub(super) const fn echo(&self) -> Echo {
        Echo::new(self.raw.id(), self.raw.echoed_operation(), false)
    }
}
