//! The fast engine: one `io_uring` per queue, which is also the queue's event loop.
//!
//! `SINGLE_ISSUER | DEFER_TASKRUN`: completions are delivered when the queue asks for them and by
//! no other thread. Disk and buffer are registered, so the kernel takes no reference and pins no
//! page per operation. The event channel and the stop signal are polled inside the ring: a queue
//! sleeps in exactly one place.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::sync::{Arc, Once};
use std::time::Instant;

use gntdev::LocalPages;
use io_uring::types::{Fixed, FsyncFlags, Timespec};
use io_uring::{cqueue, opcode};
use rustix::fs::FallocateFlags;
use rustix::io::Errno;
use tracing::warn;

use super::sys::Ring;
use super::{Completion, Io, IoKind, Threads, Wake, WakeSources};
use crate::disk::Disk;

/// The engine that this module describes.
#[derive(Debug)]
pub struct Uring {
    // Dropped first: the ring refers to the files below it.
    ring: Ring,
    disk: Arc<Disk>,
    /// Carries what `io_uring` cannot: `BLKDISCARD` is an ioctl.
    helper: Threads,
    events: OwnedFd,
    stop: OwnedFd,
    unsent: u32,
    /// How many operations make a batch.
    quantum: u32,
}

impl Uring {
    pub(super) fn new(
        disk: &Arc<Disk>,
        pages: &Arc<LocalPages>,
        sources: WakeSources<'_>,
        depth: u32,
    ) -> io::Result<Self> {
        let mut helper = Threads::new(1, depth, disk, pages)?;
        if disk.is_block_device() && disk.spec().discard.is_some() {
            helper.start()?;
        }
        let ring = Ring::new(depth, disk.as_raw_fd(), pages)?;
        if !ring.fixed_buffers() {
            // Once: guests connect as often as they like.
            TOLD.call_once(|| {
                warn!("I/O buffers cannot be registered; raise RLIMIT_MEMLOCK to save CPU");
            });
        }
        let mut uring = Self {
            ring,
            disk: Arc::clone(disk),
            helper,
            events: sources.events.try_clone_to_owned()?,
            stop: sources.stop.try_clone_to_owned()?,
            unsent: 0,
            quantum: SHORTEST_QUANTUM,
        };
        for source in [EVENTS, STOP, HELPER] {
            uring.poll(source)?;
        }
        uring.ring.enter(0, None)?;
        Ok(uring)
    }

    pub(super) fn submit(&mut self, io: Io) -> io::Result<()> {
        let token = u64::from(io.token);
        match io.kind {
            IoKind::Read => self.ring.push_read(DISK, io.offset, transfer(&io), token)?,
            IoKind::Write => self
                .ring
                .push_write(DISK, io.offset, transfer(&io), token)?,
            IoKind::Flush => {
                let entry = opcode::Fsync::new(DISK).flags(FsyncFlags::DATASYNC).build();
                self.ring.push_plain(entry, token)?;
            }
            IoKind::Discard if self.disk.is_block_device() => return self.helper.submit(io),
            IoKind::Discard => self.ring.push_plain(punch_hole(&io), token)?,
        }
        self.unsent += 1;
        if self.unsent >= self.quantum {
            self.submit_batch()?;
        }
        Ok(())
    }

    /// Gives the kernel a batch, and learns from it how long the next one shall be.
    fn submit_batch(&mut self) -> io::Result<()> {
        let (sent, before) = (self.unsent as usize, self.ring.completions());
        self.flush()?;
        let at_once = self.ring.completions().saturating_sub(before) >= sent;
        self.quantum = if at_once {
            (self.quantum * 2).min(LONGEST_QUANTUM)
        } else {
            SHORTEST_QUANTUM
        };
        Ok(())
    }

    pub(super) fn flush(&mut self) -> io::Result<()> {
        self.unsent = 0;
        if self.ring.queued() > 0 || self.ring.wants_enter() {
            self.ring.enter(0, None)?;
        }
        Ok(())
    }

    pub(super) fn reap(&mut self, out: &mut Vec<Completion>) -> io::Result<Wake> {
        let mut wake = Wake::default();
        while let Some((user_data, result, flags)) = self.ring.completion() {
            if let Ok(token) = u32::try_from(user_data) {
                self.ring.settled();
                let result = bytes_or_errno(result);
                out.push(Completion { token, result });
                continue;
            }
            match user_data {
                EVENTS => wake.event = true,
                STOP => wake.stop = true,
                _helper => self.helper.collect(out),
            }
            if !cqueue::more(flags) {
                // The kernel ended this multishot poll. Armed anew, it completes at once if the
                // file is readable by then, so nothing is missed in between.
                self.poll(user_data)?;
            }
        }
        Ok(wake)
    }

    /// Polls what `source` names, until the kernel says otherwise.
    fn poll(&mut self, source: u64) -> io::Result<()> {
        let fd: RawFd = match source {
            EVENTS => self.events.as_raw_fd(),
            STOP => self.stop.as_raw_fd(),
            _helper => self.helper.done_fd().as_raw_fd(),
        };
        self.ring.push_poll(fd, source)
    }

    pub(super) fn wait(&mut self, deadline: Option<Instant>) -> io::Result<()> {
        self.unsent = 0;
        // What was done at once needs no system call to be seen.
        if self.ring.completions() > 0 && self.ring.queued() == 0 && !self.ring.wants_enter() {
            return Ok(());
        }
        self.ring.enter(1, deadline.map(until))
    }

    pub(super) const fn in_flight(&self) -> u32 {
        self.ring.in_flight() + self.helper.in_flight()
    }
}

fn transfer(io: &Io) -> (usize, u32) {
    // A transfer is at most 256 pages; a longer one would be a bug and moves less, not more.
    (io.at, u32::try_from(io.len).unwrap_or(u32::MAX))
}

fn punch_hole(io: &Io) -> io_uring::squeue::Entry {
    let mode = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
    opcode::Fallocate::new(DISK, io.len)
        .offset(io.offset)
        .mode(mode.bits().cast_signed())
        .build()
}

fn bytes_or_errno(result: i32) -> Result<u64, Errno> {
    u64::try_from(result).map_err(|_negative| Errno::from_raw_os_error(result.saturating_neg()))
}

fn until(deadline: Instant) -> Timespec {
    let left = deadline.saturating_duration_since(Instant::now());
    Timespec::new()
        .sec(left.as_secs())
        .nsec(left.subsec_nanos())
}

static TOLD: Once = Once::new();

/// The only registered file.
const DISK: Fixed = Fixed(0);

// User data above every token.
const EVENTS: u64 = 1 << 32;
const STOP: u64 = 2 << 32;
const HELPER: u64 = 3 << 32;

/// Operations handed to the kernel at once. One big batch makes a disk idle while the batch is built
/// and floods it afterwards.
const SHORTEST_QUANTUM: u32 = 4;
/// The same where operations are done before the kernel returns (memory, the page cache): there is
/// nobody to keep busy meanwhile, and each batch costs a system call.
const LONGEST_QUANTUM: u32 = 32;
