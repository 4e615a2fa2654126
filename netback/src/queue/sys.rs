//! The system calls that move frames between private pages and the tap.
#![expect(
    unsafe_code,
    reason = "read and write on private pages, which have no slice"
)]

use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::{fmt, io};

use gntdev::LocalPages;
use io_uring::{IoUring, opcode, types};
use rustix::io::Errno;

use super::layout::{MAX_RUNS, Run};

/// Writes one frame behind its virtio header to the tap, run by run.
pub(super) fn send(tap: BorrowedFd<'_>, pages: &LocalPages, runs: &[Run]) -> Result<usize, Errno> {
    let done = if let [run] = runs {
        let libc::iovec { iov_base, iov_len } = piece(pages, run)?;
        // SAFETY: `iov_base` is the start of `iov_len` bytes inside pages that are borrowed for the
        // call.
        unsafe { libc::write(tap.as_raw_fd(), iov_base, iov_len) }
    } else {
        let mut pieces = [const { MaybeUninit::uninit() }; MAX_RUNS];
        for (place, run) in pieces.iter_mut().zip(runs) {
            place.write(piece(pages, run)?);
        }
        let count = runs.len().min(MAX_RUNS);
        let count = i32::try_from(count).map_err(|_many| Errno::INVAL)?;
        // SAFETY: the first `count` pieces were written, and each is inside pages that are borrowed
        // for the call.
        unsafe { libc::writev(tap.as_raw_fd(), pieces.as_ptr().cast(), count) }
    };
    bytes_or_errno(done)
}

fn piece(pages: &LocalPages, run: &Run) -> Result<libc::iovec, Errno> {
    let base = pages.as_ptr(run.at, run.len);
    Ok(libc::iovec {
        iov_base: base.map_err(|_outside| Errno::FAULT)?.cast(),
        iov_len: run.len,
    })
}

/// Writes of many frames in one system call.
pub(super) struct Batch {
    ring: IoUring,
    pieces: Vec<libc::iovec>,
    dropped: Vec<usize>,
}

// SAFETY: `pieces` holds addresses only between the two ends of one call of `send`.
unsafe impl Send for Batch {}

/// Frames that are written at once.
const FRAMES: u32 = 64;

impl Batch {
    /// # Errors
    /// The system has no `io_uring`, or does not let this process use it.
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self {
            ring: IoUring::new(FRAMES)?,
            pieces: Vec::new(),
            dropped: Vec::new(),
        })
    }

    /// Writes `frames` to the tap, in their order; the numbers of those that it has not taken. They are
    /// not looked at any more when this returns.
    ///
    /// # Errors
    /// The ring is broken: this value is to be dropped.
    pub(super) fn send<'a>(
        &mut self,
        tap: BorrowedFd<'_>,
        pages: &LocalPages,
        frames: impl Iterator<Item = &'a [Run]> + Clone,
    ) -> io::Result<&[usize]> {
        self.dropped.clear();
        let mut frames = frames.enumerate().peekable();
        while frames.peek().is_some() {
            let some = frames.clone().take(FRAMES as usize);
            self.send_some(tap, pages, some)?;
            frames.nth(FRAMES as usize - 1);
        }
        Ok(&self.dropped)
    }

    fn send_some<'a>(
        &mut self,
        tap: BorrowedFd<'_>,
        pages: &LocalPages,
        frames: impl Iterator<Item = (usize, &'a [Run])> + Clone,
    ) -> io::Result<()> {
        self.pieces.clear();
        for run in frames.clone().flat_map(|(_, runs)| runs) {
            self.pieces.push(piece(pages, run)?);
        }
        let fd = types::Fd(tap.as_raw_fd());
        let (mut left, mut count) = (self.pieces.as_slice(), 0);
        for (number, runs) in frames {
            let (pieces, rest) = left.split_at(runs.len().min(left.len()));
            left = rest;
            let length = u32::try_from(pieces.len()).unwrap_or(u32::MAX);
            let write = opcode::Writev::new(fd, pieces.as_ptr(), length).build();
            let write = write.user_data(number as u64);
            // SAFETY: the pieces are inside pages that are borrowed until all writes are done, and
            // lie in a vector that is not touched before.
            unsafe { self.ring.submission().push(&write) }.map_err(io::Error::other)?;
            count += 1;
        }
        while count > 0 {
            match self.ring.submit_and_wait(count) {
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
            for done in self.ring.completion() {
                count -= 1;
                if done.result() < 0 {
                    let number = usize::try_from(done.user_data());
                    self.dropped.extend(number);
                }
            }
        }
        Ok(())
    }
}

impl fmt::Debug for Batch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Batch").finish_non_exhaustive()
    }
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
    usize::try_from(done)
        .map_err(|_negative| Errno::from_io_error(&io::Error::last_os_error()).unwrap_or(Errno::IO))
}
