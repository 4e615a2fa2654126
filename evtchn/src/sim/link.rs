//! The connection to the simulated hypervisor: one request, one answer, descriptors attached.

use std::io::IoSliceMut;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendFlags, SocketAddrUnix,
    SocketFlags, SocketType, sockopt,
};

use super::wire;
use crate::EvtchnError;

/// The server answers in microseconds; one that takes this long is gone.
const DEADLINE: Duration = Duration::from_secs(10);

/// Bytes of the longest answer that event channels have: a list of ports.
const ANSWER: usize = wire::MAX_WORDS * 4;

/// A connected `SOCK_SEQPACKET` socket.
#[derive(Debug)]
pub(super) struct Link {
    fd: OwnedFd,
}

/// What the server said.
#[derive(Debug)]
pub(super) struct Reply {
    pub(super) words: Vec<u32>,
    pub(super) fds: Vec<OwnedFd>,
}

impl Link {
    pub(super) fn connect(dir: &Path) -> Result<Self, EvtchnError> {
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
            Err(errno) => Err(EvtchnError::Open { path, errno }),
        }
    }

    pub(super) fn adopt(fd: OwnedFd) -> Result<Self, EvtchnError> {
        for direction in [sockopt::Timeout::Recv, sockopt::Timeout::Send] {
            sockopt::set_socket_timeout(&fd, direction, Some(DEADLINE))
                .map_err(|e| EvtchnError::of("adopt", e))?;
        }
        Ok(Self { fd })
    }

    pub(super) fn into_fd(self) -> OwnedFd {
        self.fd
    }

    pub(super) fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// Asks, and takes any refusal as that of `operation`.
    pub(super) fn call(
        &self,
        operation: &'static str,
        request: &[u32],
    ) -> Result<Reply, EvtchnError> {
        self.try_call(request)?
            .map_err(|errno| EvtchnError::of(operation, errno))
    }

    /// Asks; the inner result is the server's, the outer one the connection's.
    pub(super) fn try_call(&self, request: &[u32]) -> Result<Result<Reply, Errno>, EvtchnError> {
        self.tell(request)?;
        let mut reply = self.receive().map_err(|_| EvtchnError::Lost)?;
        if reply.words.is_empty() {
            return Err(EvtchnError::Lost);
        }
        match reply.words.remove(0) {
            0 => Ok(Ok(reply)),
            errno => Ok(Err(
                i32::try_from(errno).map_or(Errno::PROTO, Errno::from_raw_os_error)
            )),
        }
    }

    /// Says something that has no answer.
    pub(super) fn tell(&self, request: &[u32]) -> Result<(), EvtchnError> {
        let bytes: Vec<u8> = request.iter().flat_map(|w| w.to_ne_bytes()).collect();
        rustix::net::send(&self.fd, &bytes, SendFlags::NOSIGNAL)
            .map(drop)
            .map_err(|_| EvtchnError::Lost)
    }

    fn receive(&self) -> Result<Reply, Errno> {
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
        Ok(Reply { words, fds })
    }
}
