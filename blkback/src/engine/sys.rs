//! The two places where the kernel is given addresses: submission queue entries, and
//! `pread`/`pwrite` on private pages.
#![expect(
    unsafe_code,
    reason = "io_uring entries and positioned I/O carry raw addresses of private pages"
)]

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};
use std::sync::Arc;

use gntdev::LocalPages;
use io_uring::types::{Fd, Fixed, SubmitArgs, Timespec};
use io_uring::{IoUring, cqueue, opcode, squeue};
use rustix::io::Errno;

/// A ring together with the pages that its entries point into.
///
/// Having one tells you that every address the kernel was given stays valid until its completion
/// was seen: the pages are owned here, and leaked rather than freed when a completion is missing.
pub(super) struct Ring {
    io: IoUring,
    pages: Arc<LocalPages>,
    fixed_buffers: bool,
    in_flight: u32,
}

impl Ring {
    /// Sets up a ring for `depth` operations on `disk`, its registered file 0.
    pub(super) fn new(depth: u32, disk: RawFd, pages: &Arc<LocalPages>) -> io::Result<Self> {
        let io = build(depth)?;
        io.submitter().register_files(&[disk])?;
        let whole = libc::iovec {
            iov_base: pages
                .as_ptr(0, pages.len())
                .map_err(io::Error::other)?
                .cast(),
            iov_len: pages.len(),
        };
        // SAFETY: the pages are private memory that lives as long as `self` (field `pages`) or,
        // when operations are left in flight, forever (Drop).
        let registered = unsafe { io.submitter().register_buffers(&[whole]) };
        // Refused where RLIMIT_MEMLOCK is too low: plain reads and writes do the same, only slower.
        Ok(Self {
            io,
            pages: Arc::clone(pages),
            fixed_buffers: registered.is_ok(),
            in_flight: 0,
        })
    }

    /// Whether transfers use a registered buffer.
    pub(super) const fn fixed_buffers(&self) -> bool {
        self.fixed_buffers
    }

    /// Reads `len` bytes at `offset` of `file` into the pages at `at`.
    pub(super) fn push_read(
        &mut self,
        file: Fixed,
        offset: u64,
        (at, len): (usize, u32),
        user_data: u64,
    ) -> io::Result<()> {
        let to = self
            .pages
            .as_ptr(at, len as usize)
            .map_err(io::Error::other)?;
        let entry = if self.fixed_buffers {
            opcode::ReadFixed::new(file, to, len, 0)
                .offset(offset)
                .build()
        } else {
            opcode::Read::new(file, to, len).offset(offset).build()
        };
        self.push_operation(&entry.user_data(user_data))
    }

    /// Writes `len` bytes of the pages at `at` to `file` at `offset`.
    pub(super) fn push_write(
        &mut self,
        file: Fixed,
        offset: u64,
        (at, len): (usize, u32),
        user_data: u64,
    ) -> io::Result<()> {
        let from = self
            .pages
            .as_ptr(at, len as usize)
            .map_err(io::Error::other)?;
        let entry = if self.fixed_buffers {
            opcode::WriteFixed::new(file, from, len, 0)
                .offset(offset)
                .build()
        } else {
            opcode::Write::new(file, from, len).offset(offset).build()
        };
        self.push_operation(&entry.user_data(user_data))
    }

    /// Queues an operation that carries no address (flush, punch hole).
    pub(super) fn push_plain(&mut self, entry: squeue::Entry, user_data: u64) -> io::Result<()> {
        self.push_operation(&entry.user_data(user_data))
    }

    /// Queues a multishot poll; it is not counted as in flight.
    ///
    /// The file is not a registered one: Linux 6.1 lets none of those go while some poll
    /// holds one of them (`io_rsrc_ref_quiesce`), and this poll never ends by itself.
    pub(super) fn push_poll(&mut self, file: RawFd, user_data: u64) -> io::Result<()> {
        let entry = opcode::PollAdd::new(Fd(file), POLLIN).multi(true).build();
        self.push(&entry.user_data(user_data))
    }

    /// Gives the kernel what is queued; `want` completions are waited for.
    pub(super) fn enter(&mut self, want: usize, timeout: Option<Timespec>) -> io::Result<()> {
        let entered = match timeout {
            None => self.io.submitter().submit_and_wait(want),
            Some(timeout) => {
                let args = SubmitArgs::new().timespec(&timeout);
                self.io.submitter().submit_with_args(want, &args)
            }
        };
        match entered.map_err(|err| (Errno::from_io_error(&err), err)) {
            Ok(_) => Ok(()),
            // The deadline; a signal; completions that must be reaped first: all "look again".
            Err((Some(Errno::TIME | Errno::INTR | Errno::BUSY | Errno::AGAIN), _)) => Ok(()),
            Err((_, err)) => Err(err),
        }
    }

    /// Entries queued and not yet given to the kernel.
    pub(super) fn queued(&mut self) -> usize {
        self.io.submission().len()
    }

    /// Is deferred work or an overflown completion waiting for an `enter`?
    pub(super) fn wants_enter(&mut self) -> bool {
        let queue = self.io.submission();
        queue.taskrun() || queue.cq_overflow()
    }

    /// Completions that the kernel has posted and nobody has taken.
    pub(super) fn completions(&mut self) -> usize {
        self.io.completion().len()
    }

    /// The next completion that the kernel has posted: (user data, result, flags).
    pub(super) fn completion(&mut self) -> Option<(u64, i32, u32)> {
        let entry: cqueue::Entry = self.io.completion().next()?;
        Some((entry.user_data(), entry.result(), entry.flags()))
    }

    /// Notes that an operation (not a poll) has completed.
    pub(super) const fn settled(&mut self) {
        self.in_flight = self.in_flight.saturating_sub(1);
    }

    /// Operations queued or in the kernel.
    pub(super) const fn in_flight(&self) -> u32 {
        self.in_flight
    }

    fn push_operation(&mut self, entry: &squeue::Entry) -> io::Result<()> {
        self.push(entry)?;
        self.in_flight += 1;
        Ok(())
    }

    fn push(&mut self, entry: &squeue::Entry) -> io::Result<()> {
        if self.io.submission().is_full() {
            self.enter(0, None)?;
        }
        // SAFETY: entries with addresses are built in push_read and push_write alone, from ranges
        // that LocalPages has checked, and the pages outlive the operation (see the type).
        unsafe { self.io.submission().push(entry) }.map_err(|_full| io::Error::from(Errno::NOBUFS))
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        if self.in_flight > 0 {
            // Only a dying queue gets here. The kernel may still write into the pages.
            std::mem::forget(Arc::clone(&self.pages));
            return;
        }
        // The kernel takes a ring apart at its leisure, and until then the image would seem to be
        // in use by its lock, and the pages would count against RLIMIT_MEMLOCK. Whoever opens it
        // next has to wait then.
        let files = self.io.submitter().unregister_files();
        let buffers = match self.fixed_buffers {
            true => self.io.submitter().unregister_buffers(),
            false => Ok(()),
        };
        if let Err(error) = files.and(buffers) {
            tracing::debug!(%error, "the ring keeps its disk for a moment");
        }
    }
}

impl std::fmt::Debug for Ring {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ring")
            .field("in_flight", &self.in_flight)
            .field("fixed_buffers", &self.fixed_buffers)
            .finish_non_exhaustive()
    }
}

/// One `pread` into the pages.
pub(super) fn read_at(
    fd: BorrowedFd<'_>,
    pages: &LocalPages,
    (at, len): (usize, usize),
    offset: u64,
) -> Result<u64, Errno> {
    let to = pages.as_ptr(at, len).map_err(|_outside| Errno::FAULT)?;
    let offset = i64::try_from(offset).map_err(|_too_far| Errno::OVERFLOW)?;
    // SAFETY: `to` is the start of `len` bytes inside pages that are borrowed for the call.
    let done = unsafe { libc::pread64(fd.as_raw_fd(), to.cast(), len, offset) };
    bytes_or_errno(done)
}

/// One `pwrite` from the pages.
pub(super) fn write_at(
    fd: BorrowedFd<'_>,
    pages: &LocalPages,
    (at, len): (usize, usize),
    offset: u64,
) -> Result<u64, Errno> {
    let from = pages.as_ptr(at, len).map_err(|_outside| Errno::FAULT)?;
    let offset = i64::try_from(offset).map_err(|_too_far| Errno::OVERFLOW)?;
    // SAFETY: `from` is the start of `len` bytes inside pages that are borrowed for the call.
    let done = unsafe { libc::pwrite64(fd.as_raw_fd(), from.cast(), len, offset) };
    bytes_or_errno(done)
}

/// `BLKDISCARD` of `linux/fs.h`: `_IO(0x12, 119)` with two u64, start and length in bytes.
pub(super) fn discard_blocks(fd: BorrowedFd<'_>, offset: u64, len: u64) -> Result<u64, Errno> {
    let range = [offset, len];
    // SAFETY: the ioctl reads two u64 at the address it is given, which is a live array of two.
    let done = unsafe { libc::ioctl(fd.as_raw_fd(), BLKDISCARD, range.as_ptr()) };
    bytes_or_errno(done as isize).map(|_zero| len)
}

/// The ring with the cheapest flags that this kernel knows.
fn build(depth: u32) -> io::Result<IoUring> {
    // One poll for events, one for stopping, one for the helper thread: they are completions too.
    let completions = depth.saturating_mul(2).saturating_add(16);
    let entries = depth.clamp(16, 256);
    let deferred = IoUring::builder()
        .setup_single_issuer()
        .setup_defer_taskrun()
        .setup_taskrun_flag()
        .setup_submit_all()
        .setup_clamp()
        .setup_cqsize(completions)
        .build(entries);
    match deferred {
        // Before 6.1 the kernel does not know DEFER_TASKRUN.
        Err(err) if Errno::from_io_error(&err) == Some(Errno::INVAL) => IoUring::builder()
            .setup_clamp()
            .setup_cqsize(completions)
            .build(entries),
        built => built,
    }
}

fn bytes_or_errno(done: isize) -> Result<u64, Errno> {
    u64::try_from(done)
        .map_err(|_negative| Errno::from_io_error(&io::Error::last_os_error()).unwrap_or(Errno::IO))
}

const POLLIN: u32 = libc::POLLIN.unsigned_abs() as u32;
const BLKDISCARD: libc::Ioctl = 0x1277;
