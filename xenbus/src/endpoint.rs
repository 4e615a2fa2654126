//! Where xenstored is reached: its Unix socket, or the kernel's `/dev/xen/xenbus`.

use std::collections::VecDeque;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketAddrUnix, SocketFlags, SocketType};

use crate::errno::Errno as Refusal;
use crate::error::StoreError;
use crate::wire::{Decoder, KERNEL_PAYLOAD_MAX, Message, Op, PAYLOAD_MAX};

const SOCKETS: [&str; 2] = ["/run/xenstored/socket", "/var/run/xenstored/socket"];
const DEVICES: [&str; 2] = ["/dev/xen/xenbus", "/proc/xen/xenbus"];

/// How to reach xenstored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Endpoint {
    /// A Unix stream socket of a xenstored that runs as a process of this domain.
    Socket(PathBuf),
    /// The kernel's multiplexer: the only way in a driver domain, or when xenstored has a domain of
    /// its own.
    Kernel(PathBuf),
}

impl Endpoint {
    /// Finds xenstored as its own tools do: `XENSTORED_PATH`, which may name a socket or the kernel
    /// device, then the usual socket, then the kernel device.
    ///
    /// # Errors
    /// None of them exists.
    pub fn discover() -> Result<Self, StoreError> {
        if let Some(path) = std::env::var_os("XENSTORED_PATH") {
            return Ok(Self::at(path.into()));
        }
        let exists = |path: &&&str| Path::new(path).exists();
        let socket = SOCKETS
            .iter()
            .find(exists)
            .map(|path| Self::Socket(path.into()));
        let device = || {
            DEVICES
                .iter()
                .find(exists)
                .map(|path| Self::Kernel(path.into()))
        };
        socket
            .or_else(device)
            .ok_or_else(|| StoreError::NotFound([SOCKETS, DEVICES].concat().join(" nor ")))
    }

    /// What is there: a device is the kernel's, and anything else is tried as a socket.
    fn at(path: PathBuf) -> Self {
        let kind = std::fs::metadata(&path).map(|found| found.file_type());
        if kind.is_ok_and(|kind| kind.is_char_device() || kind.is_file()) {
            Self::Kernel(path)
        } else {
            Self::Socket(path)
        }
    }

    /// The path that is opened.
    #[must_use]
    pub fn path(&self) -> &Path {
        match self {
            Self::Socket(path) | Self::Kernel(path) => path,
        }
    }
}

/// An open connection: non-blocking, with what is not yet sent and not yet decoded.
#[derive(Debug)]
pub(crate) struct Link {
    fd: OwnedFd,
    kernel: bool,
    decoder: Decoder,
    outbox: Vec<u8>,
    /// The messages in `outbox`: the kernel device takes exactly one per write.
    frames: VecDeque<Frame>,
    /// The answer that the kernel device gave by failing a write.
    refused: Option<Message>,
    scratch: Box<[u8; 8192]>,
}

/// A message that is not yet sent as a whole.
#[derive(Clone, Copy, Debug)]
struct Frame {
    op: Op,
    request: u32,
    /// Bytes of it in the outbox.
    left: usize,
}

impl Link {
    pub(crate) fn open(endpoint: &Endpoint, deadline: Instant) -> Result<Self, StoreError> {
        let fd = match endpoint {
            Endpoint::Socket(path) => connect(path, deadline),
            Endpoint::Kernel(path) => rustix::fs::open(
                path,
                OFlags::RDWR | OFlags::CLOEXEC | OFlags::NONBLOCK,
                Mode::empty(),
            ),
        };
        let fd = fd.map_err(|errno| StoreError::Open {
            path: endpoint.path().to_owned(),
            errno,
        })?;
        Ok(Self::over(fd, endpoint))
    }

    pub(crate) fn over(fd: OwnedFd, endpoint: &Endpoint) -> Self {
        let scratch = Box::new([0; 8192]);
        Self {
            fd,
            kernel: matches!(endpoint, Endpoint::Kernel(_)),
            decoder: Decoder::default(),
            outbox: Vec::new(),
            frames: VecDeque::new(),
            refused: None,
            scratch,
        }
    }

    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    pub(crate) fn payload_limit(&self) -> usize {
        if self.kernel {
            KERNEL_PAYLOAD_MAX
        } else {
            PAYLOAD_MAX
        }
    }

    /// How many requests may be sent ahead of their answers.
    ///
    /// xenstored lets an unprivileged domain have 20 outstanding. The kernel's device takes more than
    /// one, and does harm with it, seen on Linux 6.1 with Xen 4.17:
    ///
    /// - It has one buffer for each open file, from which its own thread copies a request's payload
    ///   later than `write` returns (`xenbus_dev_request_and_reply`, `process_writes`): the next
    ///   request overwrites it. Wrong nodes are read and written, and xenstored itself can end at a
    ///   failed assertion, which leaves the whole host without a store.
    /// - A watch keeps the file locked until xenstored has answered, and the thread that takes
    ///   answers in needs that lock for the one before (`xenbus_write_watch`,
    ///   `xenbus_dev_queue_reply`): no process of the domain gets an answer ever again.
    pub(crate) const fn window(&self) -> usize {
        if self.kernel { 1 } else { 16 }
    }

    /// Queues a message; [`Link::flush`] sends it.
    pub(crate) fn post(&mut self, message: &Message) -> Result<(), StoreError> {
        let before = self.outbox.len();
        message.encode(self.payload_limit(), &mut self.outbox)?;
        self.frames.push_back(Frame {
            op: message.op,
            request: message.request,
            left: self.outbox.len() - before,
        });
        Ok(())
    }

    /// Sends what can be sent without waiting. True when nothing is left.
    pub(crate) fn flush(&mut self) -> Result<bool, StoreError> {
        while let Some(first) = self.frames.front().copied() {
            let portion = if self.kernel {
                first.left
            } else {
                self.outbox.len()
            };
            let bytes = self.outbox.get(..portion).unwrap_or(&self.outbox);
            let sent = if self.kernel {
                rustix::io::write(&self.fd, bytes)
            } else {
                rustix::net::send(&self.fd, bytes, SendFlags::NOSIGNAL)
            };
            match sent {
                Ok(sent) => self.sent(sent),
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return Ok(false),
                Err(errno) => {
                    let refusal = self.refusal(first, errno).ok_or(StoreError::Lost)?;
                    self.refused = Some(refusal);
                    // The device has thrown the message away, and no answer will come.
                    self.sent(first.left);
                }
            }
        }
        Ok(true)
    }

    /// What a failed write to the kernel's device says about the request that was written. Only
    /// watches are refused that way. Anything else was not asked at all: a transaction whose end
    /// was not asked for is still open, and ends with the connection only.
    fn refusal(&self, of: Frame, errno: Errno) -> Option<Message> {
        let watch = matches!(of.op, Op::Watch | Op::Unwatch);
        let errno = Refusal::of_refused_write(errno).filter(|_| self.kernel && watch)?;
        Some(Message {
            op: Op::Error,
            request: of.request,
            transaction: 0,
            payload: errno.name().as_bytes().to_vec(),
        })
    }

    fn sent(&mut self, bytes: usize) {
        self.outbox.drain(..bytes.min(self.outbox.len()));
        let mut left = bytes;
        while let Some(front) = self.frames.front_mut() {
            if front.left > left {
                front.left -= left;
                return;
            }
            left -= front.left;
            self.frames.pop_front();
        }
    }

    /// Takes what has arrived, without waiting. False when nothing had.
    pub(crate) fn fill(&mut self) -> Result<bool, StoreError> {
        if self.refused.is_some() {
            return Ok(true);
        }
        loop {
            let received = if self.kernel {
                rustix::io::read(&self.fd, self.scratch.as_mut_slice())
            } else {
                rustix::net::recv(&self.fd, self.scratch.as_mut_slice(), RecvFlags::empty())
                    .map(|(bytes, _)| bytes)
            };
            match received {
                // End of file: xenstored is gone, or has thrown us out.
                Ok(0) => return Err(StoreError::Lost),
                Ok(bytes) => {
                    self.decoder
                        .feed(self.scratch.get(..bytes).unwrap_or_default());
                    return Ok(true);
                }
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return Ok(false),
                Err(_) => return Err(StoreError::Lost),
            }
        }
    }

    pub(crate) fn next_message(&mut self) -> Result<Option<Message>, StoreError> {
        match self.refused.take() {
            None => Ok(self.decoder.next_message()?),
            refused => Ok(refused),
        }
    }

    /// Sleeps until there is something to take, or room to send if something is left to be sent.
    /// False at `deadline`.
    pub(crate) fn wait(&self, deadline: Instant) -> Result<bool, StoreError> {
        // The kernel device never reports POLLOUT, and no write to it is cut short.
        let sending = !self.kernel && !self.outbox.is_empty();
        let flags = if sending {
            PollFlags::IN | PollFlags::OUT
        } else {
            PollFlags::IN
        };
        loop {
            let mut fds = [PollFd::new(&self.fd, flags)];
            let left = deadline.saturating_duration_since(Instant::now());
            let timeout = Timespec::try_from(left.max(Duration::from_millis(1))).ok();
            match poll(&mut fds, timeout.as_ref()) {
                Ok(0) if Instant::now() >= deadline => return Ok(false),
                Ok(0) | Err(Errno::INTR) => {}
                Ok(_) => return Ok(true),
                Err(_) => return Err(StoreError::Lost),
            }
        }
    }
}

fn connect(path: &Path, deadline: Instant) -> Result<OwnedFd, Errno> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let fd = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    let address = SocketAddrUnix::new(path)?;
    loop {
        match rustix::net::connect(&fd, &address) {
            Ok(()) => return Ok(fd),
            // A full backlog of a Unix socket cannot be polled for.
            Err(Errno::AGAIN) if Instant::now() < deadline => {
                std::thread::sleep(Duration::from_millis(5));
            }
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_is_the_kernels_and_the_rest_are_sockets() {
        let null = PathBuf::from("/dev/null");
        assert_eq!(Endpoint::at(null.clone()), Endpoint::Kernel(null));
        let nothing = PathBuf::from("/nowhere/socket");
        assert_eq!(Endpoint::at(nothing.clone()), Endpoint::Socket(nothing));
    }
}
