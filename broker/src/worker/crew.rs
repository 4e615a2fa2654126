//! The queues of one device, each on a thread of its own.

use std::fmt::Debug;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use crossbeam_channel::{Receiver, Sender, bounded};
use rustix::event::{EventfdFlags, eventfd};
use tracing::{Span, debug, error};

use super::Reporter;
use crate::message::Blame;

/// A connected queue: runs on the thread that connected it.
pub trait Queue: Debug {
    /// Serves until it is told to stop, then finishes what it has taken.
    ///
    /// # Errors
    /// The queue cannot go on.
    fn run(&mut self) -> Result<(), DeviceError>;
}

/// A queue that is to be connected, on the thread that will run it.
pub struct Recruit<Q> {
    /// The thread's name.
    pub name: String,
    /// What its log lines are about.
    pub span: Span,
    /// Connects it. The descriptor becomes readable when the device's queues shall end.
    pub connect: Box<dyn FnOnce(Arc<OwnedFd>) -> Result<Q, DeviceError> + Send>,
}

/// The threads of a connected device.
///
/// Having one tells you that all its queues run, or have ended with a report. Dropping it does not
/// stop them: [`stop`](Self::stop) does, and [`News::Closed`] follows when the last of them has
/// given everything back.
#[derive(Debug)]
pub(super) struct Crew {
    stop: Arc<OwnedFd>,
}

/// Why a device could not be connected, or cannot go on.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct DeviceError {
    /// Who has to mend it.
    pub blame: Blame,
    /// What is wrong.
    pub message: String,
}

/// What becomes of a device that was connected. It goes to the thread that connected it, which
/// reports it: so nothing is told before the connection is.
#[derive(Debug)]
pub(super) enum News {
    /// A queue has ended by itself.
    Fault {
        /// Which device.
        device: u32,
        /// Why.
        error: DeviceError,
    },
    /// The last queue has ended, and nothing is held any more.
    Closed {
        /// Which device.
        device: u32,
    },
}

/// What the threads of a device share.
#[derive(Debug)]
struct Roll {
    device: u32,
    running: AtomicUsize,
    news: Sender<News>,
}

type Started = Result<(), DeviceError>;

impl Crew {
    /// Starts every queue of a device; `news` is told what becomes of them.
    ///
    /// # Errors
    /// [`DeviceError`] of the first queue that could not be connected. All others have been stopped
    /// and nothing is held any more.
    pub(super) fn start<Q: Queue + 'static>(
        recruits: Vec<Recruit<Q>>,
        reporter: &Reporter,
        news: Sender<News>,
    ) -> Result<Self, DeviceError> {
        let stop = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)
            .map_err(DeviceError::host)?;
        let crew = Self {
            stop: Arc::new(stop),
        };
        let roll = Arc::new(Roll {
            device: reporter.device(),
            running: AtomicUsize::new(recruits.len()),
            news,
        });
        let queues: Vec<_> = recruits
            .into_iter()
            .map(|recruit| spawn(recruit, &crew.stop, &roll))
            .collect();
        crew.await_all(queues)
    }

    /// Lets every queue finish what it has taken, and end.
    pub(super) fn stop(&self) {
        if let Err(err) = rustix::io::write(&*self.stop, &1_u64.to_ne_bytes()) {
            error!(%err, "the queues cannot be told to stop");
        }
    }

    /// All queues run, or none does.
    fn await_all(self, queues: Vec<Result<Waiting, DeviceError>>) -> Result<Self, DeviceError> {
        let mut verdict = Ok(());
        let mut threads = Vec::new();
        for queue in queues {
            let started = queue.and_then(|waiting| {
                threads.push(waiting.thread);
                let died = || DeviceError::host("a queue's thread died while it was connected");
                waiting.started.recv().unwrap_or_else(|_gone| Err(died()))
            });
            verdict = verdict.and(started);
        }
        if verdict.is_err() {
            self.stop();
            for thread in threads {
                if thread.join().is_err() {
                    error!("a queue's thread had panicked");
                }
            }
        }
        verdict.map(|()| self)
    }
}

/// A queue's thread and where it says whether it could be connected.
#[derive(Debug)]
struct Waiting {
    thread: thread::JoinHandle<()>,
    started: Receiver<Started>,
}

fn spawn<Q: Queue + 'static>(
    recruit: Recruit<Q>,
    stop: &Arc<OwnedFd>,
    roll: &Arc<Roll>,
) -> Result<Waiting, DeviceError> {
    let (tell, started) = bounded(1);
    let (stop, roll) = (Arc::clone(stop), Arc::clone(roll));
    let Recruit {
        name,
        span,
        connect,
    } = recruit;
    let thread = thread::Builder::new()
        .name(name)
        .spawn(move || {
            let _span = span.entered();
            serve(|| connect(stop), &roll, &tell);
        })
        .map_err(DeviceError::host)?;
    Ok(Waiting { thread, started })
}

/// The whole life of a queue's thread.
fn serve<Q: Queue>(
    connect: impl FnOnce() -> Result<Q, DeviceError>,
    roll: &Roll,
    tell: &Sender<Started>,
) {
    let mut queue = match connect() {
        Ok(queue) => queue,
        Err(error) => {
            // Nobody waits for the second of two errors.
            drop(tell.send(Err(error)));
            return;
        }
    };
    if tell.send(Ok(())).is_err() {
        return;
    }
    if let Err(error) = queue.run() {
        let device = roll.device;
        roll.tell(News::Fault { device, error });
    }
    drop(queue);
    roll.left();
}

impl Roll {
    /// A queue has ended and holds nothing any more.
    fn left(&self) {
        // Release what this queue gave back, acquire what the others did: the last one speaks for
        // all of them.
        if self.running.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.tell(News::Closed {
                device: self.device,
            });
        }
    }

    fn tell(&self, news: News) {
        if let Err(unheard) = self.news.send(news) {
            debug!(news = ?unheard.0, "the worker is gone already");
        }
    }
}

impl DeviceError {
    /// This host has to mend it.
    pub fn host(reason: impl std::fmt::Display) -> Self {
        Self {
            blame: Blame::Host,
            message: reason.to_string(),
        }
    }
}

impl<Q> Debug for Recruit<Q> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Recruit")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}
