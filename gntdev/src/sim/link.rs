//! The connection to the simulated hypervisor: one request, one answer, descriptors attached.

use std::io::IoSliceMut;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendFlags, SocketAddrUnix,
    SocketFlags, SocketType, sockopt,
};

use super::wire;
use crate::GrantError;

/// The server answers in microseconds; one that takes this long is gone.
const DEADLINE: Duration = Duration::from_secs(10);

/// Bytes of the longest answer.
const ANSWER: usize = wire::MAX_WORDS * 4;

/// A connected `SOCK_SEQPACKET` socket.
#[derive(Debug)]
pub(super) struct Link {
    fd: OwnedFd,
    given_away: bool,
}

/// What the server said.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) words: Vec<u32>,
    pub(super) fds: Vec<OwnedFd>,
}

impl Link {
    pub(super) fn connect(dir: &Path) -> Result<Self, GrantError> {
        let path = dir.join(wire::SOCKET);
        let connect = || {
            let fd = rustix::net::socket_with(
                AddressFamily::UNIX,
                SocketType::SEQPACKET,
                SocketFlags::CLOEXEC,
                None,
            )?;
            rustix::net::connect(&fd, &SocketAddrUnix::new(&path)?)?;
            Ok(fd)
        };
        match connect() {
            Ok(fd) => Self::adopt(fd),
            Err(errno) => Err(GrantError::Open { path, errno }),
        }
    }

    pub(super) fn adopt(fd: OwnedFd) -> Result<Self, GrantError> {
        for direction in [sockopt::Timeout::Recv, sockopt::Timeout::Send] {
            sockopt::set_socket_timeout(&fd, direction, Some(DEADLINE))
                .map_err(|e| GrantError::os("adopt", e))?;
        }
        Ok(Self {
            fd,
            given_away: false,
        })
    }

    /// A duplicate for somebody else; this end then goes without a goodbye.
    pub(super) fn give_away(&mut self) -> Result<OwnedFd, Errno> {
        let fd = rustix::io::fcntl_dupfd_cloexec(&self.fd, 0)?;
        self.given_away = true;
        Ok(fd)
    }

    /// Asks; the inner result is the server's, the outer one the connection's.
    pub(super) fn call(
        &self,
        request: &[u32],
    ) -> Result<Result<Answer, (Errno, Vec<u32>)>, GrantError> {
        self.tell(request)?;
        let mut answer = self.receive().map_err(|_| GrantError::Lost)?;
        if answer.words.is_empty() {
            return Err(GrantError::Lost);
        }
        match answer.words.remove(0) {
            0 => Ok(Ok(answer)),
            errno => {
                let errno = i32::try_from(errno).map_or(Errno::PROTO, Errno::from_raw_os_error);
                Ok(Err((errno, answer.words)))
            }
        }
    }

    /// Says something that has no answer.
    fn tell(&self, request: &[u32]) -> Result<(), GrantError> {
        let bytes: Vec<u8> = request.iter().flat_map(|w| w.to_ne_bytes()).collect();
        rustix::net::send(&self.fd, &bytes, SendFlags::NOSIGNAL)
            .map(drop)
            .map_err(|_| GrantError::Lost)
    }

    fn receive(&self) -> Result<Answer, Errno> {
        let mut bytes = vec![0u8; ANSWER];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(2))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let received = loop {
            let mut parts = [IoSliceMut::new(&mut bytes)];
            match rustix::net::recvmsg(&self.fd, &mut parts, &mut control, RecvFlags::CMSG_CLOEXEC)
            {
                Ok(message) => break message.bytes,
                Err(Errno::INTR) => {}
                Err(errno) => return Err(errno),
            }
        };
        let mut fds = Vec::new();
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(rights) = message {
                fds.extend(rights);
            }
        }
        let (words, _) = bytes[..received].as_chunks::<4>();
        let words = words.iter().map(|&w| u32::from_ne_bytes(w)).collect();
        Ok(Answer { words, fds })
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        if !self.given_away {
            // If the server is gone there is nobody to say goodbye to.
            let _unheard = self.tell(&[wire::BYE]);
        }
    }
}
