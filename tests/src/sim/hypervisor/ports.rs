//! Event channels.
//!
//! A port that is allocated gets two eventfds, one per direction, and whoever binds it gets the same
//! two, crossed. They outlive the binding: when one end closes the other goes back to "unbound, for
//! the same domain", and a new owner carries on (`evtchn_close`, `evtchn_bind_interdomain`).

use std::collections::BTreeMap;
use std::os::fd::{AsFd, OwnedFd};

use ring_proto::DomId;
use rustix::event::{EventfdFlags, eventfd};
use rustix::io::Errno;

/// Ports of one domain (`max_event_channels` of guests, and plenty for domain 0 here).
const MAX_PORTS: u32 = 1023;

/// Virtual interrupts that exist (`NR_VIRQS`).
const VIRQS: u32 = 24;

/// Which connection bound a port of domain 0; guests' ports belong to the guest.
pub(super) type Owner = Option<u64>;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Peer {
    /// Nobody yet, or no more; this domain may bind it.
    Unbound(DomId),
    /// That port of that domain.
    Bound(DomId, u32),
    /// A virtual interrupt, which never fires here.
    Virq(u32),
}

#[derive(Debug)]
struct Port {
    owner: Owner,
    peer: Peer,
    /// Readable while the port is pending.
    fired: OwnedFd,
    /// Written to make the other end pending.
    signal: OwnedFd,
}

/// The port that a request was about, with duplicates of its two descriptors.
#[derive(Debug)]
pub(super) struct Ends {
    pub(super) port: u32,
    pub(super) fds: Vec<OwnedFd>,
}

/// All ports of all domains.
#[derive(Debug, Default)]
pub(super) struct Ports(BTreeMap<(DomId, u32), Port>);

impl Ports {
    /// `EVTCHNOP_alloc_unbound`: a port of `domid` that `remote` may bind.
    pub(super) fn alloc(
        &mut self,
        domid: DomId,
        remote: DomId,
        owner: Owner,
    ) -> Result<Ends, Errno> {
        self.open(domid, owner, Peer::Unbound(remote))
    }

    /// `EVTCHNOP_bind_virq`.
    pub(super) fn bind_virq(
        &mut self,
        domid: DomId,
        virq: u32,
        owner: Owner,
    ) -> Result<Ends, Errno> {
        if virq >= VIRQS {
            return Err(Errno::INVAL);
        }
        let mut of_domain = self.0.iter().filter(|((owner, _), _)| *owner == domid);
        if of_domain.any(|(_, port)| port.peer == Peer::Virq(virq)) {
            return Err(Errno::EXIST);
        }
        self.open(domid, owner, Peer::Virq(virq))
    }

    /// `EVTCHNOP_bind_interdomain`: binds `remote_port` of `remote` for `domid`.
    pub(super) fn bind(
        &mut self,
        domid: DomId,
        remote: DomId,
        remote_port: u32,
        owner: Owner,
    ) -> Result<Ends, Errno> {
        let local = self.free_port(domid)?;
        let theirs = self.0.get_mut(&(remote, remote_port));
        let theirs = theirs.filter(|port| port.peer == Peer::Unbound(domid));
        let theirs = theirs.ok_or(Errno::INVAL)?;
        let port = Port {
            owner,
            peer: Peer::Bound(remote, remote_port),
            fired: duplicate(&theirs.signal)?,
            signal: duplicate(&theirs.fired)?,
        };
        // Xen marks the new local port pending: an event may have been sent before.
        signal(&port.fired)?;
        let ends = ends(local, &port)?;
        theirs.peer = Peer::Bound(domid, local);
        self.0.insert((domid, local), port);
        Ok(ends)
    }

    /// Duplicates of the descriptors of a port that `owner` has.
    pub(super) fn ends(&self, domid: DomId, port: u32, owner: Owner) -> Result<Ends, Errno> {
        let found = self.0.get(&(domid, port));
        let found = found.filter(|found| found.owner == owner);
        ends(port, found.ok_or(Errno::NOTCONN)?)
    }

    /// `EVTCHNOP_close`, of a port that `owner` has.
    pub(super) fn close(&mut self, domid: DomId, port: u32, owner: Owner) -> Result<(), Errno> {
        let found = self.0.get(&(domid, port));
        if found.is_none_or(|found| found.owner != owner) {
            return Err(Errno::NOTCONN);
        }
        self.remove(domid, port);
        Ok(())
    }

    /// Closes everything that the connection `owner` bound.
    pub(super) fn close_owner(&mut self, owner: u64) {
        let owned = self.0.iter().filter(|(_, port)| port.owner == Some(owner));
        let owned: Vec<_> = owned.map(|(&key, _)| key).collect();
        for (domid, port) in owned {
            self.remove(domid, port);
        }
    }

    /// Closes everything that belongs to `domid`.
    pub(super) fn close_domain(&mut self, domid: DomId) {
        let owned = self.0.keys().filter(|(owner, _)| *owner == domid);
        let owned: Vec<_> = owned.copied().collect();
        for (domid, port) in owned {
            self.remove(domid, port);
        }
    }

    /// The ports of `owner`, in order.
    pub(super) fn of_owner(&self, owner: u64) -> Vec<u32> {
        let owned = self.0.iter().filter(|(_, port)| port.owner == Some(owner));
        owned.map(|(&(_, port), _)| port).collect()
    }

    /// How many ports `domid` has open.
    pub(super) fn count(&self, domid: DomId) -> usize {
        self.0.keys().filter(|(owner, _)| *owner == domid).count()
    }

    fn open(&mut self, domid: DomId, owner: Owner, peer: Peer) -> Result<Ends, Errno> {
        let local = self.free_port(domid)?;
        let flags = EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK;
        let port = Port {
            owner,
            peer,
            fired: eventfd(0, flags)?,
            signal: eventfd(0, flags)?,
        };
        let ends = ends(local, &port)?;
        self.0.insert((domid, local), port);
        Ok(ends)
    }

    fn remove(&mut self, domid: DomId, port: u32) {
        let Some(closed) = self.0.remove(&(domid, port)) else {
            return;
        };
        if let Peer::Bound(remote, remote_port) = closed.peer
            && let Some(theirs) = self.0.get_mut(&(remote, remote_port))
        {
            theirs.peer = Peer::Unbound(domid);
        }
    }

    /// The lowest free port, as Xen chooses: numbers are reused soon, so stale ones are found out.
    fn free_port(&self, domid: DomId) -> Result<u32, Errno> {
        let mut all = 1..=MAX_PORTS;
        all.find(|&port| !self.0.contains_key(&(domid, port)))
            .ok_or(Errno::NOSPC)
    }
}

fn ends(port: u32, found: &Port) -> Result<Ends, Errno> {
    let fds = vec![duplicate(&found.fired)?, duplicate(&found.signal)?];
    Ok(Ends { port, fds })
}

fn duplicate(fd: &OwnedFd) -> Result<OwnedFd, Errno> {
    rustix::io::fcntl_dupfd_cloexec(fd, 0)
}

/// Makes an eventfd readable; a full counter is readable already.
pub(super) fn signal(fd: impl AsFd) -> Result<(), Errno> {
    match rustix::io::write(fd, &1u64.to_ne_bytes()) {
        Ok(_) | Err(Errno::AGAIN) => Ok(()),
        Err(errno) => Err(errno),
    }
}
