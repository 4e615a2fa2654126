//! The xenstore client.

use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};

use ring_proto::DomId;

use crate::endpoint::{Endpoint, Link};
use crate::errno::Errno;
use crate::error::StoreError;
use crate::events::{WatchEvent, Watches};
use crate::number;
use crate::perms::Permissions;
use crate::request::{Reply, Request};
use crate::wire::Op;

/// How long a call waits for its answers unless [`Store::set_patience`] says otherwise.
pub const PATIENCE: Duration = Duration::from_secs(5);

/// A connection to xenstored, for one thread.
///
/// Every call returns within the patience of the store, except that the kernel's device does not
/// return from the write of a watch, or of its end, before xenstored has answered. A call that fails
/// with an error of which [`StoreError::is_disconnect`] is true has ended the connection, because
/// nobody can tell which of its requests were executed; all calls then fail with
/// [`StoreError::Lost`] until [`Store::reconnect`]. Paths are absolute.
#[derive(Debug)]
pub struct Store {
    endpoint: Endpoint,
    pub(crate) link: Option<Link>,
    pub(crate) last_request: u32,
    pub(crate) patience: Duration,
    pub(crate) watches: Watches,
}

impl Store {
    /// Connects.
    ///
    /// # Errors
    /// [`StoreError::Open`] when nobody listens there.
    pub fn connect(endpoint: Endpoint) -> Result<Self, StoreError> {
        let link = Link::open(&endpoint, Instant::now() + PATIENCE)?;
        Ok(Self::over(link, endpoint))
    }

    pub(crate) fn over(link: Link, endpoint: Endpoint) -> Self {
        Self {
            endpoint,
            link: Some(link),
            last_request: 0,
            patience: PATIENCE,
            watches: Watches::default(),
        }
    }

    /// Sets how long a call may wait for its answers.
    pub fn set_patience(&mut self, patience: Duration) {
        self.patience = patience;
    }

    /// Where this store is connected to.
    #[must_use]
    pub fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// Whether the connection stands, as far as anyone has noticed.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        self.link.is_some()
    }

    /// Readable when answers or watch events have arrived; `None` after a loss. Events may also be
    /// queued already while the descriptor is silent: take [`Store::next_event`] until `None`
    /// before sleeping on it.
    #[must_use]
    pub fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.link.as_ref().map(Link::fd)
    }

    /// Makes a new connection and registers every watch again; each of them fires once, so
    /// everything gets read anew.
    ///
    /// # Errors
    /// No connection, or a watch was refused; the store is disconnected then.
    pub fn reconnect(&mut self) -> Result<(), StoreError> {
        self.link = None;
        self.link = Some(Link::open(&self.endpoint, Instant::now() + self.patience)?);
        let watches: Vec<_> = self
            .watches
            .iter()
            .map(|watch| Request::watch(&watch.path, &watch.token))
            .collect();
        let requests = watches.into_iter().collect::<Result<Vec<_>, _>>()?;
        let outcome = self
            .exchange(0, &requests)
            .and_then(|replies| replies.into_iter().try_for_each(Reply::done));
        if outcome.is_err() {
            self.link = None;
        }
        outcome
    }

    /// The value of a node; `None` when there is no such node.
    ///
    /// # Errors
    /// Anything but `ENOENT`.
    pub fn read(&mut self, path: &str) -> Result<Option<Vec<u8>>, StoreError> {
        self.read_in(0, path)
    }

    /// The values of many nodes, in one round trip.
    ///
    /// # Errors
    /// As [`Store::read`], the first one met.
    pub fn read_many(
        &mut self,
        paths: &[impl AsRef<str>],
    ) -> Result<Vec<Option<Vec<u8>>>, StoreError> {
        self.read_many_in(0, paths)
    }

    /// The names of a node's children; `None` when there is no such node.
    ///
    /// # Errors
    /// Anything but `ENOENT`; [`StoreError::Unlistable`] when the list is over 1 MiB or changes all
    /// the time.
    pub fn list(&mut self, path: &str) -> Result<Option<Vec<String>>, StoreError> {
        self.list_in(0, path)
    }

    /// Writes a node, creating it and its parents. Device nodes are written with
    /// [`crate::switch_state`] and its siblings, which never re-create a removed one.
    ///
    /// # Errors
    /// Refused or disconnected.
    pub fn write(&mut self, path: &str, value: impl AsRef<[u8]>) -> Result<(), StoreError> {
        self.write_many_in(0, &[(path, value.as_ref())])
    }

    /// Creates an empty node; one that exists stays as it is.
    ///
    /// # Errors
    /// Refused or disconnected.
    pub fn mkdir(&mut self, path: &str) -> Result<(), StoreError> {
        self.mkdir_in(0, path)
    }

    /// Removes a node and everything below. That it is not there is no error.
    ///
    /// # Errors
    /// Refused or disconnected.
    pub fn remove(&mut self, path: &str) -> Result<(), StoreError> {
        self.remove_in(0, path)
    }

    /// The permissions of a node; `None` when there is no such node.
    ///
    /// # Errors
    /// Anything but `ENOENT`.
    pub fn permissions(&mut self, path: &str) -> Result<Option<Permissions>, StoreError> {
        let reply = self.one(0, &Request::path(Op::Permissions, path)?)?;
        reply
            .present()?
            .map(|payload| Permissions::decode(&payload))
            .transpose()
    }

    /// Replaces the permissions of a node.
    ///
    /// # Errors
    /// Refused or disconnected.
    pub fn set_permissions(&mut self, path: &str, to: &Permissions) -> Result<(), StoreError> {
        self.set_permissions_in(0, path, to)
    }

    /// Registers a watch on `path` and everything below it (or on `@introduceDomain`,
    /// `@releaseDomain`). It fires once at once, and survives [`Store::reconnect`].
    ///
    /// # Errors
    /// Refused (`EEXIST`: registered already) or disconnected.
    pub fn watch(&mut self, path: &str, token: &str) -> Result<(), StoreError> {
        let request = Request::watch(path, token)?;
        // The kernel's device would register it a second time, and every event would come twice.
        if self.watches.has(path, token) {
            return Err(request.refused(Errno::Exists));
        }
        // Registered before it is asked for: the first event can come together with the answer.
        self.watches.add(path, token);
        let outcome = self.one(0, &request).and_then(Reply::done);
        if outcome.is_err() {
            self.watches.remove(path, token);
        }
        outcome
    }

    /// Removes a watch and its waiting events. The watch is forgotten whatever the answer.
    ///
    /// # Errors
    /// Refused (`ENOENT`: there was none) or disconnected.
    pub fn unwatch(&mut self, path: &str, token: &str) -> Result<(), StoreError> {
        let request = Request::unwatch(path, token)?;
        // The kernel's device says that all is well.
        if !self.watches.has(path, token) {
            return Err(request.refused(Errno::NoEntry));
        }
        self.watches.remove(path, token);
        self.one(0, &request)?.done()
    }

    /// Whether xenstored knows the domain and has not yet seen it die.
    ///
    /// # Errors
    /// Refused or disconnected.
    pub fn is_introduced(&mut self, domain: DomId) -> Result<bool, StoreError> {
        Ok(self
            .one(0, &Request::is_introduced(domain))?
            .payload()?
            .starts_with(b"T"))
    }

    /// The domain this connection belongs to, from its own `domid` node; 0 where there is none.
    ///
    /// # Errors
    /// Refused or disconnected, or the node holds no domain id.
    pub fn own_domain(&mut self) -> Result<DomId, StoreError> {
        let nonsense = || StoreError::Protocol("own domid is not a domain id".to_owned());
        let Some(value) = self.one(0, &Request::own_domid())?.present()? else {
            return Ok(DomId::new(0));
        };
        let domain =
            number::decimal(&value, u32::from(crate::path::DOMID_MAX)).map_err(|_| nonsense())?;
        u16::try_from(domain)
            .map(DomId::new)
            .map_err(|_| nonsense())
    }

    /// Takes whatever events have arrived, without waiting. Call it when [`Store::fd`] is readable.
    ///
    /// # Errors
    /// Disconnected.
    pub fn poll_events(&mut self) -> Result<(), StoreError> {
        // What arrives faster than this is taken at the next call: nobody can keep us here.
        for _ in 0..64 {
            let more = self.guarded(|link| link.fill())?;
            while let Some(message) = self.guarded(Link::next_message)? {
                self.expect_event(&message)?;
            }
            if !more {
                break;
            }
        }
        Ok(())
    }

    /// The next queued event; `None` when all are taken.
    pub fn next_event(&mut self) -> Option<WatchEvent> {
        self.watches.pop()
    }

    /// The next event, waiting for it at most `within`; `None` when the time is over.
    ///
    /// # Errors
    /// Disconnected.
    pub fn wait_event(&mut self, within: Duration) -> Result<Option<WatchEvent>, StoreError> {
        let deadline = Instant::now() + within;
        loop {
            self.poll_events()?;
            if let Some(event) = self.next_event() {
                return Ok(Some(event));
            }
            if !self.guarded(|link| link.wait(deadline))? {
                return Ok(None);
            }
        }
    }
}
