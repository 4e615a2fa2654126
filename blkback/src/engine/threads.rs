//! The plain engine: a few threads, one system call per operation.
//!
//! It serves disks where the kernel has no `io_uring` or must not use it, and it is the helper of
//! [`Uring`](super::Uring) for what only an ioctl can do. Completions come back through a channel;
//! an eventfd makes the channel something that can be polled.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Instant;

use crossbeam_channel::{Receiver, Sender, bounded};
use gntdev::LocalPages;
use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use rustix::fs::{FallocateFlags, fallocate, fdatasync};
use rustix::io::Errno;

use super::{Completion, Io, IoKind, Wake, WakeSources, sys};
use crate::disk::Disk;

/// The engine that this module describes.
#[derive(Debug)]
pub struct Threads {
    work: Option<Sender<Io>>,
    done: Receiver<Completion>,
    crew: Crew,
    threads: Vec<JoinHandle<()>>,
    size: usize,
    watched: Option<Watched>,
    in_flight: u32,
}

/// What every thread of the pool has.
#[derive(Clone, Debug)]
struct Crew {
    disk: Arc<Disk>,
    pages: Arc<LocalPages>,
    work: Receiver<Io>,
    done: Sender<Completion>,
    bell: Arc<OwnedFd>,
}

#[derive(Debug)]
struct Watched {
    events: OwnedFd,
    stop: OwnedFd,
    wake: Wake,
    /// Neither matters any more: a queue that stops takes nothing new.
    muted: bool,
}

impl Threads {
    /// A pool of `size` threads, which [`start`](Self::start) starts, for `depth` operations.
    pub(super) fn new(
        size: usize,
        depth: u32,
        disk: &Arc<Disk>,
        pages: &Arc<LocalPages>,
    ) -> io::Result<Self> {
        let (work, orders) = bounded(depth as usize);
        let (results, done) = bounded(depth as usize);
        let bell = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        Ok(Self {
            work: Some(work),
            done,
            crew: Crew {
                disk: Arc::clone(disk),
                pages: Arc::clone(pages),
                work: orders,
                done: results,
                bell: Arc::new(bell),
            },
            threads: Vec::new(),
            size,
            watched: None,
            in_flight: 0,
        })
    }

    /// Adds what [`wait`](Self::wait) wakes for.
    pub(super) fn watch(&mut self, sources: WakeSources<'_>) -> io::Result<()> {
        self.watched = Some(Watched {
            events: sources.events.try_clone_to_owned()?,
            stop: sources.stop.try_clone_to_owned()?,
            wake: Wake::default(),
            muted: false,
        });
        Ok(())
    }

    /// Starts the threads that do not run yet: before the first operation, so that a host without
    /// room for them refuses the disk and not a request.
    pub(super) fn start(&mut self) -> io::Result<()> {
        while self.threads.len() < self.size {
            let crew = self.crew.clone();
            let thread = thread::Builder::new()
                .name("disk".into())
                .spawn(move || crew.serve())?;
            self.threads.push(thread);
        }
        Ok(())
    }

    /// Wakes for completions only from now on.
    pub(super) const fn mute(&mut self) {
        if let Some(watched) = &mut self.watched {
            watched.muted = true;
        }
    }

    /// Readable while completions wait.
    pub(super) fn done_fd(&self) -> BorrowedFd<'_> {
        self.crew.bell.as_fd()
    }

    pub(super) fn submit(&mut self, io: Io) -> io::Result<()> {
        self.start()?;
        let Some(work) = &self.work else {
            return Err(Errno::SHUTDOWN.into());
        };
        work.try_send(io)
            .map_err(|_full| io::Error::from(Errno::NOBUFS))?;
        self.in_flight += 1;
        Ok(())
    }

    /// Appends what has completed.
    pub(super) fn collect(&mut self, out: &mut Vec<Completion>) {
        // The bell first: a completion that comes after it rings again.
        if let Err(err) = rustix::io::read(&self.crew.bell, &mut [0; 8])
            && err != Errno::AGAIN
        {
            tracing::error!(%err, "the disk threads' eventfd cannot be read");
        }
        for completion in self.done.try_iter() {
            self.in_flight = self.in_flight.saturating_sub(1);
            out.push(completion);
        }
    }

    pub(super) fn reap(&mut self, out: &mut Vec<Completion>) -> Wake {
        self.collect(out);
        self.watched
            .as_mut()
            .map(|watched| std::mem::take(&mut watched.wake))
            .unwrap_or_default()
    }

    pub(super) fn wait(&mut self, deadline: Option<Instant>) -> io::Result<()> {
        self.poll(deadline.map(until).as_ref())
    }

    /// Looks what there is to wake for, so that a queue that never sleeps hears of it too.
    pub(super) fn look(&mut self) -> io::Result<()> {
        self.poll(Some(&Timespec::default()))
    }

    fn poll(&mut self, timeout: Option<&Timespec>) -> io::Result<()> {
        let Some(watched) = &mut self.watched else {
            return Ok(());
        };
        let mut fds = [
            PollFd::new(&self.crew.bell, PollFlags::IN),
            PollFd::new(&watched.events, PollFlags::IN),
            PollFd::new(&watched.stop, PollFlags::IN),
        ];
        let fds = match watched.muted {
            true => &mut fds[..1],
            false => &mut fds[..],
        };
        match poll(fds, timeout) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(err) => return Err(err.into()),
        }
        if let [_, events, stop] = fds {
            watched.wake.event |= !events.revents().is_empty();
            watched.wake.stop |= !stop.revents().is_empty();
            // It stays readable: watched any longer, it would end every sleep.
            watched.muted = watched.wake.stop;
        }
        Ok(())
    }

    pub(super) const fn in_flight(&self) -> u32 {
        self.in_flight
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        // Without a sender the threads finish what they have and end.
        self.work = None;
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                tracing::error!("a disk thread had panicked");
            }
        }
    }
}

impl Crew {
    fn serve(&self) {
        for io in &self.work {
            let completion = Completion {
                token: io.token,
                result: self.perform(&io),
            };
            if self.done.send(completion).is_err() {
                return;
            }
            if let Err(err) = rustix::io::write(&*self.bell, &1_u64.to_ne_bytes()) {
                tracing::error!(%err, "the disk threads' eventfd cannot be written");
            }
        }
    }

    fn perform(&self, io: &Io) -> Result<u64, Errno> {
        let fd = self.disk.as_fd();
        let range = (io.at, usize::try_from(io.len).unwrap_or(usize::MAX));
        loop {
            let result = match io.kind {
                IoKind::Read => sys::read_at(fd, &self.pages, range, io.offset),
                IoKind::Write => sys::write_at(fd, &self.pages, range, io.offset),
                IoKind::Flush => fdatasync(fd).map(|()| 0),
                IoKind::Discard if self.disk.is_block_device() => {
                    sys::discard_blocks(fd, io.offset, io.len)
                }
                IoKind::Discard => {
                    let mode = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
                    fallocate(fd, mode, io.offset, io.len).map(|()| io.len)
                }
            };
            if result != Err(Errno::INTR) {
                return result;
            }
        }
    }
}

fn until(deadline: Instant) -> Timespec {
    let left = deadline.saturating_duration_since(Instant::now());
    // Longer than a day is as good as for ever here.
    Timespec {
        tv_sec: i64::try_from(left.as_secs()).unwrap_or(86_400),
        tv_nsec: i64::from(left.subsec_nanos()),
    }
}
