//! What a daemon adds to the supervisor: how its devices are advertised and connected.

use std::os::fd::{BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use ring_proto::DomId;
use xenbus::{BackendPath, Class, Connects, Key, OfferError, Store, StoreError};

use crate::control;
use crate::message::Blame;

/// A kind of device. The supervisor knows when, the driver knows what.
pub trait Driver {
    /// Which backend directories it serves.
    fn class(&self) -> Class;

    /// At which frontend state a connection is tried.
    fn connects(&self) -> Connects;

    /// Called once, before any device is looked at: what earlier processes of ours have left behind
    /// for devices that are gone by now can go too. A device is gone when its directory is.
    fn starting(&mut self, _store: &mut Store, _own_domain: DomId) {}

    /// What to tell the frontend before it sets up its rings; written together with state
    /// InitWait. Called again when a frontend starts over: whatever was known before is void.
    ///
    /// A [`Refused::Because`] here is told, not executed: the toolstack runs its hotplug script
    /// only at InitWait, and our script passes the text on to it.
    ///
    /// # Errors
    /// See [`Refused`].
    fn advertise(
        &mut self,
        store: &mut Store,
        device: &BackendPath,
    ) -> Result<Vec<Key<'static>>, Refused>;

    /// Reads the frontend's offer and opens what the worker needs.
    ///
    /// # Errors
    /// See [`Refused`].
    fn connect(&mut self, store: &mut Store, device: &BackendPath) -> Result<Connection, Refused>;

    /// The worker serves, and the frontend has been told.
    fn connected(&mut self, _device: &BackendPath) {}

    /// Called whenever something may have changed about a device that is served: what its worker
    /// has to be told, in the form that the worker of the same binary knows.
    ///
    /// # Errors
    /// See [`Refused`]; the device goes on as it was.
    fn adjust(
        &mut self,
        _store: &mut Store,
        _device: &BackendPath,
    ) -> Result<Vec<serde_json::Value>, Refused> {
        Ok(Vec::new())
    }

    /// A worker has not been told of something that [`adjust`](Self::adjust) returned last: it has to
    /// return all of it again.
    fn unheard(&mut self, _device: &BackendPath) {}

    /// Keys of the frontend's directory that matter while a device is served, besides its state.
    fn frontend_keys(&self) -> &'static [&'static str] {
        &[]
    }

    /// A descriptor that is readable when something has changed on this host that may concern its
    /// devices; the same one as long as there is a driver.
    fn watched(&self) -> Option<BorrowedFd<'_>> {
        None
    }

    /// It has become readable: all that is there has to be read.
    fn noticed(&mut self, _now: Instant) {}

    /// When [`due`](Self::due) wants to be called.
    fn deadline(&self) -> Option<Instant> {
        None
    }

    /// What the driver does by itself, at its time.
    fn due(&mut self, _now: Instant) {}

    /// What this daemon can be asked and told over its control socket, besides `status`.
    fn commands(&self) -> &'static [control::Command] {
        &[]
    }

    /// Executes one of its [`commands`](Self::commands), for a client that may.
    ///
    /// Everything else waits meanwhile. Devices that have to hear of what has changed do by
    /// [`adjust`](Self::adjust): see [`control::Answer::and_look_again`].
    ///
    /// # Errors
    /// See [`Refused`]; the text is for the client, and nothing is tried again.
    fn control(
        &mut self,
        _store: &mut Store,
        request: &control::Request,
    ) -> Result<control::Answer, Refused> {
        Err(Refused::host(format!("{} is not known", request.command)))
    }

    /// A device that was connected is on its way out, or lost: what it holds will be free soon.
    fn closing(&mut self, device: &BackendPath);

    /// The device is no more: its directory is gone, and the hotplug script has had its turn.
    fn forgotten(&mut self, _device: &BackendPath) {}
}

/// A device ready to be handed to a worker.
#[derive(Debug)]
pub struct Connection {
    /// For the worker, which is the same binary and knows the form.
    pub spec: serde_json::Value,
    /// Beside it. The broker closes its own once they are sent.
    pub fds: Vec<OwnedFd>,
    /// Written together with state Connected once the worker serves.
    pub keys: Vec<Key<'static>>,
    /// For the log and for `status`: what is connected, in a few words.
    pub summary: String,
}

/// Why a device is not served.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    /// The store did not answer: tried again.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Something that passes by itself is in the way: tried again for a while, then as
    /// [`Refused::Because`], blaming the host.
    #[error("{why}")]
    Busy {
        /// What is in the way, and what to do if it stays.
        why: String,
        /// When to try again.
        retry_after: Duration,
    },
    /// It cannot be.
    #[error("{why}")]
    Because {
        /// Who has to mend it.
        blame: Blame,
        /// What is wrong, and what to do about it.
        why: String,
    },
}

impl Refused {
    /// The host's fault, by any error that says so.
    pub fn host(why: impl std::fmt::Display) -> Self {
        Self::Because {
            blame: Blame::Host,
            why: why.to_string(),
        }
    }
}

impl From<OfferError> for Refused {
    fn from(error: OfferError) -> Self {
        match error {
            // The nodes are the guest's. Trying again for long would keep others waiting (STO-02).
            OfferError::Store(error @ StoreError::Contended(_)) => Self::Because {
                blame: Blame::Guest,
                why: format!("the frontend's keys change while they are read: {error}"),
            },
            OfferError::Store(error) => Self::Store(error),
            OfferError::Guest(bad) => Self::Because {
                blame: Blame::Guest,
                why: bad.to_string(),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sto_02_a_guest_that_never_holds_still_is_refused_and_a_lost_store_is_not_its_fault() {
        let contended = Refused::from(OfferError::Store(StoreError::Contended(8)));
        let Refused::Because { blame, why } = contended else {
            panic!("tried again: {contended:?}");
        };
        assert_eq!(blame, Blame::Guest);
        assert!(why.contains("change while they are read"), "{why}");
        let lost = Refused::from(OfferError::Store(StoreError::Lost));
        assert!(matches!(lost, Refused::Store(StoreError::Lost)));
    }
}
