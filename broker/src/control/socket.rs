//! The listening socket and its clients, in the broker's event loop.

use std::fs::{self, Permissions};
use std::io::{self, ErrorKind};
use std::os::fd::AsRawFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use mio::unix::SourceFd;
use mio::{Interest, Registry, Token};

use super::client::{Client, Step};
use super::{Reply, Request, Right, socket};
use crate::pace::Bucket;

/// Clients at a time. One more takes the place of the one that has been there longest.
const CLIENTS: usize = 8;
/// Connections that are taken in one turn of the event loop.
const ACCEPTS: usize = 4;
/// Connections that wait to be taken; more have to try again, which `connect` does for them.
const BACKLOG: i32 = 16;
/// Connections, and requests, of all clients together: each costs the broker some time.
const BURST: u32 = 64;
const EVERY: Duration = Duration::from_millis(10);
/// How long no connection is taken when the system lets us have none.
const PAUSE: Duration = Duration::from_secs(1);

/// Tokens in the event loop, from the first: the listener's, then the clients'.
pub(crate) const CONTROL_TOKENS: usize = 1 + CLIENTS;

/// Why there is no control socket.
#[derive(Debug, thiserror::Error)]
#[error(
    "control socket {path:?} cannot be made ({error}): the run directory must be writable, and its \
     path shorter than 90 bytes (see --run-dir)"
)]
pub struct ControlError {
    path: PathBuf,
    error: io::Error,
}

/// The control socket of a broker.
#[derive(Debug)]
pub(crate) struct Control {
    listener: UnixListener,
    path: PathBuf,
    registry: Registry,
    first: usize,
    clients: [Option<Client>; CLIENTS],
    /// No connection is taken before this.
    pause: Option<Instant>,
    connections: Bucket,
    requests: Bucket,
}

/// A client that wants something.
#[derive(Debug)]
pub(crate) struct Asked {
    slot: usize,
    pub(crate) request: Request,
}

impl Control {
    /// Makes the socket of the daemon called `name`, whose right to be the only one must be held: what
    /// an earlier one has left is replaced. Tokens count from `first`.
    pub(crate) fn listen(
        run_dir: &Path,
        name: &str,
        registry: Registry,
        first: usize,
        now: Instant,
    ) -> Result<Self, ControlError> {
        let path = socket(run_dir, name);
        let listener = bind(&path).and_then(|listener| {
            let fd = listener.as_raw_fd();
            registry.register(&mut SourceFd(&fd), Token(first), Interest::READABLE)?;
            Ok(listener)
        });
        match listener {
            Ok(listener) => Ok(Self {
                listener,
                path,
                registry,
                first,
                clients: Default::default(),
                pause: None,
                connections: Bucket::new(BURST, EVERY, now),
                requests: Bucket::new(BURST, EVERY, now),
            }),
            Err(error) => Err(ControlError { path, error }),
        }
    }

    /// Is this one of its tokens?
    pub(crate) const fn owns(&self, token: Token) -> bool {
        token.0 >= self.first && token.0 < self.first + CONTROL_TOKENS
    }

    /// What that which became ready wants, if it wants something. A reply is owed then.
    pub(crate) fn wake(&mut self, token: Token, now: Instant) -> Option<Asked> {
        match token.0.checked_sub(self.first + 1) {
            None => {
                self.accept(now);
                None
            }
            Some(slot) => self.step(slot, now),
        }
    }

    /// May this client do that?
    pub(crate) fn may(&self, asked: &Asked, right: Right) -> bool {
        let client = self.clients.get(asked.slot).and_then(Option::as_ref);
        client.is_some_and(|client| client.peer.may(right, &self.path))
    }

    /// Answers.
    pub(crate) fn reply(&mut self, asked: &Asked, reply: &Reply, now: Instant) {
        let slot = asked.slot;
        let Some(client) = self.clients.get_mut(slot).and_then(Option::as_mut) else {
            return;
        };
        client.reply(reply, now);
        let interest = client.interest();
        self.wait(slot, interest);
    }

    /// Lets clients go that take too long, and takes connections again after a pause.
    pub(crate) fn tidy(&mut self, now: Instant) {
        if self.pause.is_some_and(|until| until <= now) {
            self.pause = None;
            self.accept(now);
        }
        for slot in 0..CLIENTS {
            if self.clients[slot]
                .as_ref()
                .is_some_and(|client| client.until <= now)
            {
                self.dismiss(slot);
            }
        }
    }

    /// When there is something to tidy.
    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        let clients = self.clients.iter().flatten().map(|client| client.until);
        clients.chain(self.pause).min()
    }

    /// Takes some of those that wait.
    fn accept(&mut self, now: Instant) {
        if self.pause.is_some() {
            return;
        }
        for _ in 0..ACCEPTS {
            if let Err(later) = self.connections.take(now) {
                self.pause = Some(later);
                return;
            }
            let client = self.listener.accept();
            match client.and_then(|(stream, _)| Client::new(stream, now)) {
                Ok(client) => self.admit(client),
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => {
                    tracing::warn!(%error, "control socket: a client is not heard");
                    self.pause = Some(now + PAUSE);
                    return;
                }
            }
        }
        // The event comes once for all that wait: with those that are left, it has to come again.
        let (fd, token) = (self.listener.as_raw_fd(), Token(self.first));
        let again = self
            .registry
            .reregister(&mut SourceFd(&fd), token, Interest::READABLE);
        if let Err(error) = again {
            tracing::error!(%error, "the control socket is not served any more");
        }
    }

    fn admit(&mut self, client: Client) {
        let free = self.clients.iter().position(Option::is_none);
        let slot = free.unwrap_or_else(|| {
            let oldest = self
                .clients
                .iter()
                .enumerate()
                .filter_map(|(slot, client)| Some((client.as_ref()?.until, slot)));
            let slot = oldest.min().map_or(0, |(_, slot)| slot);
            self.dismiss(slot);
            slot
        });
        let (fd, token) = (client.stream.as_raw_fd(), self.token(slot));
        match self
            .registry
            .register(&mut SourceFd(&fd), token, Interest::READABLE)
        {
            Ok(()) => self.clients[slot] = Some(client),
            Err(error) => tracing::debug!(%error, "a client of the control socket is lost"),
        }
    }

    fn step(&mut self, slot: usize, now: Instant) -> Option<Asked> {
        let client = self.clients.get_mut(slot)?.as_mut()?;
        match client.step() {
            Step::Gone => self.dismiss(slot),
            Step::Waits(interest) => self.wait(slot, interest),
            Step::Asks(request) if self.requests.take(now).is_ok() => {
                return Some(Asked { slot, request });
            }
            Step::Asks(_) => {
                client.refuse("too many requests: try again in a second".to_owned());
                self.wait(slot, Interest::WRITABLE);
            }
        }
        None
    }

    /// Has the kernel say when a client is ready, also if it is already.
    fn wait(&mut self, slot: usize, interest: Interest) {
        let Some(client) = &self.clients[slot] else {
            return;
        };
        let (fd, token) = (client.stream.as_raw_fd(), self.token(slot));
        if let Err(error) = self
            .registry
            .reregister(&mut SourceFd(&fd), token, interest)
        {
            tracing::debug!(%error, "a client of the control socket is lost");
            self.dismiss(slot);
        }
    }

    fn dismiss(&mut self, slot: usize) {
        if let Some(client) = self.clients[slot].take() {
            let fd = client.stream.as_raw_fd();
            if let Err(error) = self.registry.deregister(&mut SourceFd(&fd)) {
                tracing::debug!(%error, "a client of the control socket was lost before");
            }
        }
    }

    const fn token(&self, slot: usize) -> Token {
        Token(self.first + 1 + slot)
    }
}

impl Drop for Control {
    /// The next broker would replace it; until then, nobody answers.
    fn drop(&mut self) {
        if let Err(error) = fs::remove_file(&self.path) {
            tracing::debug!(%error, "the control socket stays");
        }
    }
}

fn bind(path: &Path) -> io::Result<UnixListener> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(path)?;
    // std has the kernel keep thousands that wait: one that asks would wait behind all that came and
    // went before it.
    rustix::net::listen(&listener, BACKLOG)?;
    fs::set_permissions(path, Permissions::from_mode(0o660))?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}
