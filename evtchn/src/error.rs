//! What can go wrong with an event channel, by whose doing.

use std::path::PathBuf;

use ring_proto::DomId;
use rustix::io::Errno;

use crate::{LocalPort, RemotePort};

/// Why an event-channel operation failed.
///
/// [`Stale`](Self::Stale) and [`NoDomain`](Self::NoDomain) are the guest's (or the toolstack's)
/// doing and end that device's connection; everything else is this host's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EvtchnError {
    /// The device, or the simulated hypervisor's socket, could not be opened.
    #[error("cannot open {path}: {errno}; is this a Xen domain with the xen-evtchn module loaded?", path = path.display())]
    Open {
        /// What was opened.
        path: PathBuf,
        /// The system's reason.
        errno: Errno,
    },
    /// The guest's port is closed, already bound, or meant for another domain (`EINVAL`). A frontend
    /// that reconnected has published a new one: read `event-channel` again.
    #[error("port {port} of domain {domid} cannot be bound: closed, taken, or not meant for us")]
    Stale {
        /// The domain that owns the port.
        domid: DomId,
        /// The port that was tried.
        port: RemotePort,
    },
    /// There is no such domain, or no more (`ESRCH`).
    #[error("domain {domid} does not exist")]
    NoDomain {
        /// The domain that was named.
        domid: DomId,
    },
    /// The handle is restricted to another domain, or Xen's policy forbids it (`EACCES`, `EPERM`).
    #[error("{operation} denied: the event-channel handle is restricted")]
    Denied {
        /// The operation that was refused.
        operation: &'static str,
    },
    /// The local port is not bound to this handle (`ENOTCONN`).
    #[error("local port {port} is not bound to this handle")]
    NotBound {
        /// The port that was named.
        port: LocalPort,
    },
    /// The kernel's ring of fired ports overflowed (`EFBIG`), and has been reset. Any port may have
    /// lost an event and stays masked: look at every ring, and unmask every port.
    #[error("event-channel ring overflowed and was reset; every port may have lost an event")]
    Overflow,
    /// This domain has no free event channel (`ENOSPC`).
    #[error("no free event channel in this domain")]
    NoSpace,
    /// The simulated hypervisor hung up, or did not answer in time.
    #[error("the hypervisor connection is lost")]
    Lost,
    /// Anything else that the system said no to.
    #[error("{operation} failed: {errno}")]
    Os {
        /// The operation that was tried.
        operation: &'static str,
        /// The system's reason.
        errno: Errno,
    },
}

impl EvtchnError {
    /// What `errno` means when it answers `operation`, where no domain or port is involved.
    pub(crate) fn of(operation: &'static str, errno: Errno) -> Self {
        match errno {
            Errno::ACCESS | Errno::PERM => Self::Denied { operation },
            Errno::NOSPC => Self::NoSpace,
            _ => Self::Os { operation, errno },
        }
    }

    /// What `errno` means when it answers a bind to `port` of `domid`.
    pub(crate) fn of_bind(domid: DomId, port: RemotePort, errno: Errno) -> Self {
        match errno {
            Errno::INVAL => Self::Stale { domid, port },
            Errno::SRCH => Self::NoDomain { domid },
            _ => Self::of("bind", errno),
        }
    }

    /// What `errno` means when it answers an operation on the bound port `port`.
    pub(crate) fn of_port(operation: &'static str, port: LocalPort, errno: Errno) -> Self {
        match errno {
            Errno::NOTCONN | Errno::INVAL => Self::NotBound { port },
            _ => Self::of(operation, errno),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_error_says_what_and_where() {
        let domid = DomId::new(7);
        let table = [
            (
                EvtchnError::of_bind(domid, RemotePort(9), Errno::INVAL),
                "port 9 of domain 7 cannot be bound: closed, taken, or not meant for us",
            ),
            (
                EvtchnError::of_bind(domid, RemotePort(9), Errno::SRCH),
                "domain 7 does not exist",
            ),
            (
                EvtchnError::of_bind(domid, RemotePort(9), Errno::ACCESS),
                "bind denied: the event-channel handle is restricted",
            ),
            (
                EvtchnError::of_port("notify", LocalPort::new(4), Errno::NOTCONN),
                "local port 4 is not bound to this handle",
            ),
            (
                EvtchnError::of("bind_unbound", Errno::NOSPC),
                "no free event channel in this domain",
            ),
        ];
        for (error, text) in table {
            assert_eq!(error.to_string(), text);
        }
        let open = EvtchnError::Open {
            path: "/dev/xen/evtchn".into(),
            errno: Errno::NOENT,
        };
        assert!(open.to_string().contains("/dev/xen/evtchn"));
        assert!(open.to_string().contains("xen-evtchn module"));
    }
}
