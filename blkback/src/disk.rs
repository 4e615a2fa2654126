//! The disk behind a VBD: one open file description and what was promised about it.

mod flushes;

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::sync::Arc;

pub use self::flushes::{Flush, Flushes, Verdict};

use crate::spec::DiskSpec;

/// An open image or block device, shared by the queues of one VBD.
///
/// Having one tells you that this process holds the only reference to the open file description,
/// and with it the lock that keeps others (and this worker's successor) away until the last
/// operation on it has ended.
#[derive(Debug)]
pub struct Disk {
    file: OwnedFd,
    spec: DiskSpec,
    flushes: Arc<Flushes>,
}

impl Disk {
    /// Takes over `file`, which the broker opened and locked according to `spec`.
    #[must_use]
    pub fn new(file: OwnedFd, spec: DiskSpec) -> Self {
        Self {
            file,
            spec,
            flushes: Arc::default(),
        }
    }

    /// What the guest was told.
    #[must_use]
    pub const fn spec(&self) -> &DiskSpec {
        &self.spec
    }

    /// A block device, as opposed to a regular file.
    #[must_use]
    pub const fn is_block_device(&self) -> bool {
        self.spec.block_device
    }

    /// The flushes of all queues.
    #[must_use]
    pub const fn flushes(&self) -> &Arc<Flushes> {
        &self.flushes
    }

    /// Has a flush failed since the disk was opened?
    #[must_use]
    pub fn has_failed_flush(&self) -> bool {
        self.flushes.have_lost()
    }
}

impl AsFd for Disk {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

impl AsRawFd for Disk {
    fn as_raw_fd(&self) -> RawFd {
        self.file.as_raw_fd()
    }
}
