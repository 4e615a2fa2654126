//! One VBD: its disk and the threads of its queues.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use broker::message::Blame;
use crossbeam_channel::{Receiver, Sender, bounded};
use evtchn::Evtchn;
use gntdev::Gntdev;
use rustix::event::{EventfdFlags, eventfd};
use tracing::{debug, error, info_span};

use crate::disk::Disk;
use crate::queue::{Queue, QueueSetup};
use crate::reporter::Reporter;
use crate::spec::VbdSpec;

/// A connected device.
///
/// Having one tells you that all its queues run, or have ended with a report. Dropping it does not
/// stop them: [`stop`](Self::stop) does, and [`News::Closed`] follows when the last of them has
/// given everything back.
#[derive(Debug)]
pub struct Vbd {
    stop: Arc<OwnedFd>,
}

/// The descriptors that came with a [`VbdSpec`], as handles.
#[derive(Debug)]
pub struct VbdHandles {
    /// The image or block device.
    pub disk: OwnedFd,
    /// For each ring its event channels and grants.
    pub rings: Vec<(Evtchn, Gntdev)>,
}

/// Why a device could not be connected.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct VbdError {
    /// Who has to mend it.
    pub blame: Blame,
    /// What is wrong.
    pub message: String,
}

/// What becomes of a device that was connected. It goes to the thread that connected it, which
/// reports it: so nothing is told before the connection is.
#[derive(Debug)]
pub enum News {
    /// A queue has ended by itself.
    Fault {
        /// Which device.
        device: u32,
        /// Who caused it.
        blame: Blame,
        /// What has happened.
        message: String,
    },
    /// The last queue has ended, and nothing is held any more.
    Closed {
        /// Which device.
        device: u32,
    },
}

/// What the queues of a device share.
#[derive(Debug)]
struct Crew {
    device: u32,
    running: AtomicUsize,
    news: Sender<News>,
}

type Started = Result<(), VbdError>;

impl Vbd {
    /// Starts every queue of a device; `news` is told what becomes of them.
    ///
    /// # Errors
    /// [`VbdError`] of the first queue that could not be connected. All others have been stopped
    /// and nothing is held any more.
    pub fn connect(
        spec: VbdSpec,
        handles: VbdHandles,
        reporter: &Reporter,
        news: Sender<News>,
    ) -> Result<Self, VbdError> {
        let stop = Arc::new(
            eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)
                .map_err(|err| VbdError::host(&err))?,
        );
        let vbd = Self { stop };
        let disk = Arc::new(Disk::new(handles.disk, spec.disk.clone()));
        let spec = Arc::new(spec);
        let crew = Arc::new(Crew {
            device: reporter.device(),
            running: AtomicUsize::new(spec.rings.len()),
            news,
        });
        let mut queues = Vec::new();
        for (index, (events, grants)) in handles.rings.into_iter().enumerate() {
            let Some(ring) = spec.rings.get(index).cloned() else {
                break;
            };
            let setup = QueueSetup {
                events,
                grants,
                ring,
                disk: Arc::clone(&disk),
                stop: Arc::clone(&vbd.stop),
                reporter: reporter.clone(),
            };
            queues.push(spawn(index, setup, &spec, &crew));
        }
        drop(disk);
        vbd.await_all(queues)
    }

    /// Lets every queue finish what it has taken, and end.
    pub fn stop(&self) {
        if let Err(err) = rustix::io::write(&*self.stop, &1_u64.to_ne_bytes()) {
            error!(%err, "the queues cannot be told to stop");
        }
    }

    /// All queues run, or none does.
    fn await_all(self, queues: Vec<Result<Waiting, VbdError>>) -> Result<Self, VbdError> {
        let mut verdict = Ok(());
        let mut threads = Vec::new();
        for queue in queues {
            let started = queue.and_then(|waiting| {
                threads.push(waiting.thread);
                let died = || VbdError::host(&"a queue's thread died while it was connected");
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

fn spawn(
    index: usize,
    setup: QueueSetup,
    spec: &Arc<VbdSpec>,
    crew: &Arc<Crew>,
) -> Result<Waiting, VbdError> {
    let (tell, started) = bounded(1);
    let (spec, crew) = (Arc::clone(spec), Arc::clone(crew));
    let thread = thread::Builder::new()
        .name(format!("vbd-{}-q{index}", spec.vdev))
        .spawn(move || {
            let _span = info_span!("vbd", vdev = spec.vdev, queue = index).entered();
            serve(setup, &spec, &crew, &tell);
        })
        .map_err(|err| VbdError::host(&err))?;
    Ok(Waiting { thread, started })
}

/// The whole life of a queue's thread.
fn serve(setup: QueueSetup, spec: &VbdSpec, crew: &Crew, tell: &Sender<Started>) {
    let mut queue = match Queue::connect(setup, spec) {
        Ok(queue) => queue,
        Err(err) => {
            let error = VbdError {
                blame: err.blame(),
                message: err.to_string(),
            };
            // Nobody waits for the second of two errors.
            drop(tell.send(Err(error)));
            return;
        }
    };
    if tell.send(Ok(())).is_err() {
        return;
    }
    if let Err(fault) = queue.run() {
        let blame = if fault.is_guests() {
            Blame::Guest
        } else {
            Blame::Host
        };
        crew.tell(News::Fault {
            device: crew.device,
            blame,
            message: fault.to_string(),
        });
    }
    debug!(counters = ?queue.counters(), "the queue has ended");
    drop(queue);
    crew.left();
}

impl Crew {
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

impl VbdError {
    fn host(reason: &dyn std::fmt::Display) -> Self {
        Self {
            blame: Blame::Host,
            message: reason.to_string(),
        }
    }
}
