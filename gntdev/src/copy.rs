//! One piece of a batched grant copy.

use ring_proto::GrantRef;

use crate::{GrantStatus, PAGE_SIZE};

/// Which side of a copy the guest is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CopyDirection {
    /// Out of the guest's page: the data of a disk write.
    FromGuest,
    /// Into the guest's page, which must be granted for writing: the data of a disk read.
    ToGuest,
}

/// One piece to copy between a granted page and [`LocalPages`](crate::LocalPages).
///
/// The guest's side lies within one page; ours may cross pages. Having one back from
/// [`Gntdev::copy`](crate::Gntdev::copy) with [`GrantStatus::Okay`] tells that these bytes, and with
/// any other status that possibly some of them, were moved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CopySegment {
    /// The guest's page.
    pub gref: GrantRef,
    /// Where in the guest's page, in bytes.
    pub guest_at: u16,
    /// Where in our memory, in bytes.
    pub local_at: usize,
    /// How many bytes.
    pub len: u16,
    /// Which way.
    pub direction: CopyDirection,
    /// The outcome; a failure until the copy was carried out (XSA-361: one element's outcome must
    /// never stand for another's).
    pub status: GrantStatus,
}

impl CopySegment {
    /// A piece that has not been copied yet.
    #[must_use]
    pub const fn new(
        gref: GrantRef,
        guest_at: u16,
        local_at: usize,
        len: u16,
        direction: CopyDirection,
    ) -> Self {
        Self {
            gref,
            guest_at,
            local_at,
            len,
            direction,
            status: GrantStatus::GeneralError,
        }
    }

    /// Whether the guest's side leaves its page. Linux fails the *whole* batch with `EINVAL` on such
    /// a segment (`gntdev_grant_copy_seg`), so it must never get there.
    pub(crate) const fn crosses_page(&self) -> bool {
        self.guest_at as usize + self.len as usize > PAGE_SIZE
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_segment_is_a_failure_until_it_was_copied() {
        let segment = CopySegment::new(GrantRef::new(1), 0, 0, 1, CopyDirection::ToGuest);
        assert!(!segment.status.is_okay());
    }

    #[test]
    fn the_last_byte_of_a_page_is_still_in_it() {
        let at = |guest_at, len| {
            CopySegment::new(GrantRef::new(1), guest_at, 0, len, CopyDirection::ToGuest)
                .crosses_page()
        };
        assert!(!at(0, 4096));
        assert!(!at(4095, 1));
        assert!(!at(4096, 0));
        assert!(at(4095, 2));
        assert!(at(1, 4096));
        assert!(at(u16::MAX, u16::MAX));
    }
}
