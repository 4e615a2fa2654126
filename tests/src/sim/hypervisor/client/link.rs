//! One connection, shared by whoever needs it.

use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, sockopt};

use super::super::datagram::{self, Datagram};

/// The server answers in microseconds; one that takes this long is gone.
const DEADLINE: Duration = Duration::from_secs(10);

/// Why the simulated hypervisor did not do as asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SimError {
    /// Nothing listens there.
    #[error("cannot connect to {path}: {errno}; is xen-sim running?", path = path.display())]
    Connect {
        /// The socket.
        path: PathBuf,
        /// The system's reason.
        errno: Errno,
    },
    /// It refused.
    #[error("the simulated hypervisor refused to {operation}: {errno}")]
    Refused {
        /// What was asked for.
        operation: &'static str,
        /// Its reason.
        errno: Errno,
    },
    /// It hung up, did not answer, or answered nonsense.
    #[error("the simulated hypervisor is gone")]
    Gone,
    /// The guest has no free page or no free grant reference.
    #[error("the guest is out of {what}")]
    Exhausted {
        /// Of what.
        what: &'static str,
    },
    /// A system call of our own failed.
    #[error("{operation} failed: {errno}")]
    Os {
        /// Which.
        operation: &'static str,
        /// The system's reason.
        errno: Errno,
    },
}

#[derive(Debug)]
pub(super) struct Link(Mutex<OwnedFd>);

impl Link {
    pub(super) fn connect(dir: &Path) -> Result<Self, SimError> {
        let path = dir.join(evtchn::sim::wire::SOCKET);
        let connect = || {
            let (family, kind) = (AddressFamily::UNIX, SocketType::SEQPACKET);
            let fd = rustix::net::socket_with(family, kind, SocketFlags::CLOEXEC, None)?;
            rustix::net::connect(&fd, &SocketAddrUnix::new(&path)?)?;
            sockopt::set_socket_timeout(&fd, sockopt::Timeout::Recv, Some(DEADLINE))?;
            Ok(fd)
        };
        match connect() {
            Ok(fd) => Ok(Self(Mutex::new(fd))),
            Err(errno) => Err(SimError::Connect { path, errno }),
        }
    }

    /// Asks for `operation`; the answer without its leading 0.
    pub(super) fn call(
        &self,
        operation: &'static str,
        words: &[u32],
    ) -> Result<Datagram, SimError> {
        let fd = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let request = Datagram {
            words: words.to_vec(),
            fds: Vec::new(),
        };
        datagram::send(fd.as_fd(), &request).map_err(|_| SimError::Gone)?;
        let mut answer = datagram::receive(fd.as_fd()).map_err(|_| SimError::Gone)?;
        if answer.words.is_empty() {
            return Err(SimError::Gone);
        }
        match answer.words.remove(0) {
            0 => Ok(answer),
            errno => {
                let errno = i32::try_from(errno).map_or(Errno::PROTO, Errno::from_raw_os_error);
                Err(SimError::Refused { operation, errno })
            }
        }
    }
}

/// The one word that `answer` should have.
pub(super) fn one_word(answer: &Datagram) -> Result<u32, SimError> {
    match *answer.words {
        [word] => Ok(word),
        _ => Err(SimError::Gone),
    }
}
