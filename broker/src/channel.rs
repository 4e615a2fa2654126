//! The link between the broker and a worker: whole messages, with descriptors beside them.
//!
//! A `SOCK_SEQPACKET` pair keeps message borders, so a message arrives entirely or not at all,
//! and the kernel says when the other end is gone.

use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags,
    SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recvmsg,
    sendmsg, socketpair,
};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// The longest encoded message, in bytes.
pub const MESSAGE_MAX: usize = 64 * 1024;

/// The most descriptors beside one message (the kernel's own limit is 253).
pub const FDS_MAX: usize = 250;

/// One end of the link. `&self` sends and receives, so threads may share it; each message is
/// atomic.
#[derive(Debug)]
pub struct Channel {
    socket: OwnedFd,
}

/// What a look at the link found.
#[derive(Debug)]
pub enum Received<M> {
    /// A message, and the descriptors that came with it (close-on-exec). None of them if this
    /// process may not open as many (`RLIMIT_NOFILE`): who needs some has to count.
    Message(M, Vec<OwnedFd>),
    /// Nothing at the moment.
    Empty,
    /// The other end is gone, and everything it sent has been received.
    Gone,
}

/// Why a message could not be sent or received.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ChannelError {
    /// The encoded message is longer than [`MESSAGE_MAX`].
    #[error("message of {bytes} bytes; the most is {MESSAGE_MAX}")]
    TooLong {
        /// Its length.
        bytes: usize,
    },
    /// More descriptors than [`FDS_MAX`].
    #[error("{count} descriptors beside one message; the most is {FDS_MAX}")]
    TooManyFds {
        /// How many.
        count: usize,
    },
    /// The value has no JSON form, or the bytes are not the message expected.
    #[error("malformed message")]
    Json(#[from] serde_json::Error),
    /// The other end does not read, and its buffer is full.
    #[error("the other end does not take messages")]
    Full,
    /// The other end is gone.
    #[error("the other end is gone")]
    Gone,
    /// Anything else the socket says.
    #[error("control socket: {0}")]
    Socket(std::io::Error),
}

impl Channel {
    /// Two connected ends.
    ///
    /// # Errors
    /// The host's: no descriptors or memory left.
    pub fn pair() -> Result<(Self, Self), ChannelError> {
        let (ours, theirs) = socketpair(
            AddressFamily::UNIX,
            SocketType::SEQPACKET,
            SocketFlags::CLOEXEC,
            None,
        )?;
        Ok((Self { socket: ours }, Self { socket: theirs }))
    }

    /// Takes over a socket made by [`Channel::pair`] in another process.
    #[must_use]
    pub const fn adopt(socket: OwnedFd) -> Self {
        Self { socket }
    }

    /// Lets [`Channel::send`] wait at most `limit` for an end that does not read; without this
    /// it waits for ever.
    ///
    /// # Errors
    /// The host's: the descriptor is no socket.
    pub fn limit_send(&self, limit: Duration) -> Result<(), ChannelError> {
        Ok(set_socket_timeout(
            &self.socket,
            Timeout::Send,
            Some(limit),
        )?)
    }

    /// Sends a message with descriptors, which stay the caller's too; waits when the other
    /// end's buffer is full.
    ///
    /// # Errors
    /// [`ChannelError::Gone`] when nobody will ever read it; the others are ours.
    pub fn send<M: Serialize>(
        &self,
        message: &M,
        fds: &[BorrowedFd<'_>],
    ) -> Result<(), ChannelError> {
        self.send_with(message, fds, SendFlags::empty())
    }

    /// Like [`Channel::send`], but never waits.
    ///
    /// # Errors
    /// [`ChannelError::Full`] instead of waiting, else as [`Channel::send`].
    pub fn try_send<M: Serialize>(
        &self,
        message: &M,
        fds: &[BorrowedFd<'_>],
    ) -> Result<(), ChannelError> {
        self.send_with(message, fds, SendFlags::DONTWAIT)
    }

    /// Waits for a message; `None` when the other end is gone.
    ///
    /// # Errors
    /// A malformed message; the link stays usable.
    pub fn recv<M: DeserializeOwned>(&self) -> Result<Option<(M, Vec<OwnedFd>)>, ChannelError> {
        loop {
            match self.recv_with(RecvFlags::empty())? {
                Received::Message(message, fds) => return Ok(Some((message, fds))),
                Received::Gone => return Ok(None),
                // A receive time-out set by somebody else: this call has none.
                Received::Empty => {}
            }
        }
    }

    /// Takes a message if there is one.
    ///
    /// # Errors
    /// As [`Channel::recv`].
    pub fn try_recv<M: DeserializeOwned>(&self) -> Result<Received<M>, ChannelError> {
        self.recv_with(RecvFlags::DONTWAIT)
    }

    /// For poll: readable when a message waits or the other end is gone.
    #[must_use]
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// Gives the socket away, to become another process's stdin.
    #[must_use]
    pub fn into_fd(self) -> OwnedFd {
        self.socket
    }

    fn send_with<M: Serialize>(
        &self,
        message: &M,
        fds: &[BorrowedFd<'_>],
        flags: SendFlags,
    ) -> Result<(), ChannelError> {
        let bytes = serde_json::to_vec(message)?;
        if bytes.len() > MESSAGE_MAX {
            return Err(ChannelError::TooLong { bytes: bytes.len() });
        }
        let too_many = ChannelError::TooManyFds { count: fds.len() };
        if fds.len() > FDS_MAX {
            return Err(too_many);
        }
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(FDS_MAX))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        if !fds.is_empty() && !control.push(SendAncillaryMessage::ScmRights(fds)) {
            return Err(too_many);
        }
        let iov = [IoSlice::new(&bytes)];
        retry(|| {
            sendmsg(
                &self.socket,
                &iov,
                &mut control,
                flags | SendFlags::NOSIGNAL,
            )
        })?;
        Ok(())
    }

    fn recv_with<M: DeserializeOwned>(
        &self,
        flags: RecvFlags,
    ) -> Result<Received<M>, ChannelError> {
        self.recv_into::<M, { rustix::cmsg_space!(ScmRights(FDS_MAX)) }>(flags)
    }

    /// With `SPACE` bytes for descriptors.
    fn recv_into<M: DeserializeOwned, const SPACE: usize>(
        &self,
        flags: RecvFlags,
    ) -> Result<Received<M>, ChannelError> {
        let mut bytes = vec![0; MESSAGE_MAX];
        let mut space = [MaybeUninit::uninit(); SPACE];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let mut iov = [IoSliceMut::new(&mut bytes)];
        let flags = flags | RecvFlags::CMSG_CLOEXEC;
        let got = match retry(|| recvmsg(&self.socket, &mut iov, &mut control, flags)) {
            Err(ChannelError::Full) => return Ok(Received::Empty),
            Err(ChannelError::Gone) => return Ok(Received::Gone),
            other => other?,
        };
        // Owned at once: whatever is wrong with the message, they are closed.
        let mut fds: Vec<OwnedFd> = control
            .drain()
            .filter_map(|message| match message {
                RecvAncillaryMessage::ScmRights(fds) => Some(fds),
                _ => None,
            })
            .flatten()
            .collect();
        if got.flags.contains(ReturnFlags::TRUNC) {
            return Err(ChannelError::TooLong {
                bytes: MESSAGE_MAX + 1,
            });
        }
        if got.flags.contains(ReturnFlags::CTRUNC) {
            // The message counts all the same: nobody else can say which order it was.
            fds.clear();
        }
        if got.bytes == 0 {
            return Ok(Received::Gone);
        }
        let message = serde_json::from_slice(&bytes[..got.bytes])?;
        Ok(Received::Message(message, fds))
    }
}

impl From<Errno> for ChannelError {
    fn from(errno: Errno) -> Self {
        match errno {
            Errno::AGAIN => Self::Full,
            Errno::PIPE | Errno::CONNRESET | Errno::NOTCONN => Self::Gone,
            other => Self::Socket(other.into()),
        }
    }
}

fn retry<T>(mut call: impl FnMut() -> Result<T, Errno>) -> Result<T, ChannelError> {
    loop {
        match call() {
            Err(Errno::INTR) => {}
            other => return Ok(other?),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Seek, Write};

    use super::*;
    use crate::message::{Blame, FromWorker, ToWorker};

    #[test]
    fn a_message_arrives_whole_with_its_descriptors() {
        let (broker, worker) = Channel::pair().unwrap();
        let mut file = scratch_file();
        file.write_all(b"through the socket").unwrap();
        let sent = ToWorker::Connect {
            device: 51712,
            spec: serde_json::json!({"rings": [{"refs": [8], "port": 3}]}),
        };
        broker.send(&sent, &[file.as_fd(), file.as_fd()]).unwrap();

        let (got, fds) = worker.recv::<ToWorker>().unwrap().unwrap();
        assert_eq!(got, sent);
        assert_eq!(fds.len(), 2);
        for fd in fds {
            let flags = rustix::io::fcntl_getfd(&fd).unwrap();
            assert!(flags.contains(rustix::io::FdFlags::CLOEXEC));
            let mut theirs = std::fs::File::from(fd);
            theirs.rewind().unwrap();
            let mut text = String::new();
            theirs.read_to_string(&mut text).unwrap();
            assert_eq!(text, "through the socket");
        }
    }

    #[test]
    fn messages_keep_their_order_and_borders() {
        let (broker, worker) = Channel::pair().unwrap();
        for device in 0..20 {
            worker.send(&FromWorker::Connected { device }, &[]).unwrap();
        }
        for device in 0..20 {
            let (got, fds) = broker.recv::<FromWorker>().unwrap().unwrap();
            assert_eq!(got, FromWorker::Connected { device });
            assert!(fds.is_empty());
        }
        assert!(matches!(
            broker.try_recv::<FromWorker>().unwrap(),
            Received::Empty
        ));
    }

    #[test]
    fn the_end_of_the_other_side_is_seen_after_its_last_message() {
        let (broker, worker) = Channel::pair().unwrap();
        let last = FromWorker::Fault {
            device: 1,
            blame: Blame::Guest,
            message: "ring overrun".into(),
        };
        worker.send(&last, &[]).unwrap();
        drop(worker);
        assert_eq!(broker.recv::<FromWorker>().unwrap().unwrap().0, last);
        assert!(broker.recv::<FromWorker>().unwrap().is_none());
        assert!(matches!(
            broker.send(&ToWorker::Shutdown, &[]),
            Err(ChannelError::Gone)
        ));
    }

    #[test]
    fn a_message_over_the_limit_is_refused_before_it_is_sent() {
        let (broker, worker) = Channel::pair().unwrap();
        let message = FromWorker::Failed {
            device: 1,
            blame: Blame::Host,
            message: "x".repeat(MESSAGE_MAX),
        };
        assert!(matches!(
            worker.send(&message, &[]),
            Err(ChannelError::TooLong { .. })
        ));
        let file = scratch_file();
        let fds = vec![file.as_fd(); FDS_MAX + 1];
        assert!(matches!(
            broker.send(&ToWorker::Shutdown, &fds),
            Err(ChannelError::TooManyFds { count: 251 })
        ));
        assert!(matches!(
            worker.try_recv::<ToWorker>().unwrap(),
            Received::Empty
        ));
    }

    #[test]
    fn the_largest_message_passes_with_the_most_descriptors() {
        let (broker, worker) = Channel::pair().unwrap();
        let envelope = serde_json::to_vec(&failed(0)).unwrap().len();
        let message = failed(MESSAGE_MAX - envelope);
        let file = scratch_file();
        worker.send(&message, &vec![file.as_fd(); FDS_MAX]).unwrap();
        let (got, fds) = broker.recv::<FromWorker>().unwrap().unwrap();
        assert_eq!(got, message);
        assert_eq!(fds.len(), FDS_MAX);
    }

    #[test]
    fn a_message_whose_descriptors_are_lost_arrives_without_any() {
        let (broker, worker) = Channel::pair().unwrap();
        let file = scratch_file();
        let sent = ToWorker::Disconnect { device: 7 };
        // As if fewer descriptors than were sent could be opened here.
        broker.send(&sent, &[file.as_fd(); 20]).unwrap();
        let got =
            worker.recv_into::<ToWorker, { rustix::cmsg_space!(ScmRights(3)) }>(RecvFlags::empty());
        let Received::Message(message, fds) = got.unwrap() else {
            panic!("no message");
        };
        assert_eq!(message, sent);
        assert!(fds.is_empty());
        broker.send(&sent, &[file.as_fd(); 20]).unwrap();
        assert_eq!(worker.recv::<ToWorker>().unwrap().unwrap().1.len(), 20);
    }

    #[test]
    fn an_end_that_does_not_read_is_reported_not_waited_for() {
        let (broker, _worker) = Channel::pair().unwrap();
        let outcome = (0..100_000).find_map(|_| broker.try_send(&ToWorker::Shutdown, &[]).err());
        assert!(matches!(outcome, Some(ChannelError::Full)));
    }

    #[test]
    fn a_malformed_message_is_an_error_and_the_link_lives_on() {
        let (broker, worker) = Channel::pair().unwrap();
        worker.send(&"nonsense", &[]).unwrap();
        worker
            .send(&FromWorker::Disconnected { device: 7 }, &[])
            .unwrap();
        assert!(matches!(
            broker.recv::<FromWorker>(),
            Err(ChannelError::Json(_))
        ));
        let (next, _) = broker.recv::<FromWorker>().unwrap().unwrap();
        assert_eq!(next, FromWorker::Disconnected { device: 7 });
    }

    fn failed(length: usize) -> FromWorker {
        FromWorker::Failed {
            device: 1,
            blame: Blame::Host,
            message: "x".repeat(length),
        }
    }

    fn scratch_file() -> std::fs::File {
        let fd = rustix::fs::memfd_create("channel-test", rustix::fs::MemfdFlags::CLOEXEC);
        std::fs::File::from(fd.unwrap())
    }
}
