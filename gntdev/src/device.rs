//! The `/dev/xen/gntdev` device.
//!
//! Mapping is two steps: `MAP_GRANT_REF` registers references and yields an offset, and mmap at that
//! offset maps them. Both have to be undone, in the order munmap, `UNMAP_GRANT_REF`: on a PVH dom0
//! the hypervisor's mapping ends only when both are gone (Linux `drivers/xen/gntdev.c`).

use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;

use ring_proto::{DomId, GrantRef};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use crate::sys::{copy, ioctl, memory::Span};
use crate::{Access, CopySegment, GrantError, LocalPages, PAGE_SIZE};

const PATH: &str = "/dev/xen/gntdev";

/// An open `/dev/xen/gntdev`.
#[derive(Debug)]
pub(crate) struct Device {
    fd: OwnedFd,
}

impl Device {
    pub(crate) fn open() -> Result<Self, GrantError> {
        match rustix::fs::open(PATH, OFlags::RDWR | OFlags::CLOEXEC, Mode::empty()) {
            Ok(fd) => Ok(Self { fd }),
            Err(errno) => Err(GrantError::Open {
                path: PathBuf::from(PATH),
                errno,
            }),
        }
    }

    pub(crate) const fn adopt(fd: OwnedFd) -> Self {
        Self { fd }
    }

    pub(crate) fn into_fd(self) -> OwnedFd {
        self.fd
    }

    /// Maps all of `grefs` side by side, or none; the memory and the registration's offset.
    pub(crate) fn map(
        &self,
        domid: DomId,
        grefs: &[GrantRef],
        access: Access,
    ) -> Result<(Span, u64), GrantError> {
        let pages = grefs.len();
        let index = ioctl::map(self.fd.as_fd(), domid, grefs)
            .map_err(|errno| GrantError::os("MAP_GRANT_REF", errno))?;
        let errno = match Span::shared(
            self.fd.as_fd(),
            index,
            pages * PAGE_SIZE,
            access == Access::ReadWrite,
        ) {
            Ok(span) => return Ok((span, index)),
            Err(errno) => errno,
        };
        // The kernel has unmapped what did map; the registration is ours to release.
        self.unmap(index, pages)?;
        match errno {
            Errno::INVAL => Err(GrantError::MapRefused {
                domid,
                pages,
                status: None,
            }),
            errno => Err(GrantError::os("mmap of grants", errno)),
        }
    }

    /// The second half of unmapping; the memory must be gone.
    pub(crate) fn unmap(&self, index: u64, pages: usize) -> Result<(), GrantError> {
        let count = u32::try_from(pages).map_err(|_| GrantError::BadCount { pages })?;
        ioctl::unmap(self.fd.as_fd(), index, count)
            .map_err(|errno| GrantError::os("UNMAP_GRANT_REF", errno))
    }

    /// Carries out segments whose ranges were checked. All that do not cross a page.
    pub(crate) fn copy(
        &self,
        domid: DomId,
        pages: &LocalPages,
        segments: &mut [CopySegment],
    ) -> Result<(), GrantError> {
        for batch in segments.chunks_mut(copy::BATCH) {
            copy::batch(self.fd.as_fd(), domid, pages, batch)?;
        }
        Ok(())
    }
}
