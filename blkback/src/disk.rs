//! The disk behind a VBD: one open file description and what was promised about it.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicBool, Ordering};

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
    flush_failed: AtomicBool,
}

impl Disk {
    /// Takes over `file`, which the broker opened and locked according to `spec`.
    #[must_use]
    pub const fn new(file: OwnedFd, spec: DiskSpec) -> Self {
        Self {
            file,
            spec,
            flush_failed: AtomicBool::new(false),
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

    /// Notes that the storage has failed a flush; true the first time.
    ///
    /// The kernel reports a lost write once. From then on nobody knows what is on the medium, so
    /// no later flush of this disk can honestly succeed.
    pub fn note_failed_flush(&self) -> bool {
        !self.flush_failed.swap(true, Ordering::Relaxed)
    }

    /// Has a flush failed since the disk was opened?
    #[must_use]
    pub fn has_failed_flush(&self) -> bool {
        self.flush_failed.load(Ordering::Relaxed)
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
