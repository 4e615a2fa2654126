//! Carries I/O between private pages and the disk, and is where a queue sleeps.
//!
//! Two engines with one behaviour: [`Uring`] is the fast one, [`Threads`] is for kernels without
//! `io_uring` and for administrators who forbid it. An enum and not a trait object: there are two,
//! every test runs both, and a match is exhaustive.
//!
//! An engine never looks at data, never knows a guest, and never refuses work: a queue has at most
//! one operation per ring slot in flight, and engines are built for that many.

mod sys;
mod threads;
mod uring;

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::{Arc, Once};
use std::time::Instant;

use gntdev::LocalPages;
use rustix::io::Errno;
use tracing::info;

use crate::disk::Disk;
use crate::spec::EngineChoice;

pub use threads::Threads;
pub use uring::Uring;

/// What is to be done to the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IoKind {
    /// From the disk into private pages.
    Read,
    /// From private pages to the disk.
    Write,
    /// Everything written before is on stable storage when this completes.
    Flush,
    /// The range's contents are no longer needed.
    Discard,
}

/// One operation for the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Io {
    /// Given back with the completion: the queue's slot.
    pub token: u32,
    /// What to do.
    pub kind: IoKind,
    /// Where on the disk, in bytes. Ignored by a flush.
    pub offset: u64,
    /// How much, in bytes. Ignored by a flush.
    pub len: u64,
    /// Where in the private pages, in bytes. Ignored by a flush and a discard.
    pub at: usize,
}

impl Io {
    /// A flush of the whole disk.
    #[must_use]
    pub const fn flush(token: u32) -> Self {
        Self {
            token,
            kind: IoKind::Flush,
            offset: 0,
            len: 0,
            at: 0,
        }
    }
}

/// The end of one operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Completion {
    /// Whose.
    pub token: u32,
    /// Bytes done, which may be fewer than asked, or why not.
    pub result: Result<u64, Errno>,
}

/// What has happened besides completions since the last [`Engine::reap`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Wake {
    /// The event channel is readable.
    pub event: bool,
    /// The queue was told to stop.
    pub stop: bool,
}

/// What an engine waits for besides its own completions.
#[derive(Clone, Copy, Debug)]
pub struct WakeSources<'a> {
    /// The event channel device.
    pub events: BorrowedFd<'a>,
    /// An eventfd written once, when the queue shall end.
    pub stop: BorrowedFd<'a>,
}

/// An engine, running.
#[expect(
    clippy::large_enum_variant,
    reason = "one per queue, built in place and never moved"
)]
#[derive(Debug)]
pub enum Engine {
    /// See [`Uring`].
    Uring(Uring),
    /// See [`Threads`].
    Threads(Threads),
}

impl Engine {
    /// Builds the engine for one queue, on the thread that will run it.
    ///
    /// `pages` are where transfers go to and come from; `depth` is the most operations in flight.
    ///
    /// # Errors
    /// The kernel has no `io_uring` although the configuration demands it, or a system call
    /// failed for want of memory or descriptors: the host's fault either way.
    pub fn new(
        choice: EngineChoice,
        disk: &Arc<Disk>,
        pages: &Arc<LocalPages>,
        sources: WakeSources<'_>,
        depth: u32,
    ) -> io::Result<Self> {
        if choice == EngineChoice::Threads {
            return Self::threads(disk, pages, sources, depth);
        }
        match Uring::new(disk, pages, sources, depth) {
            Ok(uring) => Ok(Self::Uring(uring)),
            Err(err) if choice == EngineChoice::Auto && is_unavailable(&err) => {
                // Once: guests connect as often as they like.
                TOLD.call_once(|| info!(%err, "no io_uring here; serving disks with threads"));
                Self::threads(disk, pages, sources, depth)
            }
            Err(err) => Err(err),
        }
    }

    fn threads(
        disk: &Arc<Disk>,
        pages: &Arc<LocalPages>,
        sources: WakeSources<'_>,
        depth: u32,
    ) -> io::Result<Self> {
        let mut threads = Threads::new(POOL_THREADS, depth, disk, pages)?;
        threads.watch(sources)?;
        threads.start()?;
        Ok(Self::Threads(threads))
    }

    /// Hands an operation over. It may reach the kernel only at the next [`flush`](Self::flush)
    /// or [`wait`](Self::wait).
    ///
    /// # Errors
    /// The kernel refused the submission itself (not the operation): the host's fault.
    pub fn submit(&mut self, io: Io) -> io::Result<()> {
        match self {
            Self::Uring(uring) => uring.submit(io),
            Self::Threads(threads) => threads.submit(io),
        }
    }

    /// Makes sure that the kernel has everything that was submitted, and looks what has happened,
    /// without waiting.
    ///
    /// # Errors
    /// As [`submit`](Self::submit).
    pub fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Uring(uring) => uring.flush(),
            Self::Threads(threads) => threads.look(),
        }
    }

    /// Appends what has completed to `out`, without waiting, and says what else has happened.
    ///
    /// # Errors
    /// As [`wait`](Self::wait).
    pub fn reap(&mut self, out: &mut Vec<Completion>) -> io::Result<Wake> {
        match self {
            Self::Uring(uring) => uring.reap(out),
            Self::Threads(threads) => Ok(threads.reap(out)),
        }
    }

    /// Sleeps until something completes, a source wakes, or `deadline` passes.
    ///
    /// # Errors
    /// The wait itself failed: the host's fault.
    pub fn wait(&mut self, deadline: Option<Instant>) -> io::Result<()> {
        match self {
            Self::Uring(uring) => uring.wait(deadline),
            Self::Threads(threads) => threads.wait(deadline),
        }
    }

    /// Ends a sleep for completions only from now on: the queue takes nothing new.
    pub const fn mute(&mut self) {
        match self {
            // Its polls fire once for each event, and so end no second sleep.
            Self::Uring(_) => {}
            Self::Threads(threads) => threads.mute(),
        }
    }

    /// Operations handed over and not reaped.
    #[must_use]
    pub fn in_flight(&self) -> u32 {
        match self {
            Self::Uring(uring) => uring.in_flight(),
            Self::Threads(threads) => threads.in_flight(),
        }
    }

    /// The engine's name for logs and status.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Uring(_) => "io_uring",
            Self::Threads(_) => "threads",
        }
    }
}

/// Did `io_uring_setup` say that there is no `io_uring`, rather than that there is no room?
fn is_unavailable(err: &io::Error) -> bool {
    // ENOSYS: no such system call. EPERM: kernel.io_uring_disabled or a seccomp filter.
    // EINVAL: a kernel so old that it knows none of the flags.
    matches!(
        Errno::from_io_error(err),
        Some(Errno::NOSYS | Errno::PERM | Errno::INVAL)
    )
}

impl<'a> WakeSources<'a> {
    /// Names the two descriptors.
    pub fn new(events: &'a impl AsFd, stop: &'a impl AsFd) -> Self {
        Self {
            events: events.as_fd(),
            stop: stop.as_fd(),
        }
    }
}

static TOLD: Once = Once::new();

/// Threads of a queue without `io_uring`: enough that a slow read does not hold up its neighbours.
const POOL_THREADS: usize = 4;

#[cfg(test)]
mod tests;
