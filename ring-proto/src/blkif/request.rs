//! What may be done: the only way from a guest's words to something that touches a disk.

use super::{
    Echo, Extent, Geometry, Indirect, MAX_DIRECT_SEGMENTS, RawRequest, Reject, Transfer, Why, op,
};

/// A request that may be executed.
///
/// Having one tells you that the operation is known and was offered, that the disk may be written if
/// it writes, and what the documentation of its body's type says. It points into the private copy,
/// so that nothing is copied to be looked at; parsing the copy again gives the same request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Request<'r> {
    /// The guest's number for it, echoed in the response and otherwise meaningless: not unique, not
    /// an index.
    pub id: u64,
    /// What to do.
    pub body: Body<'r>,
}

/// What a request asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Body<'r> {
    /// Disk to guest.
    Read(Transfer<'r>),
    /// Guest to disk.
    Write(Transfer<'r>),
    /// Make all writes durable that were answered before this was taken; then write the transfer, if
    /// there is one.
    Flush(Option<Transfer<'r>>),
    /// Forget an extent.
    Discard(Extent),
    /// A read or write whose segments have to be copied first.
    Indirect(Indirect<'r>),
}

impl<'r> Request<'r> {
    /// Decides what a guest's words may do to a disk of this geometry.
    ///
    /// The rules are xen-blkback's (`drivers/block/xen-blkback/blkback.c`, `dispatch_rw_block_io`,
    /// `xen_vbd_translate`), but an empty flush of a read-only disk succeeds, and discards are
    /// rounded to whole units.
    ///
    /// # Errors
    /// [`Reject`]: this request is not executed and has its answer already. The guest's fault; other
    /// requests are not affected.
    #[inline]
    pub fn parse(raw: &'r RawRequest, geometry: &Geometry) -> Result<Self, Reject> {
        match Body::parse(raw, geometry) {
            Ok(body) => Ok(Self { id: raw.id(), body }),
            Err(why) => Err(Reject::of(raw, why)),
        }
    }

    /// What a response to it repeats.
    #[must_use]
    pub const fn echo(&self) -> Echo {
        match &self.body {
            Body::Read(_) => Echo::new(self.id, op::READ, false),
            Body::Write(_) => Echo::new(self.id, op::WRITE, false),
            Body::Flush(data) => Echo::new(self.id, op::FLUSH, data.is_none()),
            Body::Discard(_) => Echo::new(self.id, op::DISCARD, false),
            Body::Indirect(indirect) => indirect.echo(),
        }
    }
}

impl<'r> Body<'r> {
    #[inline]
    fn parse(raw: &'r RawRequest, geometry: &Geometry) -> Result<Self, Why> {
        match raw.operation() {
            op::READ => Ok(Self::Read(direct(raw, geometry)?)),
            // An empty flush reads and writes nothing: any sector, any disk.
            op::FLUSH if raw.nr_segments() == 0 => Ok(Self::Flush(None)),
            op::WRITE | op::FLUSH if geometry.read_only => Err(Why::ReadOnly),
            op::WRITE => Ok(Self::Write(direct(raw, geometry)?)),
            op::FLUSH => Ok(Self::Flush(Some(direct(raw, geometry)?))),
            op::DISCARD => Ok(Self::Discard(Extent::parse(raw, geometry)?)),
            op::INDIRECT => Ok(Self::Indirect(Indirect::parse(raw, geometry)?)),
            op::WRITE_BARRIER => Err(Why::Barrier),
            unknown => Err(Why::UnknownOperation(unknown)),
        }
    }
}

/// The transfer whose segments are in the slot.
#[inline]
fn direct<'r>(raw: &'r RawRequest, geometry: &Geometry) -> Result<Transfer<'r>, Why> {
    let count = raw.nr_segments();
    if count == 0 {
        return Err(Why::NoSegments);
    }
    if usize::from(count) > MAX_DIRECT_SEGMENTS {
        return Err(Why::TooManySegments {
            segments: u16::from(count),
            max: MOST,
        });
    }
    Transfer::direct(raw, count, geometry)
}

/// [`MAX_DIRECT_SEGMENTS`] as messages have it.
const MOST: u16 = 11;
const _: () = assert!(MOST as usize == MAX_DIRECT_SEGMENTS);
