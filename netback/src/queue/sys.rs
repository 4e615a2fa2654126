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
pub(super) fn write(tap: BorrowedFd<'_>, pages: &LocalPages, runs: &[Run]) -> Result<usize, Errno> {
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
}

// SAFETY: `pieces` holds addresses only between the two ends of one call of `write`.
unsafe impl Send for Batch {}

/// `IORING_ENTER_GETEVENTS` of `linux/io_uring.h`: wait for completions.
const GETEVENTS: u32 = 1;

/// Frames that are written at once.
pub(super) const FRAMES: u32 = 64;

impl Batch {
    /// Of a ring with room for [`FRAMES`], and nothing in it.
    pub(super) const fn new(ring: IoUring) -> Self {
        Self {
            ring,
            pieces: Vec::new(),
        }
    }

    /// Writes `frames` to the tap, in their order, and notes of each whether the tap has taken it. They
    /// are not looked at any more when this returns.
    ///
    /// # Errors
    /// The ring is broken, and is to be dropped. The frames of which nothing was noted were not
    /// written, and are not written later.
    pub(super) fn write<'a>(
        &mut self,
        tap: BorrowedFd<'_>,
        pages: &LocalPages,
        frames: impl Iterator<Item = &'a [Run]> + Clone,
        taken: &mut Vec<bool>,
    ) -> io::Result<()> {
        let mut frames = frames.peekable();
        while frames.peek().is_some() {
            let some = frames.clone().take(FRAMES as usize);
            self.write_some(tap, pages, some, taken)?;
            frames.nth(FRAMES as usize - 1);
        }
        Ok(())
    }

    fn write_some<'a>(
        &mut self,
        tap: BorrowedFd<'_>,
        pages: &LocalPages,
        frames: impl Iterator<Item = &'a [Run]> + Clone,
        taken: &mut Vec<bool>,
    ) -> io::Result<()> {
        self.pieces.clear();
        for run in frames.clone().flatten() {
            self.pieces.push(piece(pages, run)?);
        }
        let fd = types::Fd(tap.as_raw_fd());
        let first = taken.len();
        let mut left = self.pieces.as_slice();
        for (number, runs) in (0..).zip(frames) {
            let (pieces, rest) = left.split_at(runs.len().min(left.len()));
            left = rest;
            let length = u32::try_from(pieces.len()).unwrap_or(u32::MAX);
            let write = opcode::Writev::new(fd, pieces.as_ptr(), length).build();
            let write = write.user_data(number);
            // SAFETY: the pieces are inside pages that are borrowed until this returns, and lie in a
            // vector that is not touched before. `settle` returns when all writes that the kernel
            // has been given are done; after an error it is given no more.
            let pushed = unsafe { self.ring.submission().push(&write) };
            debug_assert!(pushed.is_ok(), "the ring was not empty");
            taken.push(false);
        }
        let submitted = self.submit();
        let never = self.ring.submission().len();
        taken.truncate(taken.len() - never);
        self.settle(taken.get_mut(first..).unwrap_or_default());
        submitted
    }

    /// Waits for the writes that the kernel was given, and notes what became of them.
    fn settle(&mut self, taken: &mut [bool]) {
        let mut waiting = taken.len();
        loop {
            for done in self.ring.completion() {
                waiting -= 1;
                let number = usize::try_from(done.user_data());
                let taken = number.ok().and_then(|number| taken.get_mut(number));
                if let Some(taken) = taken {
                    *taken = done.result() >= 0;
                }
            }
            // A tap takes frames at once or not at all: this is the way out.
            if waiting == 0 {
                return;
            }
            self.wait();
        }
    }

    fn submit(&mut self) -> io::Result<()> {
        while !self.ring.submission().is_empty() {
            match self.ring.submit() {
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Waits for a completion, and gives the kernel nothing new.
    #[cold]
    fn wait(&self) {
        // SAFETY: no argument is passed, and nothing is submitted.
        let done = unsafe { self.ring.submitter().enter::<()>(0, 1, GETEVENTS, None) };
        if done.is_err() {
            // There is no way out before the writes are done.
            std::thread::yield_now();
        }
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
