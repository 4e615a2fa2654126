//! Why a whole grant call failed, by whose doing.

use std::path::PathBuf;

use ring_proto::DomId;
use rustix::io::Errno;

use crate::GrantStatus;

/// Why grants could not be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum GrantError {
    /// The device, or the simulated hypervisor's socket, could not be opened.
    #[error("cannot open {path}: {errno}; is this a Xen domain with the xen-gntdev module loaded?", path = path.display())]
    Open {
        /// What was opened.
        path: PathBuf,
        /// The system's reason.
        errno: Errno,
    },
    /// The hypervisor refused at least one of the pages, and none is mapped. Linux tells neither
    /// which nor why (`gntdev_map_grant_pages` answers `EINVAL` for every status), so a full
    /// maptrack table on this host looks the same as a bad reference.
    #[error("{pages} page(s) of domain {domid} cannot be mapped{}", reason(*status))]
    MapRefused {
        /// The granting domain.
        domid: DomId,
        /// How many pages were asked for.
        pages: usize,
        /// The hypervisor's reason, where it is known.
        status: Option<GrantStatus>,
    },
    /// No pages, or more than one call can map.
    #[error("{pages} pages cannot be mapped in one call")]
    BadCount {
        /// How many were asked for.
        pages: usize,
    },
    /// A range lies outside the memory that it names: a mistake in this program.
    #[error("{len} bytes at {at} are outside of {size} bytes")]
    OutOfRange {
        /// Offset in bytes.
        at: usize,
        /// Length in bytes.
        len: usize,
        /// Size of the memory in bytes.
        size: usize,
    },
    /// Writing to pages that were mapped read-only: a mistake in this program.
    #[error("the mapping is read-only")]
    ReadOnly,
    /// The handle cannot be given away while pages are mapped through it.
    #[error("pages are still mapped through this handle")]
    StillMapped,
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

impl GrantError {
    /// Whether the guest can cause this at will, so that only its own device may suffer.
    #[must_use]
    pub const fn blames_guest(&self) -> bool {
        matches!(self, Self::MapRefused { .. })
    }

    pub(crate) const fn os(operation: &'static str, errno: Errno) -> Self {
        Self::Os { operation, errno }
    }
}

fn reason(status: Option<GrantStatus>) -> String {
    status.map_or(String::new(), |status| format!(": {status}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_error_says_what_and_where() {
        let refused = |status| GrantError::MapRefused {
            domid: DomId::new(7),
            pages: 3,
            status,
        };
        let table = [
            (refused(None), "3 page(s) of domain 7 cannot be mapped"),
            (
                refused(Some(GrantStatus::BadGrantRef)),
                "3 page(s) of domain 7 cannot be mapped: no such grant reference (-3)",
            ),
            (
                GrantError::OutOfRange {
                    at: 4090,
                    len: 8,
                    size: 4096,
                },
                "8 bytes at 4090 are outside of 4096 bytes",
            ),
            (
                GrantError::BadCount { pages: 0 },
                "0 pages cannot be mapped in one call",
            ),
        ];
        for (error, text) in table {
            assert_eq!(error.to_string(), text);
        }
        assert!(refused(None).blames_guest());
        assert!(!GrantError::ReadOnly.blames_guest());
    }
}
