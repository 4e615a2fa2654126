//! The event channels of one thread's rings, as the thread that sleeps on them sees them.

use std::os::fd::BorrowedFd;
use std::time::Instant;

use ring_proto::DomId;

use crate::storm::Storm;
use crate::{Evtchn, EvtchnError, LocalPort, RemotePort};

/// Bound ports that wake a thread. Guests that ring for nothing are slowed down (RNG-05).
///
/// A thread that was woken [drains](Self::drain) it, notes the [event](Self::note_event) and whether
/// there was a [request](Self::note_request), and [unmasks](Self::unmask) before it sleeps again. What
/// rings in between is not lost.
#[derive(Debug)]
pub struct Bell {
    events: Evtchn,
    /// At least one.
    ports: Vec<LocalPort>,
    storm: Storm,
    mask: Mask,
}

/// Whether the ports may ring. The kernel masks one that does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mask {
    /// They may.
    Open,
    /// Not before they are asked to.
    Masked,
    /// Not before then: they ring for nothing.
    Until(Instant),
}

impl Bell {
    /// Binds `ports` of `domid`; one that is named twice in a row is bound once. Each is pending at
    /// once.
    ///
    /// # Errors
    /// As [`Evtchn::bind`].
    pub fn bind(
        mut events: Evtchn,
        domid: DomId,
        ports: &[RemotePort],
    ) -> Result<Self, EvtchnError> {
        let distinct = ports.chunk_by(|a, b| a == b);
        let bound = distinct.filter_map(<[RemotePort]>::first);
        let ports = bound.map(|&port| events.bind(domid, port));
        let ports = ports.collect::<Result<_, _>>()?;
        Ok(Self {
            events,
            ports,
            storm: Storm::default(),
            mask: Mask::Open,
        })
    }

    /// Empties the channel that has become readable. The ports stay silent until they are
    /// [unmasked](Self::unmask).
    ///
    /// # Errors
    /// As [`Evtchn::pending`], except that an overflow is none: it may have swallowed an event, which
    /// is as good as having seen it.
    pub fn drain(&mut self) -> Result<(), EvtchnError> {
        // Room for more than there are: a buffer that is not full needs no second look.
        let mut ports = [LocalPort::new(0); 4];
        loop {
            match self.events.pending(&mut ports) {
                Ok(seen) if seen < ports.len() => return Ok(()),
                Ok(_) | Err(EvtchnError::Overflow) => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Notes that the ports have rung, and by that how long they stay silent.
    ///
    /// The clock is asked only for a guest that rings for nothing: in a PV dom0, telling the time is a
    /// system call.
    pub fn note_event(&mut self, now: impl FnOnce() -> Instant) {
        let due = self.storm.on_event(now);
        self.mask = due.map_or(Mask::Masked, Mask::Until);
    }

    /// Notes that there was a reason to ring.
    pub const fn note_request(&mut self) {
        self.storm.on_request();
    }

    /// Lets the ports ring again, unless they are to be silent for a while still.
    ///
    /// # Errors
    /// As [`Evtchn::unmask`].
    pub fn unmask(&mut self, now: impl FnOnce() -> Instant) -> Result<(), EvtchnError> {
        match self.mask {
            Mask::Open => return Ok(()),
            Mask::Until(due) if due > now() => return Ok(()),
            Mask::Masked | Mask::Until(_) => {}
        }
        self.mask = Mask::Open;
        self.events.unmask(&self.ports)
    }

    /// When [`unmask`](Self::unmask) is to be called again, if the ports ring for nothing.
    #[must_use]
    pub const fn due(&self) -> Option<Instant> {
        match self.mask {
            Mask::Until(due) => Some(due),
            Mask::Open | Mask::Masked => None,
        }
    }

    /// Lets nothing become [due](Self::due) any more: the thread is about to end.
    pub const fn mute(&mut self) {
        if let Mask::Until(_) = self.mask {
            self.mask = Mask::Masked;
        }
    }

    /// The bound ports, in the order in which they were named.
    #[must_use]
    pub fn ports(&self) -> &[LocalPort] {
        &self.ports
    }

    /// As [`Evtchn::notify`].
    ///
    /// # Errors
    /// The same.
    pub fn notify(&self, port: LocalPort) -> Result<(), EvtchnError> {
        self.events.notify(port)
    }

    /// Signals the other ends of all ports.
    ///
    /// # Errors
    /// As [`Evtchn::notify`].
    pub fn notify_all(&self) -> Result<(), EvtchnError> {
        self.ports.iter().try_for_each(|&port| self.notify(port))
    }

    /// As [`Evtchn::wait_fd`].
    #[must_use]
    pub fn wait_fd(&self) -> BorrowedFd<'_> {
        self.events.wait_fd()
    }

    /// Closes all ports: now, and not when the last descriptor of the channel does.
    ///
    /// # Errors
    /// As [`Evtchn::unbind`], of the first port that could not be.
    pub fn unbind(&mut self) -> Result<(), EvtchnError> {
        let mut outcome = Ok(());
        for port in self.ports.drain(..) {
            outcome = outcome.and(self.events.unbind(port));
        }
        outcome
    }
}
