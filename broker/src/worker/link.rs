//! The worker's side of the control socket.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::net::SocketType;
use rustix::net::sockopt::socket_type;

use crate::channel::{Channel, ChannelError, Received};
use crate::message::{FromWorker, ToWorker};

/// How long a report may wait for a broker that does not read before it is given up.
const SEND_LIMIT: Duration = Duration::from_secs(5);

/// The worker's link to its broker. Queue threads share it to report.
///
/// The broker's end (`None` from [`Link::recv`]) is no reason to stop serving: a worker goes on
/// with the devices that it has and ends when the last of them is closed.
#[derive(Debug)]
pub struct Link {
    channel: Channel,
}

/// Why this process has no broker to talk to.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LinkError {
    /// Standard input is something else: somebody started the worker by hand.
    #[error("standard input is no control socket: `worker` is started by `serve`, never by hand")]
    NoSocket,
    /// The socket does not work.
    #[error(transparent)]
    Channel(#[from] ChannelError),
}

impl Link {
    /// The socket that the broker left as standard input; says hello on it.
    ///
    /// # Errors
    /// [`LinkError::NoSocket`] when the process was not started by a broker.
    pub fn from_stdin() -> Result<Self, LinkError> {
        let stdin = std::io::stdin();
        if socket_type(&stdin) != Ok(SocketType::SEQPACKET) {
            return Err(LinkError::NoSocket);
        }
        let socket = stdin
            .as_fd()
            .try_clone_to_owned()
            .map_err(ChannelError::Socket)?;
        Self::adopt(Channel::adopt(socket))
    }

    /// The worker's end of a [`Channel::pair`], for a worker that runs as a thread of a test.
    ///
    /// # Errors
    /// The other end is gone already.
    pub fn adopt(channel: Channel) -> Result<Self, LinkError> {
        channel.limit_send(SEND_LIMIT)?;
        let link = Self { channel };
        link.send(&FromWorker::Hello {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
        })?;
        Ok(link)
    }

    /// Reports to the broker; usable from every thread.
    ///
    /// # Errors
    /// [`ChannelError::Gone`] when the broker has ended, [`ChannelError::Full`] when it has not
    /// read for five seconds. Neither is a reason to stop serving.
    pub fn send(&self, report: &FromWorker) -> Result<(), ChannelError> {
        self.channel.send(report, &[])
    }

    /// Waits for an order; `None` when the broker is gone.
    ///
    /// # Errors
    /// As [`Channel::recv`].
    pub fn recv(&self) -> Result<Option<(ToWorker, Vec<OwnedFd>)>, ChannelError> {
        self.channel.recv()
    }

    /// Takes an order if there is one.
    ///
    /// # Errors
    /// As [`Channel::recv`].
    pub fn try_recv(&self) -> Result<Received<ToWorker>, ChannelError> {
        self.channel.try_recv()
    }

    /// For poll: readable when an order waits or the broker is gone.
    #[must_use]
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.channel.fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_says_hello_and_takes_orders() {
        let (broker, worker) = Channel::pair().unwrap();
        let link = Link::adopt(worker).unwrap();
        let (hello, _) = broker.recv::<FromWorker>().unwrap().unwrap();
        assert_eq!(
            hello,
            FromWorker::Hello {
                version: env!("CARGO_PKG_VERSION").into(),
                pid: std::process::id(),
            }
        );
        broker
            .send(&ToWorker::Disconnect { device: 3 }, &[])
            .unwrap();
        let (order, fds) = link.recv().unwrap().unwrap();
        assert_eq!(order, ToWorker::Disconnect { device: 3 });
        assert!(fds.is_empty());
        drop(broker);
        assert!(link.recv().unwrap().is_none());
        assert!(matches!(
            link.send(&FromWorker::Disconnected { device: 3 }),
            Err(ChannelError::Gone)
        ));
    }

    #[test]
    fn a_link_reports_from_several_threads() {
        let (broker, worker) = Channel::pair().unwrap();
        let link = Link::adopt(worker).unwrap();
        std::thread::scope(|scope| {
            for device in 0..4 {
                let link = &link;
                scope.spawn(move || link.send(&FromWorker::Connected { device }).unwrap());
            }
        });
        drop(link);
        let mut devices = Vec::new();
        while let Some((message, _)) = broker.recv::<FromWorker>().unwrap() {
            if let FromWorker::Connected { device } = message {
                devices.push(device);
            }
        }
        devices.sort_unstable();
        assert_eq!(devices, [0, 1, 2, 3]);
    }
}
