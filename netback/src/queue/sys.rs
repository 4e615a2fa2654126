//! The two system calls that move frames between private pages and the tap.
#![expect(
    unsafe_code,
    reason = "read and write on private pages, which have no slice"
)]

use std::os::fd::{AsRawFd, BorrowedFd};

use gntdev::LocalPages;
use rustix::io::Errno;

/// Writes `len` bytes of the pages at `at` to the tap: one frame behind its virtio header.
pub(super) fn send(
    tap: BorrowedFd<'_>,
    pages: &LocalPages,
    (at, len): (usize, usize),
) -> Result<usize, Errno> {
    let from = pages.as_ptr(at, len).map_err(|_outside| Errno::FAULT)?;
    // SAFETY: `from` is the start of `len` bytes inside pages that are borrowed for the call.
    let done = unsafe { libc::write(tap.as_raw_fd(), from.cast(), len) };
    bytes_or_errno(done)
}

/// Reads one frame behind its virtio header from the tap into at most `len` bytes of the pages at
/// `at`. A longer one is cut by the kernel.
pub(super) fn receive(
    tap: BorrowedFd<'_>,
    pages: &LocalPages,
    (at, len): (usize, usize),
) -> Result<usize, Errno> {
    let to = pages.as_ptr(at, len).map_err(|_outside| Errno::FAULT)?;
    // SAFETY: `to` is the start of `len` bytes inside pages that are borrowed for the call.
    let done = unsafe { libc::read(tap.as_raw_fd(), to.cast(), len) };
    bytes_or_errno(done)
}

fn bytes_or_errno(done: isize) -> Result<usize, Errno> {
    usize::try_from(done).map_err(|_negative| {
        Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO)
    })
}
