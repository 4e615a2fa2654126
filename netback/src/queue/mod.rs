//! One queue of a VIF: a transmit ring, a receive ring, and a queue of the tap between them.
//!
//! The whole life of a queue is [`Queue::run`], on a thread of its own. One pass looks at everything
//! once:
//!
//! ```text
//! hear      what has rung, and whether it rings too often
//! transmit  slots ─► packets ─► one GRANT_COPY ─► headers ─► tap ─► answers       tx.rs
//! receive   tap ─► frames ─► requests that were waited for ─► one GRANT_COPY      rx/
//! publish   both rings once; notify if the guest asked
//! rearm     ask to be rung, look again, sleep in poll; or doze, and do not ask        nap.rs
//! ```
//!
//! Frames for a guest are left in the tap, whose queue is bounded and counts what it drops, until
//! the guest has posted buffers for the longest that there may be (XSA-392).

mod connect;
mod layout;
mod nap;
mod outbox;
mod rx;
mod steer;
mod sys;
mod tx;

use std::cell::Cell;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use broker::message::Blame;
use evtchn::{Bell, EvtchnError};
use gntdev::{GrantError, LocalPages};
use ring_proto::netif::TxFault;
use ring_proto::{Notify, Overrun};
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::time::{ClockId, clock_gettime};

pub use connect::{ConnectError, QueueSetup};
use nap::Nap;
use rx::Rx;
pub use steer::Steer;
use tx::Tx;

use crate::filter::Filter;
use crate::ledger::Page;
use crate::metrics::Counters;
use crate::scratch;
use crate::sleep::{self, is_ready, until};
use crate::tap::TapQueue;
use crate::vif::Vif;

/// One connected queue.
///
/// Having one tells you that its rings are mapped and its ports bound. Dropping it gives everything
/// back.
#[derive(Debug)]
pub struct Queue {
    tx: Tx,
    rx: Rx,
    tap: TapQueue,
    vif: Arc<Vif>,
    /// What the policy makes of frames, as of the last pass, and which change of it that is.
    filter: (u32, Arc<Filter>),
    page: Page,
    /// Which rates its guest may be held back by.
    rates: u32,
    /// Of the transmit and of the receive ring; one if the frontend has one for both.
    bell: Bell,
    stop: Arc<OwnedFd>,
    nap: Nap,
    counters: Counters,
}

/// Why a queue ended before it was told to.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum QueueFault {
    /// The guest broke the transmit ring for good.
    #[error("the frontend broke the transmit ring: {0}")]
    Tx(#[from] TxFault),
    /// The guest broke the receive ring for good.
    #[error("the frontend broke the receive ring: {0}")]
    Rx(#[from] Overrun),
    /// The event channel failed.
    #[error("event channel: {0}")]
    Events(#[from] EvtchnError),
    /// Grants cannot be copied at all.
    #[error("grant copy: {0}")]
    Grants(#[from] GrantError),
    /// The tap failed.
    #[error("tap: {0}; if it was deleted, detach the interface and attach it again")]
    Tap(#[source] io::Error),
    /// The queue cannot sleep.
    #[error("poll: {0}")]
    Poll(#[source] io::Error),
}

impl QueueFault {
    /// Who caused it.
    #[must_use]
    pub const fn blame(&self) -> Blame {
        match self {
            Self::Tx(_) | Self::Rx(_) => Blame::Guest,
            Self::Events(_) | Self::Grants(_) | Self::Tap(_) | Self::Poll(_) => Blame::Host,
        }
    }
}

/// What one pass works with.
#[derive(Debug)]
struct Means<'a> {
    tap: &'a TapQueue,
    filter: &'a Filter,
    page: &'a mut Page,
    /// Private memory, for this pass only.
    pages: &'a LocalPages,
    clock: &'a Clock,
    counters: &'a mut Counters,
}

/// What woke a queue.
#[derive(Clone, Copy, Debug, Default)]
struct Woken {
    event: bool,
    tap: bool,
    inbox: bool,
    stop: bool,
}

impl Woken {
    const fn is_any(self) -> bool {
        self.event | self.tap | self.inbox | self.stop
    }
}

impl Queue {
    /// Serves the rings until it is told to stop.
    ///
    /// # Errors
    /// [`QueueFault`]: the queue cannot go on. What was taken is answered where that is possible.
    pub fn run(&mut self) -> Result<(), QueueFault> {
        // What was there before the ports were bound.
        let mut woken = Woken {
            event: true,
            tap: true,
            inbox: true,
            stop: false,
        };
        while !woken.stop {
            let clock = Clock::default();
            if woken.event {
                self.hear(&clock)?;
            }
            let more = self.pass(woken, &clock);
            self.page.publish(&self.counters);
            woken = if more? {
                self.wait(Some(Timespec::default()))?
            } else if self.nap.is_dozing() {
                self.wait(Timespec::try_from(nap::DOZE).ok())?
            } else {
                self.rest()?
            };
        }
        Ok(())
    }

    /// What this queue has done so far.
    #[must_use]
    pub const fn counters(&self) -> &Counters {
        &self.counters
    }

    /// True if there is more to do right now.
    fn pass(&mut self, woken: Woken, clock: &Clock) -> Result<bool, QueueFault> {
        let pages = self.vif.lend(ticks())?;
        let sent = self.counters.tx_bytes;
        if let Some(news) = self.vif.filter_since(self.filter.0) {
            self.filter = news;
        }
        if self.rates != self.vif.rates_set() {
            self.rates = self.vif.rates_set();
            self.tx.release();
            self.rx.release();
        }
        let mut means = Means {
            tap: &self.tap,
            filter: &self.filter.1,
            page: &mut self.page,
            pages: &pages,
            clock,
            counters: &mut self.counters,
        };
        let mut more = self.tx.sweep(&mut means)?;
        let sent = means.counters.tx_bytes - sent;
        // Answers to what was sent may be there already, from this host above all.
        if woken.tap || sent > 0 {
            self.rx.note_frames();
        }
        if woken.inbox {
            self.rx.note_handed();
        }
        more |= self.rx.sweep(&mut means)?;
        drop(pages);
        self.publish()?;
        if more | self.rx.rearm(clock)? {
            return Ok(true);
        }
        // A frame that came meanwhile ends a doze early, and says nothing about it.
        let judged = woken.event || !(woken.tap || woken.inbox);
        if judged && self.nap.doze_after(self.tx.taken(), sent, ticks) || self.nap.is_dozing() {
            return Ok(false);
        }
        self.bell.unmask(|| clock.now())?;
        self.tx.rearm(clock)
    }

    /// Shows the guest its answers, and rings once for each ring that asked, or once for both.
    fn publish(&mut self) -> Result<(), QueueFault> {
        let [tx, rx] = [self.tx.publish(), self.rx.publish()].map(|asked| asked == Notify::Needed);
        let ports = self.bell.ports();
        let both = ports.len() == 1;
        let first = ports.first().filter(|_| tx || both && rx);
        let second = ports.get(1).filter(|_| rx);
        for &port in first.into_iter().chain(second) {
            self.counters.notifications += 1;
            self.bell.notify(port)?;
        }
        Ok(())
    }

    /// Something has rung.
    fn hear(&mut self, clock: &Clock) -> Result<(), QueueFault> {
        self.bell.drain()?;
        if self.tx.is_waited_for(clock)? || self.rx.is_waited_for()? {
            self.bell.note_request();
        }
        self.bell.note_event(|| clock.now());
        Ok(())
    }

    /// When to look again without being woken.
    fn deadline(&self) -> Option<Instant> {
        let (tx, rx) = (self.tx.held_until(), self.rx.held_until());
        // A rate that is set anew wakes nobody.
        let held = tx.or(rx).map(|_| Instant::now() + HELD_LOOK);
        let all = [self.bell.due(), tx, rx, held, self.rx.look_at()];
        all.into_iter().flatten().min()
    }

    /// Sleeps until there is something to do. Memory that nobody uses meanwhile is given back: the
    /// queue that has used it last sees to it.
    fn rest(&self) -> Result<Woken, QueueFault> {
        let deadline = self.deadline();
        let left = deadline.map(until);
        let while_kept = Timespec::try_from(scratch::IDLE + TICK).ok();
        if left.is_some() && left <= while_kept {
            return self.wait(left);
        }
        let woken = self.wait(while_kept)?;
        if woken.is_any() {
            return Ok(woken);
        }
        self.vif.tidy(ticks());
        self.wait(deadline.map(until))
    }

    fn wait(&self, timeout: Option<Timespec>) -> Result<Woken, QueueFault> {
        let stop = PollFd::new(&*self.stop, PollFlags::IN);
        let events = self.bell.wait_fd();
        let events = PollFd::new(&events, PollFlags::IN);
        let frames = PollFd::new(&self.tap, PollFlags::IN);
        let inbox = self.rx.inbox();
        let handed = PollFd::from_borrowed_fd(inbox.unwrap_or(self.stop.as_fd()), PollFlags::IN);
        let mut all = [stop, events, frames, handed];
        // Frames that cannot be taken do not wake us.
        let watched = match (self.rx.wants_frames(), inbox) {
            (false, _) => 2,
            (true, None) => 3,
            (true, Some(_)) => 4,
        };
        let watched = all.get_mut(..watched).unwrap_or_default();
        sleep::poll(watched, timeout).map_err(QueueFault::Poll)?;
        let [stop, event, tap, inbox] = all.each_ref().map(is_ready);
        Ok(Woken {
            event,
            tap,
            inbox,
            stop,
        })
    }
}

/// How often a queue that is held back looks whether it still is: not before it has given its memory
/// back.
const HELD_LOOK: Duration = Duration::from_secs(3);

/// The most that [`ticks`] is behind.
const TICK: Duration = Duration::from_millis(10);

/// The time as of the last tick, which no system call is needed for.
fn ticks() -> Duration {
    let now = clock_gettime(ClockId::MonotonicCoarse);
    Duration::try_from(now).unwrap_or_default()
}

/// The time of a pass, which is told when it is first asked for: in a PV dom0, that is a system call.
#[derive(Debug, Default)]
struct Clock(Cell<Option<Instant>>);

impl Clock {
    fn now(&self) -> Instant {
        let now = self.0.get().unwrap_or_else(Instant::now);
        self.0.set(Some(now));
        now
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        self.vif.note_ended(&self.tap);
        if let Err(err) = self.bell.unbind() {
            tracing::debug!(%err, "the port closes with its device");
        }
    }
}
