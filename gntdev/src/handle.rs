//! [`Gntdev`]: grants of whichever hypervisor is there.

use std::os::fd::OwnedFd;
#[cfg(feature = "sim")]
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use ring_proto::{DomId, GrantRef};

use crate::device::Device;
#[cfg(feature = "sim")]
use crate::sim::SimGntdev;
use crate::{Access, CopySegment, GrantError, GrantStatus, LocalPages, Mapping};

/// Which hypervisor a file descriptor that was handed to this process speaks to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// An open `/dev/xen/gntdev`.
    Xen,
    /// A connection to the simulated hypervisor.
    #[cfg(feature = "sim")]
    Sim,
}

/// Access to the pages that guests grant to this domain.
///
/// Having one tells that the hypervisor is there. It reaches the grants of *every* guest: Linux has
/// no way to restrict it to one, so the domain id of each call must never come from a guest. Usable
/// from several threads; one per ring keeps the kernel's linear list of registrations short.
#[derive(Debug)]
pub struct Gntdev(Arc<Shared>);

/// What a handle and its mappings have in common.
#[derive(Debug)]
pub(crate) struct Shared {
    backing: Backing,
    pub(crate) failed_unmaps: AtomicU64,
}

#[derive(Debug)]
enum Backing {
    Xen(Device),
    #[cfg(feature = "sim")]
    Sim(SimGntdev),
}

/// Calls the same method of whichever backing there is.
macro_rules! either {
    ($backings:expr, $backing:ident => $call:expr) => {
        match $backings {
            Backing::Xen($backing) => $call,
            #[cfg(feature = "sim")]
            Backing::Sim($backing) => $call,
        }
    };
}

impl Gntdev {
    /// Opens `/dev/xen/gntdev`, close-on-exec.
    ///
    /// # Errors
    /// [`GrantError::Open`]: no Xen, no module, or no permission.
    pub fn open() -> Result<Self, GrantError> {
        Device::open().map(|device| Self::over(Backing::Xen(device)))
    }

    /// Connects to the simulated hypervisor that serves `dir`.
    ///
    /// # Errors
    /// [`GrantError::Open`]: nothing listens there.
    #[cfg(feature = "sim")]
    pub fn open_sim(dir: &Path) -> Result<Self, GrantError> {
        SimGntdev::connect(dir).map(|sim| Self::over(Backing::Sim(sim)))
    }

    /// Takes over a descriptor that [`into_fd`](Self::into_fd) gave away, in this or another process.
    /// (Before Linux 5.5 a PV dom0 tied an open gntdev to the process that opened it.)
    ///
    /// # Errors
    /// [`GrantError::Os`]: the descriptor is not what `kind` says.
    pub fn adopt(kind: Kind, fd: OwnedFd) -> Result<Self, GrantError> {
        match kind {
            Kind::Xen => Ok(Self::over(Backing::Xen(Device::adopt(fd)))),
            #[cfg(feature = "sim")]
            Kind::Sim => SimGntdev::adopt(fd).map(|sim| Self::over(Backing::Sim(sim))),
        }
    }

    /// Gives the descriptor away, for instance to a worker.
    ///
    /// # Errors
    /// [`GrantError::StillMapped`]: a [`Mapping`] made through it is alive.
    pub fn into_fd(self) -> Result<OwnedFd, GrantError> {
        let shared = Arc::into_inner(self.0).ok_or(GrantError::StillMapped)?;
        match shared.backing {
            Backing::Xen(device) => Ok(device.into_fd()),
            #[cfg(feature = "sim")]
            Backing::Sim(sim) => sim.into_fd(),
        }
    }

    /// Which hypervisor this handle speaks to, for whoever [adopts](Self::adopt) its descriptor.
    #[must_use]
    pub fn kind(&self) -> Kind {
        match self.0.backing {
            Backing::Xen(_) => Kind::Xen,
            #[cfg(feature = "sim")]
            Backing::Sim(_) => Kind::Sim,
        }
    }

    /// Maps the pages `grefs` of `domid` side by side: all of them, or on any error none.
    ///
    /// # Errors
    /// [`GrantError::MapRefused`]: the guest's doing. Anything else is this host's.
    pub fn map(
        &self,
        domid: DomId,
        grefs: &[GrantRef],
        access: Access,
    ) -> Result<Mapping, GrantError> {
        if grefs.is_empty() {
            return Err(GrantError::BadCount { pages: 0 });
        }
        let (span, token) = either!(&self.0.backing, backing => backing.map(domid, grefs, access))?;
        Ok(Mapping::new(Arc::clone(&self.0), span, token))
    }

    /// Copies every segment between `domid`'s pages and `pages`. `Ok` tells that all were tried:
    /// each segment's `status` says how it went, independently of its neighbours. A segment that
    /// leaves the guest's page has [`GrantStatus::BadCopyArg`]; one of no bytes is okay whatever its
    /// reference.
    ///
    /// # Errors
    /// [`GrantError::OutOfRange`]: a segment lies outside of `pages`; nothing was copied.
    /// [`GrantError::Os`], [`GrantError::Lost`]: the host's doing; no status is okay unless that
    /// segment was copied.
    pub fn copy(
        &self,
        domid: DomId,
        pages: &LocalPages,
        segments: &mut [CopySegment],
    ) -> Result<(), GrantError> {
        for segment in &mut *segments {
            segment.status = if segment.crosses_page() {
                GrantStatus::BadCopyArg
            } else {
                GrantStatus::GeneralError
            };
        }
        for segment in &*segments {
            pages.as_ptr(segment.local_at, usize::from(segment.len))?;
        }
        either!(&self.0.backing, backing => backing.copy(domid, pages, segments))
    }

    /// How many mappings were dropped whose unmapping failed: grants that a guest may see in use
    /// until this process ends. Anything but 0 is a fault of this host worth a log line.
    #[must_use]
    pub fn failed_unmaps(&self) -> u64 {
        self.0.failed_unmaps.load(Ordering::Relaxed)
    }

    fn over(backing: Backing) -> Self {
        Self(Arc::new(Shared {
            backing,
            failed_unmaps: AtomicU64::new(0),
        }))
    }
}

impl Shared {
    /// Ends the registration `token`, whose memory is gone.
    pub(crate) fn unmap(&self, token: u64, pages: usize) -> Result<(), GrantError> {
        either!(&self.backing, backing => backing.unmap(token, pages))
    }
}
