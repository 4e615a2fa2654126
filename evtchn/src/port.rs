//! Port numbers: the guest's, and ours.

use std::fmt;

/// A port in the *other* domain, as a frontend publishes it in `event-channel`.
///
/// It is a guest's allegation; only binding it tells whether it exists and is meant for us.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RemotePort(pub u32);

impl fmt::Display for RemotePort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A port of this domain, bound to the handle that returned it.
///
/// It names the port only: it does not keep it bound. Numbers are reused by Xen after
/// [`Evtchn::unbind`](crate::Evtchn::unbind), so forget it then.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LocalPort(u32);

impl LocalPort {
    pub(crate) const fn new(raw: u32) -> Self {
        Self(raw)
    }

    /// The number, for logs and for finding `/proc/irq/*/evtchn:*`.
    #[must_use]
    pub const fn raw(self) -> u32 {
        self.0
    }
}

impl fmt::Display for LocalPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Which hypervisor a file descriptor that was handed to this process speaks to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// An open `/dev/xen/evtchn`.
    Xen,
    /// A connection to the simulated hypervisor.
    #[cfg(feature = "sim")]
    Sim,
}
