//! The link between the broker and a worker: whole messages, with descriptors beside them.
//!
//! A `SOCK_SEQPACKET` pair keeps message borders, so a message arrives entirely or not at all,
//! and the kernel says when the other end is gone.
//!
//! What a broker has to say may be longer than a datagram (a policy of a thousand rules): then the
//! datagram has its length only, and the message is in a file in memory beside it. A worker, which may
//! be in bad hands, cannot have the broker read files.

use std::fs::File;
use std::io::{IoSlice, IoSliceMut, Write as _};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt as _;
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

use crate::memory;

/// The longest datagram, in bytes: the longest message of a worker.
pub const MESSAGE_MAX: usize = 64 * 1024;

/// The longest message of a broker, in bytes.
pub const LONG_MAX: usize = 4 * 1024 * 1024;

/// The most descriptors beside one message (the kernel's own limit is 253, and a long message has
/// one more).
pub const FDS_MAX: usize = 250;

/// What a datagram begins with whose message is in a file. No JSON does.
const LONG: u8 = b'@';

/// One end of the link. `&self` sends and receives, so threads may share it; each message is
/// atomic.
#[derive(Debug)]
pub struct Channel {
    socket: OwnedFd,
    end: End,
}

/// Whose end of the link it is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum End {
    Broker,
    Worker,
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
    /// The encoded message is longer than [`LONG_MAX`], or a worker's longer than [`MESSAGE_MAX`].
    #[error("message of {bytes} bytes; the most is {most}")]
    TooLong {
        /// Its length.
        bytes: usize,
        /// What it may have.
        most: usize,
    },
    /// A long message has come without its file, as one that is sent by a worker does.
    #[error("a long message came without its file: is RLIMIT_NOFILE too low?")]
    NoFile,
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
    /// Two connected ends, a broker's and a worker's.
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
        let end = |socket, end| Self { socket, end };
        Ok((end(ours, End::Broker), end(theirs, End::Worker)))
    }

    /// Takes over the worker's end of a [`Channel::pair`] of another process.
    #[must_use]
    pub const fn adopt(socket: OwnedFd) -> Self {
        Self {
            socket,
            end: End::Worker,
        }
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
        let mut bytes = serde_json::to_vec(message)?;
        let too_many = ChannelError::TooManyFds { count: fds.len() };
        if fds.len() > FDS_MAX {
            return Err(too_many);
        }
        let file = self.put_aside(&mut bytes)?;
        let fds: Vec<_> = fds
            .iter()
            .copied()
            .chain(file.as_ref().map(AsFd::as_fd))
            .collect();
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(FDS_MAX + 1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        if !fds.is_empty() && !control.push(SendAncillaryMessage::ScmRights(&fds)) {
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

    /// Puts a message that is too long for a datagram into a file, and that into its place.
    fn put_aside(&self, bytes: &mut Vec<u8>) -> Result<Option<File>, ChannelError> {
        let most = match self.end {
            End::Broker => LONG_MAX,
            End::Worker => MESSAGE_MAX,
        };
        if bytes.len() > most {
            let bytes = bytes.len();
            return Err(ChannelError::TooLong { bytes, most });
        }
        if bytes.len() <= MESSAGE_MAX {
            return Ok(None);
        }
        let mut file = File::from(memory::file("message")?);
        file.write_all(bytes).map_err(ChannelError::Socket)?;
        *bytes = std::iter::once(LONG)
            .chain(bytes.len().to_string().into_bytes())
            .collect();
        Ok(Some(file))
    }

    /// The message that a datagram stands for, and that is in the last of `fds`. The broker is trusted.
    fn fetch(&self, datagram: &[u8], fds: &mut Vec<OwnedFd>) -> Result<Vec<u8>, ChannelError> {
        let length = std::str::from_utf8(datagram)
            .ok()
            .and_then(|text| text.parse().ok());
        let length = length.filter(|_| self.end == End::Worker);
        let (Some(length), Some(file)) = (length, fds.pop()) else {
            return Err(ChannelError::NoFile);
        };
        if length > LONG_MAX {
            let (bytes, most) = (length, LONG_MAX);
            return Err(ChannelError::TooLong { bytes, most });
        }
        let mut bytes = vec![0; length];
        File::from(file)
            .read_exact_at(&mut bytes, 0)
            .map_err(ChannelError::Socket)?;
        Ok(bytes)
    }

    fn recv_with<M: DeserializeOwned>(
        &self,
        flags: RecvFlags,
    ) -> Result<Received<M>, ChannelError> {
        self.recv_into::<M, { rustix::cmsg_space!(ScmRights(FDS_MAX + 1)) }>(flags)
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
                most: MESSAGE_MAX,
            });
        }
        if got.flags.contains(ReturnFlags::CTRUNC) {
            // The message counts all the same: nobody else can say which order it was.
            fds.clear();
        }
        if got.bytes == 0 {
            return Ok(Received::Gone);
        }
        bytes.truncate(got.bytes);
        if let Some((&LONG, length)) = bytes.split_first() {
            bytes = self.fetch(length, &mut fds)?;
        }
        let message = serde_json::from_slice(&bytes)?;
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
            let mut theirs = File::from(fd);
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
    fn a_brokers_long_message_passes_with_the_most_descriptors_and_a_workers_does_not() {
        let (broker, worker) = Channel::pair().unwrap();
        let long = connect(LONG_MAX - serde_json::to_vec(&connect(0)).unwrap().len());
        let file = scratch_file();
        broker.send(&long, &vec![file.as_fd(); FDS_MAX]).unwrap();
        broker.send(&ToWorker::Shutdown, &[]).unwrap();
        let (got, fds) = worker.recv::<ToWorker>().unwrap().unwrap();
        assert_eq!((got, fds.len()), (long.clone(), FDS_MAX));
        let (next, fds) = worker.recv::<ToWorker>().unwrap().unwrap();
        assert_eq!((next, fds.len()), (ToWorker::Shutdown, 0));

        let longer = connect(LONG_MAX);
        let refused = broker.send(&longer, &[]).unwrap_err();
        assert!(refused.to_string().ends_with("the most is 4194304"));
        let refused = worker.send(&long, &[]).unwrap_err();
        assert!(refused.to_string().ends_with("the most is 65536"));
    }

    #[test]
    fn a_worker_cannot_have_the_broker_read_a_file() {
        let (broker, worker) = Channel::pair().unwrap();
        // The same worker with the code of a broker.
        let worker = Channel {
            socket: worker.into_fd(),
            end: End::Broker,
        };
        worker.send(&connect(MESSAGE_MAX), &[]).unwrap();
        worker.send(&ToWorker::Shutdown, &[]).unwrap();
        let refused = broker.recv::<ToWorker>();
        assert!(matches!(refused, Err(ChannelError::NoFile)));
        let (next, _) = broker.recv::<ToWorker>().unwrap().unwrap();
        assert_eq!(next, ToWorker::Shutdown);
    }

    #[test]
    fn a_long_message_whose_file_is_lost_is_an_error_and_the_link_lives_on() {
        let (broker, worker) = Channel::pair().unwrap();
        broker
            .send(&connect(MESSAGE_MAX), &[broker.fd(); 20])
            .unwrap();
        broker.send(&ToWorker::Shutdown, &[]).unwrap();
        let got =
            worker.recv_into::<ToWorker, { rustix::cmsg_space!(ScmRights(3)) }>(RecvFlags::empty());
        assert!(matches!(got, Err(ChannelError::NoFile)));
        let (next, _) = worker.recv::<ToWorker>().unwrap().unwrap();
        assert_eq!(next, ToWorker::Shutdown);
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

    fn connect(length: usize) -> ToWorker {
        ToWorker::Connect {
            device: 7,
            spec: serde_json::Value::String("x".repeat(length)),
        }
    }

    fn failed(length: usize) -> FromWorker {
        FromWorker::Failed {
            device: 1,
            blame: Blame::Host,
            message: "x".repeat(length),
        }
    }

    fn scratch_file() -> File {
        let fd = memory::file("channel-test");
        File::from(fd.unwrap())
    }
}
