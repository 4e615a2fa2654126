//! The control ring of a VIF, on a thread of its own: what the guest says about hashing.
//!
//! A message is read once, done on this thread's own copy of the state, and answered; before the
//! guest sees the answers of a sweep, the queues have been told. Nothing here grows by what a guest
//! says, and a guest that talks without end keeps only its own thread busy.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Instant;

use broker::message::Blame;
use evtchn::{Bell, Evtchn, EvtchnError, RemotePort};
use gntdev::{Access, CopyDirection, CopySegment, Gntdev, GrantError, LocalPages, Mapping};
use ring_proto::netif::{CONTROL_RING, CONTROL_WORDS, ControlRequest, ControlResponse};
use ring_proto::{BackRing, DomId, GrantRef, Notify, Overrun};
use rustix::event::{PollFd, PollFlags, Timespec};

use crate::hash::Hashing;
use crate::queue::ConnectError;
use crate::sleep::{self, is_ready, until};
use crate::spec::ControlSpec;
use crate::steering::Steering;

/// A connected control ring.
///
/// Having one tells you that it is mapped and its port bound. Dropping it gives everything back.
#[derive(Debug)]
pub struct Control {
    ring: BackRing<Mapping>,
    pages: GuestPages,
    hashing: Hashing,
    steering: Arc<Steering>,
    bell: Bell,
    stop: Arc<OwnedFd>,
}

/// What a control ring is made of.
#[derive(Debug)]
pub struct ControlSetup {
    /// The guest.
    pub dom: DomId,
    /// Event channels, restricted to the guest.
    pub events: Evtchn,
    /// Grants.
    pub grants: Gntdev,
    /// Where the frontend put it.
    pub ring: ControlSpec,
    /// How many queues the guest has.
    pub queues: u32,
    /// Who is told what the guest has said.
    pub steering: Arc<Steering>,
    /// Written once when it shall end.
    pub stop: Arc<OwnedFd>,
}

/// Why a control ring ended before it was told to.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ControlFault {
    /// The guest broke it for good.
    #[error("the frontend broke the control ring: {0}")]
    Ring(#[from] Overrun),
    /// The event channel failed.
    #[error("event channel of the control ring: {0}")]
    Events(#[from] EvtchnError),
    /// Grants cannot be copied at all.
    #[error("grant copy for the control ring: {0}")]
    Grants(#[from] GrantError),
    /// It cannot sleep.
    #[error("poll for the control ring: {0}")]
    Poll(#[source] io::Error),
}

impl ControlFault {
    /// Who caused it.
    #[must_use]
    pub const fn blame(&self) -> Blame {
        match self {
            Self::Ring(_) => Blame::Guest,
            Self::Events(_) | Self::Grants(_) | Self::Poll(_) => Blame::Host,
        }
    }
}

impl Control {
    /// Maps the ring and binds its port.
    ///
    /// # Errors
    /// [`ConnectError`]; everything that was had by then is given back.
    pub fn connect(setup: ControlSetup) -> Result<Self, ConnectError> {
        let ControlSetup {
            dom,
            events,
            grants,
            ring: ControlSpec { ring_ref, port },
            queues,
            steering,
            stop,
        } = setup;
        let ring = CONTROL;
        let gref = ring_ref;
        let mapping = grants
            .map(dom, &[GrantRef::new(gref)], Access::ReadWrite)
            .map_err(|source| ConnectError::Map { ring, gref, source })?;
        let attached = BackRing::attach(mapping, CONTROL_RING)
            .map_err(|source| ConnectError::Attach { ring, source })?;
        Ok(Self {
            ring: attached,
            pages: GuestPages {
                dom,
                grants,
                copy: LocalPages::new(1)?,
            },
            hashing: Hashing::new(queues),
            steering,
            bell: Bell::bind(events, dom, &[RemotePort(port)])?,
            stop,
        })
    }

    /// Serves the ring until it is told to stop.
    ///
    /// # Errors
    /// [`ControlFault`]: it cannot go on.
    pub fn run(&mut self) -> Result<(), ControlFault> {
        // What was there before the port was bound.
        let mut woken = Woken {
            event: true,
            stop: false,
        };
        while !woken.stop {
            if woken.event {
                self.hear()?;
            }
            let busy = self.sweep()?;
            self.bell.unmask(Instant::now)?;
            woken = if busy || self.ring.rearm()? {
                self.wait(Some(Timespec::default()))?
            } else {
                self.wait(self.bell.due().map(until))?
            };
        }
        Ok(())
    }

    /// Does what the guest has asked for, and then answers; true if there may be more.
    fn sweep(&mut self) -> Result<bool, ControlFault> {
        let before = self.hashing.clone();
        let more = self.take();
        // What was done before a fault is told and answered all the same.
        if self.hashing != before {
            self.steering.say(self.hashing.clone());
        }
        if self.ring.publish() == Notify::Needed {
            self.bell.notify_all()?;
        }
        more
    }

    fn take(&mut self) -> Result<bool, ControlFault> {
        for _ in 0..CONTROL_RING.slots() {
            let Some((claim, words)) = self.ring.take()? else {
                return Ok(false);
            };
            let response = self.answer(words)?;
            self.ring.respond(claim, &response.encode());
        }
        Ok(true)
    }

    fn answer(&mut self, words: [u32; CONTROL_WORDS]) -> Result<ControlResponse, ControlFault> {
        let request = match ControlRequest::parse(words) {
            Ok(request) => request,
            Err(reject) => {
                tracing::debug!(%reject, "refused");
                return Ok(reject.response());
            }
        };
        let mut fault = None;
        let done = self.hashing.handle(request.message, |gref, into| {
            self.pages.fetch(gref, into).unwrap_or_else(|error| {
                fault = Some(error);
                false
            })
        });
        if let Some(fault) = fault {
            return Err(fault.into());
        }
        Ok(match done {
            Ok(data) => request.echo.success(data),
            Err(status) => {
                tracing::debug!(message = ?request.message, ?status, "refused");
                request.echo.failed(status)
            }
        })
    }

    /// The port has rung.
    fn hear(&mut self) -> Result<(), ControlFault> {
        self.bell.drain()?;
        if self.ring.waiting(1)? > 0 {
            self.bell.note_request();
        }
        self.bell.note_event(Instant::now);
        Ok(())
    }

    fn wait(&self, timeout: Option<Timespec>) -> Result<Woken, ControlFault> {
        let events = self.bell.wait_fd();
        let stop = PollFd::new(&*self.stop, PollFlags::IN);
        let mut all = [stop, PollFd::new(&events, PollFlags::IN)];
        sleep::poll(&mut all, timeout).map_err(ControlFault::Poll)?;
        let [stop, event] = all.each_ref().map(is_ready);
        Ok(Woken { event, stop })
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        if let Err(err) = self.bell.unbind() {
            tracing::debug!(%err, "the port closes with its device");
        }
    }
}

/// What woke the thread.
#[derive(Clone, Copy, Debug)]
struct Woken {
    event: bool,
    stop: bool,
}

/// Pages that messages name: copied, never mapped.
#[derive(Debug)]
struct GuestPages {
    dom: DomId,
    grants: Gntdev,
    copy: LocalPages,
}

impl GuestPages {
    /// Brings the bytes at the start of a page; false if the page is not there.
    fn fetch(&self, gref: GrantRef, into: &mut [u8]) -> Result<bool, GrantError> {
        let len = u16::try_from(into.len()).unwrap_or(u16::MAX);
        let mut copy = [CopySegment::new(gref, 0, 0, len, CopyDirection::FromGuest)];
        self.grants.copy(self.dom, &self.copy, &mut copy)?;
        if !copy.iter().all(|copy| copy.status.is_okay()) {
            return Ok(false);
        }
        self.copy.read(0, into)?;
        Ok(true)
    }
}

const CONTROL: &str = "control";
