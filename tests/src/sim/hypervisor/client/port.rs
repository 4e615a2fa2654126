//! A guest's event channel.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use evtchn::RemotePort;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

use super::{GuestDomain, SimError};
use crate::sim::hypervisor::datagram::Datagram;
use crate::sim::hypervisor::ports::signal;
use crate::sim::hypervisor::wire;

/// An event channel of a guest, closed when dropped.
#[derive(Debug)]
pub struct GuestPort {
    domain: Arc<GuestDomain>,
    port: u32,
    fired: OwnedFd,
    peer: OwnedFd,
}

impl GuestPort {
    pub(super) fn new(domain: Arc<GuestDomain>, answer: Datagram) -> Result<Self, SimError> {
        let mut fds = answer.fds.into_iter();
        let (&[port], Some(fired), Some(peer)) = (&*answer.words, fds.next(), fds.next()) else {
            return Err(SimError::Gone);
        };
        Ok(Self {
            domain,
            port,
            fired,
            peer,
        })
    }

    /// The number to publish as `event-channel`.
    #[must_use]
    pub const fn port(&self) -> RemotePort {
        RemotePort(self.port)
    }

    /// Signals the backend. As on Xen, whether there is one does not matter.
    ///
    /// # Errors
    /// [`SimError::Os`].
    pub fn notify(&self) -> Result<(), SimError> {
        signal(&self.peer).map_err(|errno| SimError::Os {
            operation: "notify",
            errno,
        })
    }

    /// Waits for the backend to have seen what was signalled, for at most `limit`; whether it has. One
    /// that has masked its port has not.
    #[must_use]
    pub fn is_heard(&self, limit: Duration) -> bool {
        let deadline = Instant::now() + limit;
        let waits = || {
            let mut peer = [PollFd::new(&self.peer, PollFlags::IN)];
            poll(&mut peer, Some(&Timespec::default())).is_ok_and(|ready| ready > 0)
        };
        while waits() {
            if Instant::now() >= deadline {
                return false;
            }
            std::thread::yield_now();
        }
        true
    }

    /// Whether the backend has signalled since the last time this was asked.
    ///
    /// # Errors
    /// [`SimError::Os`].
    pub fn take_pending(&self) -> Result<bool, SimError> {
        match rustix::io::read(&self.fired, &mut [0u8; 8]) {
            Ok(_) => Ok(true),
            Err(Errno::AGAIN) => Ok(false),
            Err(errno) => Err(SimError::Os {
                operation: "read of an event channel",
                errno,
            }),
        }
    }

    /// Waits for the backend to signal, for at most `limit`; whether it did.
    ///
    /// # Errors
    /// [`SimError::Os`].
    pub fn wait(&self, limit: Duration) -> Result<bool, SimError> {
        let deadline = Instant::now() + limit;
        loop {
            if self.take_pending()? {
                return Ok(true);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(false);
            }
            let left = Timespec::try_from(left).ok();
            let mut polled = [PollFd::new(&self.fired, PollFlags::IN)];
            match poll(&mut polled, left.as_ref()) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(errno) => {
                    return Err(SimError::Os {
                        operation: "poll",
                        errno,
                    });
                }
            }
        }
    }
}

impl AsFd for GuestPort {
    /// Readable while the backend's signal has not been taken.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fired.as_fd()
    }
}

impl Drop for GuestPort {
    fn drop(&mut self) {
        let of = u32::from(self.domain.domid().raw());
        let request = [wire::CLOSE_PORT, of, self.port];
        // It may have gone with its domain, or with the machine: closed either way.
        let _closed = self.domain.link.call("close a port", &request);
    }
}
