//! The server: one thread that serves one request at a time.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;

use anyhow::Context;
use rustix::event::{EventfdFlags, PollFd, PollFlags, eventfd, poll};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};

use super::client::Control;
use super::datagram;
use super::ports::signal;
use super::request::Caller;
use super::state::Hypervisor;

/// A running simulated hypervisor. Dropping it ends it; guests' memory lives on where it is mapped.
#[derive(Debug)]
pub struct Server {
    path: PathBuf,
    stop: Arc<OwnedFd>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    /// Serves `hypervisor.sock` in `dir`, which must exist.
    ///
    /// # Errors
    /// The socket cannot be made, for instance because its path is too long for one.
    pub fn start(dir: &Path) -> anyhow::Result<Self> {
        let path = dir.join(evtchn::sim::wire::SOCKET);
        let listener = listen(&path).with_context(|| format!("cannot serve {}", path.display()))?;
        let stop = Arc::new(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?);
        let stopped = Arc::clone(&stop);
        let thread = std::thread::Builder::new()
            .name("sim-hypervisor".to_owned())
            .spawn(move || serve(&listener, &stopped))?;
        Ok(Self {
            path,
            stop,
            thread: Some(thread),
        })
    }

    /// A toolstack's connection to it.
    ///
    /// # Errors
    /// As [`Control::connect`].
    pub fn control(&self) -> Result<Control, super::SimError> {
        let dir = self.path.parent().unwrap_or(Path::new("."));
        Control::connect(dir)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // The eventfd is ours and its counter is far from full: this cannot fail.
        let _signalled = signal(&*self.stop);
        if let Some(thread) = self.thread.take() {
            // A panic there has been printed already; there is nobody here to hand it to.
            let _ended = thread.join();
        }
        // A stale socket is replaced by the next server.
        let _removed = std::fs::remove_file(&self.path);
    }
}

fn listen(path: &Path) -> anyhow::Result<OwnedFd> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error.into()),
        _ => {}
    }
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let listener =
        rustix::net::socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?;
    rustix::net::bind(&listener, &SocketAddrUnix::new(path)?)?;
    rustix::net::listen(&listener, 128)?;
    Ok(listener)
}

/// One client.
struct Connection {
    socket: OwnedFd,
    caller: Caller,
}

fn serve(listener: &OwnedFd, stop: &OwnedFd) {
    let mut machine = Hypervisor::default();
    let mut connections: BTreeMap<u64, Connection> = BTreeMap::new();
    let mut last_id = 0;
    loop {
        let Some(readable) = wait(listener, stop, &connections) else {
            return;
        };
        for id in readable.connections {
            let Some(connection) = connections.get_mut(&id) else {
                continue;
            };
            if !converse(connection, &mut machine) {
                connection.caller.hang_up(&mut machine);
                connections.remove(&id);
            }
        }
        if readable.listener
            && let Ok(socket) =
                rustix::net::accept_with(listener, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK)
        {
            last_id += 1;
            let caller = Caller::new(last_id);
            connections.insert(last_id, Connection { socket, caller });
        }
    }
}

/// Who has something to say.
struct Readable {
    listener: bool,
    connections: Vec<u64>,
}

/// Sleeps until somebody speaks; `None` when the server is to end.
fn wait(
    listener: &OwnedFd,
    stop: &OwnedFd,
    connections: &BTreeMap<u64, Connection>,
) -> Option<Readable> {
    let mut polled = vec![
        PollFd::new(stop, PollFlags::IN),
        PollFd::new(listener, PollFlags::IN),
    ];
    let sockets = connections.values().map(|connection| &connection.socket);
    polled.extend(sockets.map(|socket| PollFd::new(socket, PollFlags::IN)));
    loop {
        match poll(&mut polled, None) {
            Ok(_) => break,
            Err(Errno::INTR) => {}
            Err(_) => return None,
        }
    }
    let fired = |at: usize| !polled[at].revents().is_empty();
    if fired(0) {
        return None;
    }
    let ids = connections.keys().enumerate();
    Some(Readable {
        listener: fired(1),
        connections: ids
            .filter(|(at, _)| fired(at + 2))
            .map(|(_, &id)| id)
            .collect(),
    })
}

/// Serves one request; `false` when the connection is over.
fn converse(connection: &mut Connection, machine: &mut Hypervisor) -> bool {
    let socket = connection.socket.as_fd();
    let request = match datagram::receive(socket) {
        Ok(request) => request,
        Err(Errno::AGAIN) => return true,
        Err(_) => return false,
    };
    if request.words.is_empty() {
        return false;
    }
    match connection.caller.serve(machine, &request.words) {
        // A client that does not read its answers is as good as gone.
        Some(answer) => datagram::send(socket, &answer).is_ok(),
        None => true,
    }
}
