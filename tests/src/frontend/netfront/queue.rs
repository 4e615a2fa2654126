//! A queue of an honest frontend: a transmit ring, a receive ring, and their event channels.

use std::sync::Arc;

use ring_proto::Notify;

use super::offer::QueueKeys;
use super::rx::Rx;
use super::tx::Tx;
use super::{NetMisbehaviour, NetShape};
use crate::sim::hypervisor::{GuestDomain, GuestPort};

/// A pair of rings.
#[derive(Debug)]
pub struct NetQueue {
    domain: Arc<GuestDomain>,
    /// Transmits.
    pub tx: Tx,
    /// Receives.
    pub rx: Rx,
    /// One for both rings, or that of the transmit ring and that of the other.
    ports: Vec<GuestPort>,
    events: Vec<u64>,
    rx_notify: bool,
}

impl NetQueue {
    /// Sets up the rings, whose indices start at `start`, their grants and their event channels.
    ///
    /// # Errors
    /// The guest is out of pages, grants or ports.
    pub fn new(
        domain: &Arc<GuestDomain>,
        shape: &NetShape,
        split: bool,
        start: u32,
    ) -> anyhow::Result<Self> {
        let ports = (0..1 + usize::from(split)).map(|_| domain.alloc_port());
        let ports = ports.collect::<Result<Vec<_>, _>>()?;
        Ok(Self {
            domain: Arc::clone(domain),
            tx: Tx::new(domain, start)?,
            rx: Rx::new(domain, *shape, start)?,
            events: vec![0; ports.len()],
            ports,
            rx_notify: shape.rx_notify,
        })
    }

    /// Where it is, for xenstore.
    #[must_use]
    pub fn keys(&self) -> QueueKeys {
        QueueKeys {
            tx: self.tx.gref(),
            rx: self.rx.gref(),
            ports: self.ports.iter().map(GuestPort::port).collect(),
        }
    }

    /// Its event channels.
    #[must_use]
    pub fn ports(&self) -> &[GuestPort] {
        &self.ports
    }

    /// Shows the backend what was written into both rings, and wakes it where it asked for that.
    ///
    /// # Errors
    /// The machine is gone.
    pub fn publish(&mut self) -> Result<(), NetMisbehaviour> {
        if self.tx.publish() == Notify::Needed
            && let Some(port) = self.ports.first()
        {
            port.notify()?;
        }
        if self.rx.publish() == Notify::Needed
            && self.rx_notify
            && let Some(port) = self.ports.last()
        {
            port.notify()?;
        }
        Ok(())
    }

    /// Asks for an event at the next response of either ring; `true` if there is one already.
    ///
    /// # Errors
    /// A ring is broken.
    pub fn rearm(&mut self) -> Result<bool, NetMisbehaviour> {
        let tx = self.tx.rearm()?;
        Ok(self.rx.rearm()? || tx)
    }

    /// Takes the events that came; whether one did.
    ///
    /// # Errors
    /// The machine is gone.
    pub fn take_events(&mut self) -> Result<bool, NetMisbehaviour> {
        let mut any = false;
        for (port, count) in self.ports.iter().zip(&mut self.events) {
            let came = port.take_pending()?;
            *count += u64::from(came);
            any |= came;
        }
        Ok(any)
    }

    /// FE-11: an event needs a response that it announces; one more is allowed for having connected.
    ///
    /// # Errors
    /// There were more.
    pub fn check_events(&self) -> Result<(), NetMisbehaviour> {
        let (tx, rx) = (self.tx.responses(), self.rx.responses());
        let responses: &[u64] = match *self.events {
            [_, _] => &[tx, rx],
            _ => &[tx + rx],
        };
        for (&events, &responses) in self.events.iter().zip(responses) {
            if events > responses + 1 {
                return Err(NetMisbehaviour::NeedlessEvents { events, responses });
            }
        }
        Ok(())
    }

    /// Ends all grants, after the backend has closed.
    ///
    /// # Errors
    /// The backend has a page mapped still.
    pub fn retire(self) -> anyhow::Result<()> {
        self.tx.retire(&self.domain)?;
        self.rx.retire(&self.domain)
    }
}
