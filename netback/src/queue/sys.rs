//! The two system calls that move frames between private pages and the tap.
#![expect(
    unsafe_code,
    reason = "read and write on private pages, which have no slice"
)]

use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, BorrowedFd};

use gntdev::LocalPages;
use rustix::io::Errno;

use super::layout::{MAX_RUNS, Run};

/// Writes one frame behind its virtio header to the tap, run by run.
pub(super) fn send(tap: BorrowedFd<'_>, pages: &LocalPages, runs: &[Run]) -> Result<usize, Errno> {
    let piece = |run: &Run| {
        let base = pages
            .as_ptr(run.at, run.len)
            .map_err(|_outside| Errno::FAULT)?;
        Ok(libc::iovec {
            iov_base: base.cast(),
            iov_len: run.len,
        })
    };
    let done = if let [run] = runs {
        let libc::iovec { iov_base, iov_len } = piece(run)?;
        // SAFETY: `iov_base` is the start of `iov_len` bytes inside pages that are borrowed for the
        // call.
        unsafe { libc::write(tap.as_raw_fd(), iov_base, iov_len) }
    } else {
        let mut pieces = [const { MaybeUninit::uninit() }; MAX_RUNS];
        for (place, run) in pieces.iter_mut().zip(runs) {
            place.write(piece(run)?);
        }
        let count = runs.len().min(MAX_RUNS);
        let count = i32::try_from(count).map_err(|_many| Errno::INVAL)?;
        // SAFETY: the first `count` pieces were written, and each is inside pages that are borrowed
        // for the call.
        unsafe { libc::writev(tap.as_raw_fd(), pieces.as_ptr().cast(), count) }
    };
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
