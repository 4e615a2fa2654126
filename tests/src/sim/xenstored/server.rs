//! The server: one thread that serves one request at a time.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Instant;

use anyhow::Context;
use ring_proto::DomId;
use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use rustix::io::Errno;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketAddrUnix, SocketFlags, SocketType};
use xenbus::wire::Decoder;

use super::control::{Control, domain_socket};
use super::requests::Xenstore;
use super::session::Session;

/// A running simulated xenstored. Dropping it ends it, and with it all nodes.
#[derive(Debug)]
pub struct Server {
    dir: PathBuf,
    stop: Arc<OwnedFd>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    /// Serves `xenstored.sock` in `dir`, which must exist.
    ///
    /// # Errors
    /// The socket cannot be made, for instance because its path is too long for one.
    pub fn start(dir: &Path) -> anyhow::Result<Self> {
        let listener = Listener::bind(dir, DomId::new(0))?;
        let stop = Arc::new(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?);
        let machine = Machine {
            dir: dir.to_owned(),
            stop: Arc::clone(&stop),
            listeners: [(DomId::new(0), listener)].into(),
            connections: BTreeMap::new(),
            last_id: 0,
            store: Xenstore::new(),
        };
        let thread = std::thread::Builder::new().name("sim-xenstored".to_owned());
        let thread = thread.spawn(move || machine.run())?;
        Ok(Self {
            dir: dir.to_owned(),
            stop,
            thread: Some(thread),
        })
    }

    /// A toolstack's connection to it.
    ///
    /// # Errors
    /// As [`Control::connect`].
    pub fn control(&self) -> anyhow::Result<Control> {
        Control::connect(&self.dir)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // The eventfd is ours and its counter is far from full: this cannot fail.
        let _signalled = rustix::io::write(&*self.stop, &1_u64.to_ne_bytes());
        if let Some(thread) = self.thread.take() {
            // A panic there has been printed already; there is nobody here to hand it to.
            let _ended = thread.join();
        }
    }
}

/// A socket that one domain connects to. Its file goes with it.
#[derive(Debug)]
struct Listener {
    fd: OwnedFd,
    path: PathBuf,
}

impl Listener {
    fn bind(dir: &Path, domain: DomId) -> anyhow::Result<Self> {
        let path = domain_socket(dir, domain);
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error.into()),
            _ => {}
        }
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let kind = SocketType::STREAM;
        let fd = rustix::net::socket_with(AddressFamily::UNIX, kind, flags, None)?;
        rustix::net::bind(&fd, &SocketAddrUnix::new(&path)?)
            .with_context(|| format!("cannot serve {}", path.display()))?;
        rustix::net::listen(&fd, 128)?;
        Ok(Self { fd, path })
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        // A stale socket is replaced by the next server.
        let _removed = std::fs::remove_file(&self.path);
    }
}

/// One client's socket. The rest of it is a [`Session`].
struct Connection {
    socket: OwnedFd,
    decoder: Decoder,
}

struct Machine {
    dir: PathBuf,
    stop: Arc<OwnedFd>,
    listeners: BTreeMap<DomId, Listener>,
    connections: BTreeMap<u64, Connection>,
    last_id: u64,
    store: Xenstore,
}

/// Who has something to say, or has room for what is to be said.
#[derive(Default)]
struct Ready {
    listeners: Vec<DomId>,
    connections: Vec<u64>,
}

impl Machine {
    fn run(mut self) {
        while let Some(ready) = self.wait() {
            for id in ready.connections {
                if self.receive(id).is_none() {
                    self.hang_up(id);
                }
            }
            self.follow_domains();
            for domain in ready.listeners {
                self.accept(domain);
            }
            self.send();
        }
    }

    /// Sleeps until something can be done; `None` when the server is to end.
    fn wait(&self) -> Option<Ready> {
        let stall = self.store.faults.stall(Instant::now());
        let awake = |id: &u64| stall.is_none() || self.session(*id).is_some_and(|s| s.controls);
        let mut polled = vec![PollFd::new(&*self.stop, PollFlags::IN)];
        polled.extend(
            self.listeners
                .values()
                .map(|l| PollFd::new(&l.fd, PollFlags::IN)),
        );
        let ids: Vec<u64> = self.connections.keys().copied().filter(awake).collect();
        for id in &ids {
            let waiting = self
                .session(*id)
                .is_some_and(|session| !session.outbox.is_empty());
            let flags = if waiting {
                PollFlags::IN | PollFlags::OUT
            } else {
                PollFlags::IN
            };
            let connection = self.connections.get(id)?;
            polled.push(PollFd::new(&connection.socket, flags));
        }
        let timeout = stall.and_then(|stall| Timespec::try_from(stall).ok());
        match poll(&mut polled, timeout.as_ref()) {
            Ok(_) => {}
            Err(Errno::INTR) => return Some(Ready::default()),
            Err(_) => return None,
        }
        let mut fired = polled.iter().map(|fd| !fd.revents().is_empty());
        if fired.next()? {
            return None;
        }
        let listeners = self
            .listeners
            .keys()
            .copied()
            .zip(fired.by_ref().take(self.listeners.len()));
        let listeners = listeners.collect::<Vec<_>>();
        let connections = ids.into_iter().zip(fired).filter(|(_, fired)| *fired);
        Some(Ready {
            connections: connections.map(|(id, _)| id).collect(),
            listeners: listeners
                .into_iter()
                .filter(|(_, fired)| *fired)
                .map(|(d, _)| d)
                .collect(),
        })
    }

    fn session(&self, id: u64) -> Option<&Session> {
        self.store.sessions.get(&id)
    }

    /// Takes and serves what a client has sent; `None` when it is to be hung up on.
    fn receive(&mut self, id: u64) -> Option<()> {
        let connection = self.connections.get_mut(&id)?;
        let mut bytes = [0; 8192];
        match rustix::net::recv(&connection.socket, &mut bytes, RecvFlags::empty()) {
            Ok((0, _)) => return None,
            Ok((taken, _)) => connection.decoder.feed(bytes.get(..taken)?),
            Err(Errno::AGAIN | Errno::INTR) => return Some(()),
            Err(_) => return None,
        }
        loop {
            match self.connections.get_mut(&id)?.decoder.next_message() {
                Ok(Some(message)) => self.store.serve(id, &message),
                Ok(None) => return Some(()),
                Err(garbled) => {
                    let domain = self.session(id)?.domain;
                    self.store
                        .violation(format!("garbled request of domain {domain}: {garbled}"));
                    return None;
                }
            }
        }
    }

    /// Domains that were introduced get a socket; released ones lose it, and their connections.
    fn follow_domains(&mut self) {
        for domain in self.store.domains.clone() {
            if self.listeners.contains_key(&domain) {
                continue;
            }
            match Listener::bind(&self.dir, domain) {
                Ok(listener) => drop(self.listeners.insert(domain, listener)),
                Err(error) => {
                    self.store.domains.remove(&domain);
                    self.store
                        .violation(format!("no socket for domain {domain}: {error:#}"));
                }
            }
        }
        let known = self.store.domains.clone();
        self.listeners.retain(|domain, _| known.contains(domain));
        let hang_up = std::mem::take(&mut self.store.faults.hang_up);
        for session in self.store.sessions.values_mut() {
            session.doomed |= !known.contains(&session.domain) || (hang_up && !session.controls);
        }
        let doomed = self
            .store
            .sessions
            .iter()
            .filter(|(_, session)| session.doomed);
        for id in doomed.map(|(id, _)| *id).collect::<Vec<_>>() {
            self.hang_up(id);
        }
    }

    fn accept(&mut self, domain: DomId) {
        let Some(listener) = self.listeners.get(&domain) else {
            return;
        };
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        // Somebody who came and went in the meantime is nobody.
        let Ok(socket) = rustix::net::accept_with(&listener.fd, flags) else {
            return;
        };
        self.last_id += 1;
        self.connections.insert(
            self.last_id,
            Connection {
                socket,
                decoder: Decoder::default(),
            },
        );
        self.store
            .sessions
            .insert(self.last_id, Session::new(domain));
    }

    /// Sends whatever the clients have room for.
    fn send(&mut self) {
        let mut lost = vec![];
        for (id, session) in &mut self.store.sessions {
            let Some(connection) = self.connections.get(id) else {
                continue;
            };
            while !session.outbox.is_empty() {
                match rustix::net::send(&connection.socket, &session.outbox, SendFlags::NOSIGNAL) {
                    Ok(sent) => drop(session.outbox.drain(..sent)),
                    Err(Errno::INTR) => {}
                    Err(Errno::AGAIN) => break,
                    Err(_) => {
                        lost.push(*id);
                        break;
                    }
                }
            }
        }
        for id in lost {
            self.hang_up(id);
        }
    }

    /// Watches and open transactions go with the connection.
    fn hang_up(&mut self, id: u64) {
        self.connections.remove(&id);
        self.store.sessions.remove(&id);
    }
}
