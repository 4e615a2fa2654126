//! One ring: takes requests, has them done, answers them, sleeps.
//!
//! The whole life of a queue is [`Queue::run`], on a thread of its own: it shares nothing that
//! changes with any other queue. One pass looks at everything once, in the order in which things
//! become possible:
//!
//! ```text
//! reap     what the disk has done                                  outcome.rs
//! take     what the guest asks                                     intake.rs
//! move     all staged pages, one GRANT_COPY for the whole pass     data
//! start    what has its data; answer what is done
//! publish  once; notify if the guest asked
//! rearm    look again; sleep
//! ```

mod connect;
mod intake;
mod outcome;
mod slot;

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;

use broker::message::Blame;
use broker::worker::Reporter;
use evtchn::{Bell, EvtchnError};
use gntdev::Mapping;
use ring_proto::blkif::{Abi, Geometry};
use ring_proto::{BackRing, Notify, Overrun};

use crate::data::{Arena, DataPath};
use crate::disk::Disk;
use crate::engine::{Completion, Engine};
use crate::metrics::Counters;

pub use connect::{ConnectError, QueueSetup};
use slot::Slots;

/// One connected ring.
///
/// Having one tells you that its pages are mapped, its port is bound, and the engine runs. Dropping
/// it gives everything back; requests on their way are then never answered.
#[derive(Debug)]
pub struct Queue {
    // In this order on drop: nothing may refer to what goes before it.
    engine: Engine,
    data: DataPath,
    arena: Arena,
    slots: Slots,
    ring: BackRing<Mapping>,
    bell: Bell,
    abi: Abi,
    geometry: Geometry,
    disk: Arc<Disk>,
    counters: Counters,
    reporter: Reporter,
    work: Work,
    stopping: bool,
}

/// Slots that wait for the next step of a pass. Kept between passes for their storage.
#[derive(Debug, Default)]
struct Work {
    completions: Vec<Completion>,
    /// Segment descriptors are being copied.
    fetching: Vec<u32>,
    /// No private pages yet, oldest first.
    starved: VecDeque<u32>,
    /// Data staged; the disk is next.
    ready: Vec<u32>,
    /// Data staged or none needed; the answer is next.
    done: Vec<u32>,
}

/// Why a queue ended before it was told to.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum QueueFault {
    /// The guest broke the ring for good.
    #[error("the frontend broke the ring: {0}")]
    Overrun(#[from] Overrun),
    /// The event channel failed.
    #[error("event channel: {0}")]
    Events(#[from] EvtchnError),
    /// A system call that a queue cannot do without failed.
    #[error("I/O engine: {0}")]
    Host(#[from] io::Error),
}

impl QueueFault {
    /// Who caused it.
    #[must_use]
    pub const fn blame(&self) -> Blame {
        match self {
            Self::Overrun(_) => Blame::Guest,
            Self::Events(_) | Self::Host(_) => Blame::Host,
        }
    }
}

/// What a pass left behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pass {
    /// There is more to do right now.
    Busy,
    /// Only the disk or the guest can make progress.
    Idle,
    /// The queue was told to stop and owes nothing that it can still give.
    Finished,
}

impl Queue {
    /// Serves the ring until it is told to stop, then finishes what it has taken.
    ///
    /// # Errors
    /// [`QueueFault`]: the queue cannot go on. What was taken and could be finished is answered.
    pub fn run(&mut self) -> Result<(), QueueFault> {
        let ended = self.serve();
        if ended.is_err() {
            // A broken ring can still be answered, and the disk must be left in peace.
            self.stopping = true;
            self.engine.mute();
            if self.serve().is_err() {
                self.quiesce()?;
            }
        }
        ended
    }

    /// Nothing can be answered any more, but what the disk was given is still on its way.
    fn quiesce(&mut self) -> io::Result<()> {
        while self.engine.in_flight() > 0 {
            self.engine.wait(None)?;
            self.engine.reap(&mut self.work.completions)?;
            self.work.completions.clear();
        }
        Ok(())
    }

    /// What this queue has done so far.
    #[must_use]
    pub const fn counters(&self) -> &Counters {
        &self.counters
    }

    fn serve(&mut self) -> Result<(), QueueFault> {
        loop {
            match self.pass()? {
                Pass::Busy => self.engine.flush()?,
                Pass::Idle => self.engine.wait(self.bell.due())?,
                Pass::Finished => return Ok(()),
            }
        }
    }

    fn pass(&mut self) -> Result<Pass, QueueFault> {
        self.reap()?;
        let budget_spent = self.take_requests()?;
        self.move_data()?;
        self.start_ready()?;
        self.answer_done();
        self.publish()?;
        if self.stopping {
            return Ok(self.left_to_finish());
        }
        if budget_spent || !self.work.starved.is_empty() && self.engine.in_flight() == 0 {
            return Ok(Pass::Busy);
        }
        if self.work.starved.is_empty() && self.ring.rearm()? {
            return Ok(Pass::Busy);
        }
        Ok(Pass::Idle)
    }

    /// Shows the guest its answers, and rings once if it asked.
    fn publish(&mut self) -> Result<(), QueueFault> {
        if self.ring.publish() == Notify::Needed {
            self.counters.notifications += 1;
            self.bell.notify_all()?;
        }
        Ok(())
    }

    fn left_to_finish(&self) -> Pass {
        if self.engine.in_flight() > 0 {
            Pass::Idle
        } else if self.work.starved.is_empty() {
            // Whatever is left is withheld, or was lost to a fault.
            Pass::Finished
        } else {
            Pass::Busy
        }
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        // Now, and not when the kernel lets go of the engine's poll of the device.
        if let Err(err) = self.bell.unbind() {
            tracing::debug!(%err, "the port closes with its device");
        }
    }
}
