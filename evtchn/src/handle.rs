//! [`Evtchn`]: event channels of whichever hypervisor is there.

use std::os::fd::{BorrowedFd, OwnedFd};
#[cfg(feature = "sim")]
use std::path::Path;

use ring_proto::DomId;

use crate::device::Device;
#[cfg(feature = "sim")]
use crate::sim::SimEvtchn;
use crate::{EvtchnError, Kind, LocalPort, RemotePort};

/// A set of event channels that one thread waits for.
///
/// Having one tells that the hypervisor is there; it holds no port until [`bind`](Self::bind). The
/// ports belong to the open file: they close when its last descriptor does, wherever that is.
/// One handle per ring thread makes demultiplexing trivial and needs no lock.
#[derive(Debug)]
pub struct Evtchn(Backing);

#[derive(Debug)]
enum Backing {
    Xen(Device),
    #[cfg(feature = "sim")]
    Sim(SimEvtchn),
}

/// Calls the same method of whichever backing there is.
macro_rules! either {
    ($self:expr, $backing:ident => $call:expr) => {
        match $self {
            Backing::Xen($backing) => $call,
            #[cfg(feature = "sim")]
            Backing::Sim($backing) => $call,
        }
    };
}

impl Evtchn {
    /// Opens `/dev/xen/evtchn`, non-blocking and close-on-exec.
    ///
    /// # Errors
    /// [`EvtchnError::Open`]: no Xen, no module, or no permission.
    pub fn open() -> Result<Self, EvtchnError> {
        Device::open().map(|device| Self(Backing::Xen(device)))
    }

    /// Connects to the simulated hypervisor that serves `dir`.
    ///
    /// # Errors
    /// [`EvtchnError::Open`]: nothing listens there.
    #[cfg(feature = "sim")]
    pub fn open_sim(dir: &Path) -> Result<Self, EvtchnError> {
        SimEvtchn::connect(dir).map(|sim| Self(Backing::Sim(sim)))
    }

    /// Takes over a descriptor that [`into_fd`](Self::into_fd) gave away, in this or another process.
    /// Ports that were bound through it are still bound.
    ///
    /// # Errors
    /// [`EvtchnError::Os`] or [`EvtchnError::Lost`]: the descriptor is not what `kind` says.
    pub fn adopt(kind: Kind, fd: OwnedFd) -> Result<Self, EvtchnError> {
        match kind {
            Kind::Xen => Device::adopt(fd).map(|device| Self(Backing::Xen(device))),
            #[cfg(feature = "sim")]
            Kind::Sim => SimEvtchn::adopt(fd).map(|sim| Self(Backing::Sim(sim))),
        }
    }

    /// Gives the descriptor away, for instance to a worker. Bound ports stay bound.
    #[must_use]
    pub fn into_fd(self) -> OwnedFd {
        either!(self.0, backing => backing.into_fd())
    }

    /// Which hypervisor this handle speaks to, for whoever [adopts](Self::adopt) its descriptor.
    #[must_use]
    pub fn kind(&self) -> Kind {
        match self.0 {
            Backing::Xen(_) => Kind::Xen,
            #[cfg(feature = "sim")]
            Backing::Sim(_) => Kind::Sim,
        }
    }

    /// Limits the handle to binding ports of `domid`, for good and for whoever gets the descriptor
    /// (`EVTCHN_RESTRICT_DOMID`). Ports of other domains, new unbound ports and virtual interrupts are
    /// then refused. Domain 0 is no valid restriction.
    ///
    /// # Errors
    /// [`EvtchnError::Denied`] if it is restricted already; [`EvtchnError::Os`] for a domid that
    /// cannot be a guest's.
    pub fn restrict(&self, domid: DomId) -> Result<(), EvtchnError> {
        either!(&self.0, backing => backing.restrict(domid))
    }

    /// Binds the port that `domid` allocated for this domain. The new local port is unmasked, and
    /// pending at once, so an event sent before the bind is never lost.
    ///
    /// # Errors
    /// [`EvtchnError::Stale`], [`EvtchnError::NoDomain`]: the guest's doing.
    /// [`EvtchnError::Denied`], [`EvtchnError::NoSpace`]: this host's.
    pub fn bind(&mut self, domid: DomId, port: RemotePort) -> Result<LocalPort, EvtchnError> {
        either!(&mut self.0, backing => backing.bind(domid, port))
    }

    /// Allocates a port of this domain that `remote` may bind: what a frontend does.
    ///
    /// # Errors
    /// [`EvtchnError::Denied`] on a restricted handle, [`EvtchnError::NoSpace`].
    pub fn bind_unbound(&mut self, remote: DomId) -> Result<LocalPort, EvtchnError> {
        either!(&mut self.0, backing => backing.bind_unbound(remote))
    }

    /// Binds the virtual interrupt `virq` (`VIRQ_*` of `xen.h`).
    ///
    /// # Errors
    /// [`EvtchnError::Denied`] on a restricted handle; [`EvtchnError::Os`] otherwise.
    pub fn bind_virq(&mut self, virq: u32) -> Result<LocalPort, EvtchnError> {
        either!(&mut self.0, backing => backing.bind_virq(virq))
    }

    /// Closes `port`. The guest's end becomes bindable again.
    ///
    /// # Errors
    /// [`EvtchnError::NotBound`]: it was not bound to this handle.
    pub fn unbind(&mut self, port: LocalPort) -> Result<(), EvtchnError> {
        either!(&mut self.0, backing => backing.unbind(port))
    }

    /// Signals the other end of `port`. Nobody there is not an error.
    ///
    /// # Errors
    /// [`EvtchnError::NotBound`]: it is not bound to this handle.
    pub fn notify(&self, port: LocalPort) -> Result<(), EvtchnError> {
        either!(&self.0, backing => backing.notify(port))
    }

    /// Takes the ports that fired, without sleeping: how many were put into `out`. Each is masked
    /// until [`unmask`](Self::unmask), and latches further events meanwhile. At most 64 per call;
    /// [`wait_fd`](Self::wait_fd) stays readable while there are more.
    ///
    /// # Errors
    /// [`EvtchnError::Overflow`]: treat every bound port as fired and unmask them all.
    pub fn pending(&mut self, out: &mut [LocalPort]) -> Result<usize, EvtchnError> {
        either!(&mut self.0, backing => backing.pending(out))
    }

    /// Lets `ports` fire again; one that latched an event does so at once. A port that is not masked
    /// stays as it is. Unmask, look at the ring a last time, then sleep.
    ///
    /// # Errors
    /// [`EvtchnError::Os`]: the handle is broken.
    pub fn unmask(&self, ports: &[LocalPort]) -> Result<(), EvtchnError> {
        either!(&self.0, backing => backing.unmask(ports))
    }

    /// Readable (`POLLIN`, by poll(2) or io_uring's `POLL_ADD`) while [`pending`](Self::pending) has
    /// something to say. Do not read from it.
    #[must_use]
    pub fn wait_fd(&self) -> BorrowedFd<'_> {
        either!(&self.0, backing => backing.wait_fd())
    }
}
