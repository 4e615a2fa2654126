//! The guest's half of grants on a real machine, and one io_uring request.
#![expect(
    unsafe_code,
    reason = "ioctl(2), and submission of an io_uring request"
)]

use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::time::Duration;

use anyhow::Context;
use gntdev::{Access, PAGE_SIZE};
use io_uring::types::{Fd, SubmitArgs, Timespec};
use io_uring::{IoUring, opcode};
use ring_proto::{DomId, GrantRef};
use rustix::io::Errno;

use crate::sim::hypervisor::sys::Memory;

/// `IOCTL_GNTALLOC_ALLOC_GREF` (`include/uapi/xen/gntalloc.h`).
const ALLOC_GREF: u32 = ioc(5, size_of::<AllocGref>());
/// `IOCTL_GNTALLOC_DEALLOC_GREF`.
const DEALLOC_GREF: u32 = ioc(6, size_of::<DeallocGref>());
/// `GNTALLOC_FLAG_WRITABLE`.
const WRITABLE: u16 = 1;

/// `_IOC(_IOC_NONE, 'G', nr, size)`.
const fn ioc(nr: u32, size: usize) -> u32 {
    assert!(size < 1 << 14, "the size field has 14 bits");
    #[expect(clippy::cast_possible_truncation, reason = "checked above")]
    let size = size as u32;
    size << 16 | (b'G' as u32) << 8 | nr
}

/// `struct ioctl_gntalloc_alloc_gref`, for one page.
#[repr(C)]
struct AllocGref {
    domid: u16,
    flags: u16,
    count: u32,
    index: u64,
    gref: u32,
}

/// `struct ioctl_gntalloc_dealloc_gref`.
#[repr(C)]
struct DeallocGref {
    index: u64,
    count: u32,
}

/// A page that this domain granted.
#[derive(Debug)]
pub(super) struct GrantedPage {
    pub(super) gref: GrantRef,
    pub(super) memory: Memory,
    index: u64,
}

/// Allocates a page by `/dev/xen/gntalloc` and grants it to `to`.
pub(super) fn grant(
    gntalloc: BorrowedFd<'_>,
    to: DomId,
    access: Access,
) -> anyhow::Result<GrantedPage> {
    let mut argument = AllocGref {
        domid: to.raw(),
        flags: if access == Access::ReadWrite {
            WRITABLE
        } else {
            0
        },
        count: 1,
        index: 0,
        gref: 0,
    };
    // SAFETY: `argument` is what the number names, with room for the one reference it asks for.
    unsafe { call(gntalloc, ALLOC_GREF, &raw mut argument) }.context("ALLOC_GREF")?;
    Ok(GrantedPage {
        gref: GrantRef::new(argument.gref),
        memory: Memory::map(gntalloc, argument.index, PAGE_SIZE).context("mmap of gntalloc")?,
        index: argument.index,
    })
}

/// Ends a grant and frees its page.
pub(super) fn revoke(gntalloc: BorrowedFd<'_>, page: GrantedPage) -> anyhow::Result<()> {
    let mut argument = DeallocGref {
        index: page.index,
        count: 1,
    };
    // The page goes when neither mapped nor registered.
    drop(page);
    // SAFETY: `argument` is what the number names; the driver only reads it.
    unsafe { call(gntalloc, DEALLOC_GREF, &raw mut argument) }.context("DEALLOC_GREF")
}

/// # Safety
/// `argument` points to what `request` expects, valid for the call.
unsafe fn call<T>(fd: BorrowedFd<'_>, request: u32, argument: *mut T) -> Result<(), Errno> {
    // SAFETY: as promised by the caller.
    let rc = unsafe { libc::ioctl(fd.as_raw_fd(), libc::Ioctl::from(request), argument) };
    if rc < 0 {
        let error = std::io::Error::last_os_error();
        return Err(Errno::from_io_error(&error).unwrap_or(Errno::IO));
    }
    Ok(())
}

/// Whether io_uring's `POLL_ADD` finds `fd` readable within `limit`.
pub(super) fn uring_poll(fd: BorrowedFd<'_>, limit: Duration) -> anyhow::Result<bool> {
    let mut ring = IoUring::new(2).context("io_uring_setup")?;
    let readable = u32::try_from(libc::POLLIN)?;
    let entry = opcode::PollAdd::new(Fd(fd.as_fd().as_raw_fd()), readable).build();
    // SAFETY: the request refers to nothing but the descriptor, which is borrowed until the ring,
    // and with it the request, is gone.
    unsafe { ring.submission().push(&entry) }.context("submission queue")?;
    let limit = Timespec::new()
        .sec(limit.as_secs())
        .nsec(limit.subsec_nanos());
    let args = SubmitArgs::new().timespec(&limit);
    match ring.submitter().submit_with_args(1, &args) {
        Ok(_) => {}
        Err(error) if error.raw_os_error() == Some(libc::ETIME) => {}
        Err(error) => return Err(error).context("io_uring_enter"),
    }
    // A time-out after a submission is no error to the kernel: the completion is what counts.
    let Some(completion) = ring.completion().next() else {
        return Ok(false);
    };
    let events = u32::try_from(completion.result()).context("POLL_ADD failed")?;
    Ok(events & readable != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ioctl_numbers_are_those_of_the_header() {
        assert_eq!(ALLOC_GREF, 0x0018_4705);
        assert_eq!(DEALLOC_GREF, 0x0010_4706);
        assert_eq!(std::mem::offset_of!(AllocGref, index), 8);
        assert_eq!(std::mem::offset_of!(AllocGref, gref), 16);
    }
}
