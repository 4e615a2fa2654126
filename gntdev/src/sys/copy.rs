//! Batches of `GRANT_COPY`.
#![expect(unsafe_code, reason = "the ioctl is given addresses")]

use std::os::fd::BorrowedFd;

use ring_proto::DomId;

use super::ioctl::{self, Segment};
use super::memory::Span;
use crate::{CopyDirection, CopySegment, GrantError, GrantStatus};

/// Segments per ioctl. The kernel makes hypercalls of 16; more than a few of those per call save
/// nothing, and this many fit the stack.
pub(crate) const BATCH: usize = 64;

/// Carries out at most [`BATCH`] segments, those that cross a page of the guest excepted.
pub(crate) fn batch(
    fd: BorrowedFd<'_>,
    domid: DomId,
    local: &Span,
    segments: &mut [CopySegment],
) -> Result<(), GrantError> {
    let mut raw = [Segment::default(); BATCH];
    let mut count = 0;
    for segment in segments.iter().filter(|segment| !segment.crosses_page()) {
        raw[count] = encode(domid, local, segment)?;
        count += 1;
    }
    if count == 0 {
        return Ok(());
    }
    // On failure the kernel may have marked segments okay that it never reached: their statuses are
    // not looked at, and the preset failures stand.
    // SAFETY: `encode` took every local address from a live mapping that is borrowed for the call,
    // and had its length checked.
    unsafe { ioctl::copy(fd, &mut raw[..count]) }
        .map_err(|errno| GrantError::os("GRANT_COPY", errno))?;
    let copied = segments
        .iter_mut()
        .filter(|segment| !segment.crosses_page());
    for (segment, raw) in copied.zip(&raw) {
        segment.status = GrantStatus::from_raw(raw.status);
    }
    Ok(())
}

fn encode(domid: DomId, local: &Span, segment: &CopySegment) -> Result<Segment, GrantError> {
    let address = local.writable_ptr(segment.local_at, usize::from(segment.len))?;
    let local = ioctl::local(address);
    let foreign = ioctl::foreign(segment.gref, segment.guest_at, domid);
    let (source, dest, flags) = match segment.direction {
        CopyDirection::FromGuest => (foreign, local, ioctl::SOURCE_IS_GRANT),
        CopyDirection::ToGuest => (local, foreign, ioctl::DEST_IS_GRANT),
    };
    Ok(Segment {
        source,
        dest,
        len: segment.len,
        flags,
        status: GrantStatus::GeneralError.raw(),
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
        let local = Span::anonymous(4096).unwrap();
        let address = ioctl::local(local.ptr(100, 8).unwrap());
        let grant = ioctl::foreign(GrantRef::new(9), 16, DomId::new(3));
        let domid = DomId::new(3);
        let from = encode(domid, &local, &segment(16, 8, CopyDirection::FromGuest)).unwrap();
        assert_eq!((from.source, from.dest, from.flags), (grant, address, 1));
        let to = encode(domid, &local, &segment(16, 8, CopyDirection::ToGuest)).unwrap();
        assert_eq!((to.source, to.dest, to.flags), (address, grant, 2));
        assert_eq!((to.len, to.status), (8, -1));
    }

    #[test]
    fn gnt_01_a_batch_that_the_kernel_refuses_leaves_every_status_a_failure() {
        let file = std::fs::File::open("/dev/null").unwrap();
        let local = Span::anonymous(4096).unwrap();
        let mut segments = [segment(0, 8, CopyDirection::FromGuest); 3];
        let outcome = batch(file.as_fd(), DomId::new(3), &local, &mut segments);
        assert!(matches!(outcome, Err(GrantError::Os { .. })));
        assert!(segments.iter().all(|segment| !segment.status.is_okay()));
    }

    #[test]
    fn a_segment_that_crosses_a_page_never_reaches_the_kernel() {
        // The ioctl would fail on this file: that it does not tells that nothing was sent.
        let file = std::fs::File::open("/dev/null").unwrap();
        let local = Span::anonymous(4096).unwrap();
        let mut segments = [segment(4095, 2, CopyDirection::FromGuest)];
        assert_eq!(
            batch(file.as_fd(), DomId::new(3), &local, &mut segments),
            Ok(())
        );
    }
}
