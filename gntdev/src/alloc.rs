//! The `/dev/xen/gntalloc` device: pages that this domain has granted to itself.
//!
//! A copy names each of its sides by a grant or by an address. For an address Linux walks the page
//! tables of the process, piece by piece; in a PV dom0, where every entry has to be translated, that
//! is some 1,700 instructions a page (Linux 6.1), ten times what the hypervisor takes to look up
//! another grant.

use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::sync::Arc;

use ring_proto::{DomId, GrantRef};
use rustix::fs::{Mode, OFlags};

use crate::sys::alloc;
use crate::sys::memory::Span;
use crate::{GrantError, LocalPages, PAGE_SIZE};

const PATH: &str = "/dev/xen/gntalloc";

/// A source of [`LocalPages`] that are cheap to copy to and from.
///
/// The kernel lends a limited number of them to all programs together: 1024, unless its module was
/// loaded with another `limit`.
#[derive(Clone, Debug)]
pub struct Gntalloc {
    fd: Arc<OwnedFd>,
    own: DomId,
}

impl Gntalloc {
    /// Opens `/dev/xen/gntalloc`, close-on-exec, in the domain `own`.
    ///
    /// # Errors
    /// [`GrantError::Open`]: no Xen, no module, or no permission.
    pub fn open(own: DomId) -> Result<Self, GrantError> {
        match rustix::fs::open(PATH, OFlags::RDWR | OFlags::CLOEXEC, Mode::empty()) {
            Ok(fd) => Ok(Self {
                fd: Arc::new(fd),
                own,
            }),
            Err(errno) => Err(GrantError::Open {
                path: PathBuf::from(PATH),
                errno,
            }),
        }
    }

    /// `pages` zeroed pages of 4 KiB.
    ///
    /// # Errors
    /// [`GrantError::Os`]: the limit is reached (`ENOSPC`), or memory or grants are;
    /// [`GrantError::BadCount`] for none.
    pub fn pages(&self, pages: usize) -> Result<LocalPages, GrantError> {
        let len = pages.checked_mul(PAGE_SIZE).filter(|&len| len > 0);
        let len = len.ok_or(GrantError::BadCount { pages })?;
        let (index, grefs) = alloc::alloc(self.fd.as_fd(), self.own, pages)
            .map_err(|errno| GrantError::os("ALLOC_GREF", errno))?;
        let grants = OwnGrants {
            fd: Arc::clone(&self.fd),
            own: self.own,
            index,
            grefs,
        };
        let span = Span::shared(self.fd.as_fd(), index, len, true)
            .map_err(|errno| GrantError::os("mmap of own grants", errno))?;
        Ok(LocalPages::granted(span, grants))
    }
}

/// Which grants the pages of a [`LocalPages`] are.
///
/// Dropping it gives them back, and must not happen before their memory is unmapped.
#[derive(Debug)]
pub(crate) struct OwnGrants {
    fd: Arc<OwnedFd>,
    own: DomId,
    index: u64,
    grefs: Vec<GrantRef>,
}

impl OwnGrants {
    /// The grant of the page that holds the byte at `at`, and who granted it.
    pub(crate) fn at(&self, at: usize) -> Option<(GrantRef, DomId)> {
        Some((*self.grefs.get(at / PAGE_SIZE)?, self.own))
    }
}

impl Drop for OwnGrants {
    fn drop(&mut self) {
        // The kernel takes them back with the last descriptor at the latest.
        let _kept = alloc::dealloc(self.fd.as_fd(), self.index, self.grefs.len());
    }
}
