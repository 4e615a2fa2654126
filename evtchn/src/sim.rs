//! Event channels of the simulated hypervisor.
//!
//! Every pair of ports owns two eventfds, one per direction, which the server hands to whoever binds
//! an end. Notifying is writing the peer's; being pending is ours being readable. A fired port is
//! masked by `EPOLLONESHOT` and unmasked by re-arming, and its eventfd latches meanwhile, as Xen's
//! pending bit does. Binding and closing are requests to the server; notifying never is.

mod link;
pub mod wire;

use std::collections::BTreeMap;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use ring_proto::DomId;
use rustix::event::epoll;
use rustix::io::Errno;

use self::link::{Link, Reply};
use crate::{EvtchnError, LocalPort, RemotePort};

/// Most ports one [`SimEvtchn::pending`] returns, as for the device.
const BATCH: usize = 64;

/// Marks the server's socket among the polled descriptors; no port has this number.
const HANGUP: u64 = u64::MAX;

/// A connection to the simulated hypervisor, used for event channels.
#[derive(Debug)]
pub(crate) struct SimEvtchn {
    link: Link,
    poller: OwnedFd,
    ports: BTreeMap<LocalPort, Ends>,
}

/// The two directions of one bound port.
#[derive(Debug)]
struct Ends {
    fired: OwnedFd,
    peer: OwnedFd,
}

impl SimEvtchn {
    pub(crate) fn connect(dir: &Path) -> Result<Self, EvtchnError> {
        Self::over(Link::connect(dir)?)
    }

    /// Takes over a connection, with the ports that were bound through it.
    pub(crate) fn adopt(fd: OwnedFd) -> Result<Self, EvtchnError> {
        let mut this = Self::over(Link::adopt(fd)?)?;
        let listed = this.link.call("adopt", &[wire::PORTS])?.words;
        for port in listed {
            let reply = this.link.call("adopt", &[wire::ENDS, port])?;
            this.keep(reply)?;
        }
        Ok(this)
    }

    pub(crate) fn into_fd(self) -> OwnedFd {
        self.link.into_fd()
    }

    pub(crate) fn restrict(&self, domid: DomId) -> Result<(), EvtchnError> {
        let request = [wire::RESTRICT, u32::from(domid.raw())];
        self.link.call("restrict", &request).map(drop)
    }

    pub(crate) fn bind(
        &mut self,
        domid: DomId,
        port: RemotePort,
    ) -> Result<LocalPort, EvtchnError> {
        let request = [wire::BIND, u32::from(domid.raw()), port.0];
        match self.link.try_call(&request)? {
            Ok(reply) => self.keep(reply),
            Err(errno) => Err(EvtchnError::of_bind(domid, port, errno)),
        }
    }

    pub(crate) fn bind_unbound(&mut self, remote: DomId) -> Result<LocalPort, EvtchnError> {
        let request = [wire::BIND_UNBOUND, u32::from(remote.raw())];
        let reply = self.link.call("bind_unbound", &request)?;
        self.keep(reply)
    }

    pub(crate) fn bind_virq(&mut self, virq: u32) -> Result<LocalPort, EvtchnError> {
        let reply = self.link.call("bind_virq", &[wire::BIND_VIRQ, virq])?;
        self.keep(reply)
    }

    pub(crate) fn unbind(&mut self, port: LocalPort) -> Result<(), EvtchnError> {
        if let Some(ends) = self.ports.remove(&port) {
            // Closing our descriptor would not do: the server has the same open file.
            epoll::delete(&self.poller, &ends.fired)
                .map_err(|e| EvtchnError::of("epoll_ctl", e))?;
        }
        match self.link.try_call(&[wire::UNBIND, port.raw()])? {
            Ok(_) => Ok(()),
            Err(errno) => Err(EvtchnError::of_port("unbind", port, errno)),
        }
    }

    pub(crate) fn notify(&self, port: LocalPort) -> Result<(), EvtchnError> {
        let ends = self.ports.get(&port);
        let ends = ends.ok_or(EvtchnError::NotBound { port })?;
        match rustix::io::write(&ends.peer, &1u64.to_ne_bytes()) {
            // A counter that is full is a port that is pending: there is nothing to add.
            Ok(_) | Err(Errno::AGAIN) => Ok(()),
            Err(errno) => Err(EvtchnError::of("notify", errno)),
        }
    }

    pub(crate) fn pending(&mut self, out: &mut [LocalPort]) -> Result<usize, EvtchnError> {
        let mut events = [const { MaybeUninit::<epoll::Event>::uninit() }; BATCH];
        let room = out.len().min(BATCH);
        if room == 0 {
            return Ok(0);
        }
        let now = rustix::time::Timespec::default();
        let (events, _) = epoll::wait(&self.poller, &mut events[..room], Some(&now))
            .map_err(|e| EvtchnError::of("pending", e))?;
        let mut count = 0;
        for event in events {
            let data = event.data.u64();
            let port = u32::try_from(data).map_err(|_| EvtchnError::Lost)?;
            if self.clear(LocalPort::new(port))? {
                out[count] = LocalPort::new(port);
                count += 1;
            }
        }
        Ok(count)
    }

    pub(crate) fn unmask(&self, ports: &[LocalPort]) -> Result<(), EvtchnError> {
        for &port in ports {
            match self.ports.get(&port) {
                Some(ends) => self.arm(port, ends)?,
                // The kernel ignores this silently; here it is a bug of ours to be told of.
                None => self.link.tell(&[wire::STRAY_UNMASK, port.raw()])?,
            }
        }
        Ok(())
    }

    pub(crate) fn wait_fd(&self) -> BorrowedFd<'_> {
        self.poller.as_fd()
    }

    fn over(link: Link) -> Result<Self, EvtchnError> {
        let poller = epoll::create(epoll::CreateFlags::CLOEXEC)
            .map_err(|e| EvtchnError::of("epoll_create", e))?;
        // No flags: a hang-up is reported all the same.
        let hangup = epoll::EventData::new_u64(HANGUP);
        epoll::add(&poller, link.as_fd(), hangup, epoll::EventFlags::empty())
            .map_err(|e| EvtchnError::of("epoll_ctl", e))?;
        Ok(Self {
            link,
            poller,
            ports: BTreeMap::new(),
        })
    }

    /// Starts to poll a port that the server has just answered with.
    fn keep(&mut self, reply: Reply) -> Result<LocalPort, EvtchnError> {
        let mut fds = reply.fds.into_iter();
        let (Some(&port), Some(fired), Some(peer)) = (reply.words.first(), fds.next(), fds.next())
        else {
            return Err(EvtchnError::Lost);
        };
        let port = LocalPort::new(port);
        let data = epoll::EventData::new_u64(u64::from(port.raw()));
        let flags = epoll::EventFlags::IN | epoll::EventFlags::ONESHOT;
        epoll::add(&self.poller, &fired, data, flags)
            .map_err(|e| EvtchnError::of("epoll_ctl", e))?;
        self.ports.insert(port, Ends { fired, peer });
        Ok(port)
    }

    /// Empties a fired port's latch; `false` if it was empty already, after re-arming it.
    fn clear(&self, port: LocalPort) -> Result<bool, EvtchnError> {
        let Some(ends) = self.ports.get(&port) else {
            return Ok(false);
        };
        match rustix::io::read(&ends.fired, &mut [0u8; 8]) {
            Ok(_) => Ok(true),
            Err(Errno::AGAIN) => self.arm(port, ends).map(|()| false),
            Err(errno) => Err(EvtchnError::of("pending", errno)),
        }
    }

    fn arm(&self, port: LocalPort, ends: &Ends) -> Result<(), EvtchnError> {
        let data = epoll::EventData::new_u64(u64::from(port.raw()));
        let flags = epoll::EventFlags::IN | epoll::EventFlags::ONESHOT;
        epoll::modify(&self.poller, &ends.fired, data, flags)
            .map_err(|e| EvtchnError::of("unmask", e))
    }
}
