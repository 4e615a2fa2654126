//! Batches of `GRANT_COPY`.
#![expect(unsafe_code, reason = "the ioctl is given addresses")]

use std::mem::MaybeUninit;
use std::os::fd::BorrowedFd;

use ring_proto::DomId;

use super::ioctl::{self, Segment};
use crate::{CopyDirection, CopySegment, GrantError, GrantStatus, LocalPages, PAGE_SIZE};

/// Segments per call. The kernel makes hypercalls of 16; more than a few of those per ioctl save
/// nothing, and this many fit the stack.
pub(crate) const BATCH: usize = 64;

const FAILED: i16 = GrantStatus::GeneralError.raw();

/// Pieces of a batch: a segment that crosses a page of ours is two if that page is a grant.
const PIECES: usize = 2 * BATCH;

/// Carries out at most [`BATCH`] segments, those that cross a page of the guest excepted.
pub(crate) fn batch(
    fd: BorrowedFd<'_>,
    domid: DomId,
    pages: &LocalPages,
    segments: &mut [CopySegment],
) -> Result<(), GrantError> {
    let mut room = [const { MaybeUninit::uninit() }; PIECES];
    let mut pieces = Pieces {
        room: &mut room,
        count: 0,
    };
    for segment in segments.iter().filter(|segment| !segment.crosses_page()) {
        let first = first_part(pages, segment);
        pieces.push(encode(domid, pages, segment, 0, first)?);
        if first < segment.len {
            let rest = segment.len - first;
            pieces.push(encode(domid, pages, segment, first, rest)?);
        }
    }
    let pieces = pieces.written();
    if pieces.is_empty() {
        return Ok(());
    }
    // On failure the kernel may have marked segments okay that it never reached: their statuses are
    // not looked at, and the preset failures stand.
    // SAFETY: `encode` took every local address from a live mapping that is borrowed for the call,
    // and had its length checked.
    unsafe { ioctl::copy(fd, pieces) }.map_err(|errno| GrantError::os("GRANT_COPY", errno))?;
    let mut statuses = pieces.iter().map(|piece| piece.status);
    let copied = segments
        .iter_mut()
        .filter(|segment| !segment.crosses_page());
    for segment in copied {
        let status = statuses.next().unwrap_or(FAILED);
        segment.status = GrantStatus::from_raw(status);
        if first_part(pages, segment) < segment.len {
            let rest = GrantStatus::from_raw(statuses.next().unwrap_or(FAILED));
            if segment.status.is_okay() {
                segment.status = rest;
            }
        }
    }
    Ok(())
}

/// Pieces that are written one after the other to memory that nobody has cleared for them.
struct Pieces<'a> {
    room: &'a mut [MaybeUninit<Segment>; PIECES],
    count: usize,
}

impl<'a> Pieces<'a> {
    fn push(&mut self, piece: Segment) {
        self.room[self.count].write(piece);
        self.count += 1;
    }

    fn written(self) -> &'a mut [Segment] {
        // SAFETY: the first `count` were written, by `push`.
        unsafe { self.room[..self.count].assume_init_mut() }
    }
}

/// How many bytes of a segment go in one piece: where our pages are grants, those within the first of
/// them. There is never more than one other piece.
fn first_part(pages: &LocalPages, segment: &CopySegment) -> u16 {
    if pages.grants().is_none() {
        return segment.len;
    }
    let left = PAGE_SIZE - segment.local_at % PAGE_SIZE;
    u16::try_from(left).map_or(segment.len, |left| left.min(segment.len))
}

/// The piece of `len` bytes of a segment from `from` on.
#[inline]
fn encode(
    domid: DomId,
    pages: &LocalPages,
    segment: &CopySegment,
    from: u16,
    len: u16,
) -> Result<Segment, GrantError> {
    let at = segment.local_at + usize::from(from);
    let address = pages.span().writable_ptr(at, usize::from(len))?;
    let ours = pages.grants().and_then(|grants| grants.at(at));
    let (local, own) = match ours {
        Some((gref, own)) => {
            // Less than a page, which is less than a word of 16 bits holds.
            let offset = u16::try_from(at % PAGE_SIZE).unwrap_or(u16::MAX);
            (ioctl::foreign(gref, offset, own), true)
        }
        None => (ioctl::local(address), false),
    };
    let guest = ioctl::foreign(segment.gref, segment.guest_at + from, domid);
    let own = |flag| if own { flag } else { 0 };
    let (source, dest, flags) = match segment.direction {
        CopyDirection::FromGuest => {
            let flags = ioctl::SOURCE_IS_GRANT | own(ioctl::DEST_IS_GRANT);
            (guest, local, flags)
        }
        CopyDirection::ToGuest => {
            let flags = ioctl::DEST_IS_GRANT | own(ioctl::SOURCE_IS_GRANT);
            (local, guest, flags)
        }
    };
    Ok(Segment {
        source,
        dest,
        len,
        flags,
        status: FAILED,
    })
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use ring_proto::GrantRef;

    use super::*;

    fn segment(guest_at: u16, len: u16, direction: CopyDirection) -> CopySegment {
        CopySegment::new(GrantRef::new(9), guest_at, 100, len, direction)
    }

    #[test]
    fn the_direction_decides_which_side_is_the_grant() {
        let local = LocalPages::new(1).unwrap();
        let address = ioctl::local(local.as_ptr(100, 8).unwrap());
        let grant = ioctl::foreign(GrantRef::new(9), 16, DomId::new(3));
        let domid = DomId::new(3);
        let from = encode(
            domid,
            &local,
            &segment(16, 8, CopyDirection::FromGuest),
            0,
            8,
        )
        .unwrap();
        assert_eq!((from.source, from.dest, from.flags), (grant, address, 1));
        let to = encode(domid, &local, &segment(16, 8, CopyDirection::ToGuest), 0, 8).unwrap();
        assert_eq!((to.source, to.dest, to.flags), (address, grant, 2));
        assert_eq!((to.len, to.status), (8, -1));
    }

    #[test]
    fn gnt_01_a_batch_that_the_kernel_refuses_leaves_every_status_a_failure() {
        let file = std::fs::File::open("/dev/null").unwrap();
        let local = LocalPages::new(1).unwrap();
        let mut segments = [segment(0, 8, CopyDirection::FromGuest); 3];
        let outcome = batch(file.as_fd(), DomId::new(3), &local, &mut segments);
        assert!(matches!(outcome, Err(GrantError::Os { .. })));
        assert!(segments.iter().all(|segment| !segment.status.is_okay()));
    }

    #[test]
    fn a_segment_that_crosses_a_page_never_reaches_the_kernel() {
        // The ioctl would fail on this file: that it does not tells that nothing was sent.
        let file = std::fs::File::open("/dev/null").unwrap();
        let local = LocalPages::new(1).unwrap();
        let mut segments = [segment(4095, 2, CopyDirection::FromGuest)];
        assert_eq!(
            batch(file.as_fd(), DomId::new(3), &local, &mut segments),
            Ok(())
        );
    }
}
