//! Private memory of this process, page-aligned.

use crate::alloc::OwnGrants;
use crate::sys::memory::Span;
use crate::{GrantError, PAGE_SIZE};

/// Zeroed private memory that grants are copied to and from, and that disks read and write.
///
/// Its bytes may change under us: a disk or the hypervisor may be writing them. So there is no way
/// to a `&[u8]` of it, and a reader that must not see a half-written block waits for the write to
/// complete. Share it by `Arc`; who uses which range at what time is the owner's business.
#[derive(Debug)]
pub struct LocalPages {
    // Unmapped before the grants are given back.
    span: Span,
    /// How copies name these pages, if not by their addresses.
    grants: Option<OwnGrants>,
}

impl LocalPages {
    /// `pages` zeroed pages of 4 KiB.
    ///
    /// # Errors
    /// [`GrantError::Os`]: out of memory or address space; [`GrantError::BadCount`] for none.
    pub fn new(pages: usize) -> Result<Self, GrantError> {
        let len = pages.checked_mul(PAGE_SIZE).filter(|&len| len > 0);
        let len = len.ok_or(GrantError::BadCount { pages })?;
        match Span::anonymous(len) {
            Ok(span) => Ok(Self { span, grants: None }),
            Err(errno) => Err(GrantError::os("allocation of pages", errno)),
        }
    }

    pub(crate) const fn granted(span: Span, grants: OwnGrants) -> Self {
        Self {
            span,
            grants: Some(grants),
        }
    }

    pub(crate) const fn grants(&self) -> Option<&OwnGrants> {
        self.grants.as_ref()
    }

    /// Size in bytes.
    #[must_use]
    #[expect(
        clippy::len_without_is_empty,
        reason = "there is no empty one: see `new`"
    )]
    pub const fn len(&self) -> usize {
        self.span.len()
    }

    /// Copies out the bytes from `at` on.
    ///
    /// # Errors
    /// [`GrantError::OutOfRange`]; nothing was copied then. The same holds for all methods below.
    pub fn read(&self, at: usize, into: &mut [u8]) -> Result<(), GrantError> {
        self.span.read(at, into)
    }

    /// Copies `from` in, from `at` on.
    ///
    /// # Errors
    /// [`GrantError::OutOfRange`].
    pub fn write(&self, at: usize, from: &[u8]) -> Result<(), GrantError> {
        self.span.write(at, from)
    }

    /// Clears `len` bytes from `at` on, so that one guest's data never reaches another.
    ///
    /// # Errors
    /// [`GrantError::OutOfRange`].
    pub fn zero(&self, at: usize, len: usize) -> Result<(), GrantError> {
        self.span.zero(at, len)
    }

    /// Where the `len` bytes from `at` on are, for a system call that reads or writes them. The
    /// pointer is good as long as this value lives.
    ///
    /// # Errors
    /// [`GrantError::OutOfRange`].
    pub fn as_ptr(&self, at: usize, len: usize) -> Result<*mut u8, GrantError> {
        self.span.ptr(at, len)
    }

    pub(crate) const fn span(&self) -> &Span {
        &self.span
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn starts_zeroed_and_keeps_what_is_written() {
        let pages = LocalPages::new(2).unwrap();
        assert_eq!(pages.len(), 8192);
        let mut seen = [1u8; 8];
        pages.read(4092, &mut seen).unwrap();
        assert_eq!(seen, [0; 8]);
        pages.write(4092, b"crossing").unwrap();
        pages.read(4092, &mut seen).unwrap();
        assert_eq!(&seen, b"crossing");
        pages.zero(4093, 2).unwrap();
        pages.read(4092, &mut seen).unwrap();
        assert_eq!(&seen, b"c\0\0ssing");
    }

    #[test]
    fn is_page_aligned() {
        let pages = LocalPages::new(1).unwrap();
        assert_eq!(pages.as_ptr(0, 4096).unwrap().addr() % PAGE_SIZE, 0);
    }

    #[test]
    fn ranges_outside_are_refused_and_touch_nothing() {
        let pages = LocalPages::new(1).unwrap();
        for (at, len) in [
            (4096, 1),
            (4095, 2),
            (0, 4097),
            (usize::MAX, 1),
            (1, usize::MAX),
        ] {
            let error = GrantError::OutOfRange {
                at,
                len,
                size: 4096,
            };
            assert_eq!(pages.as_ptr(at, len), Err(error.clone()));
            assert_eq!(pages.zero(at, len), Err(error));
        }
        assert!(pages.as_ptr(4096, 0).is_ok());
        assert!(pages.write(4090, &[1; 7]).is_err());
        let mut last = [0xffu8; 6];
        pages.read(4090, &mut last).unwrap();
        assert_eq!(last, [0; 6]);
    }

    #[test]
    fn sizes_that_cannot_be_are_refused() {
        assert_eq!(
            LocalPages::new(0).err(),
            Some(GrantError::BadCount { pages: 0 })
        );
        let pages = usize::MAX / 2;
        assert_eq!(
            LocalPages::new(pages).err(),
            Some(GrantError::BadCount { pages })
        );
    }
}
