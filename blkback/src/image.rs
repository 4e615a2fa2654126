//! The backing object of a VBD: found, opened, locked and measured by the broker.
//!
//! The path comes from a toolstack, the directory it names may be writable by somebody less
//! trusted, and what is opened goes to a guest. So a file is looked at before it is opened
//! (`O_PATH`), opened through that very look (nothing can be swapped in between), and locked on
//! the one open file description that the worker gets. The broker keeps no duplicate: the lock
//! is gone exactly when the worker's last operation on the file has ended.

mod lock;
mod look;
mod names;
mod open;
mod refusal;
mod shape;
mod sys;
#[cfg(test)]
mod tests;

use std::os::fd::OwnedFd;
use std::path::PathBuf;

pub use self::open::{identify, inspect, open};
pub use self::refusal::Refusal;

use broker::acl::Acl;
use broker::glob::Glob;

use crate::spec::DiscardSpec;

/// A toolstack's wish.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// The file or block device.
    pub path: PathBuf,
    /// `physical-device` named this device number: the path must be it.
    pub device_number: Option<DeviceNumber>,
    /// What the guest may do, and who else may at the same time.
    pub access: Access,
    /// `discard-enable` is not 0.
    pub discard: bool,
}

/// Major and minor number of a block device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeviceNumber {
    /// The driver.
    pub major: u32,
    /// The device.
    pub minor: u32,
}

/// Who may do what with an image at one time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// `r`: read only, any number of readers.
    ReadOnly,
    /// `w`: read and write, nobody else.
    Exclusive,
    /// `w!`: read and write, together with other `w!` and with readers. The guests' cluster file
    /// system keeps the order.
    Shared,
}

/// Which device holds the image, for its own lock byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Owner {
    /// The guest.
    pub domid: u16,
    /// The virtual device number.
    pub vdev: u32,
}

/// What an administrator allows.
#[derive(Clone, Debug, Default)]
pub struct Policy {
    /// Patterns one of which a path must match; empty allows every regular file and block device.
    pub images: Vec<Glob>,
    /// Which guest may have which image.
    pub acl: Acl,
    /// Images that several guests may write at once although xl can only say `w`.
    pub shared: Vec<Glob>,
    /// How to open.
    pub direct: Direct,
}

/// Whether the page cache of the host is bypassed (`O_DIRECT`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Direct {
    /// Where the file system can.
    #[default]
    Auto,
    /// Always: refuse an image where it cannot.
    Require,
    /// Never.
    Off,
}

/// An image that is open for one device.
///
/// Having one tells you that the path was allowed to its guest, names a regular file or a block device, and
/// that `file` holds the lock that [`Access`] asks for.
#[derive(Debug)]
pub struct Image {
    /// The only reference to the locked open file description.
    pub file: OwnedFd,
    /// Where it was found.
    pub path: PathBuf,
    /// Its measures.
    pub shape: Shape,
    /// Why the host's page cache is used although it was not asked for.
    pub buffered_because: Option<String>,
}

/// The measures of an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// Size in 512-byte sectors; a multiple of the logical block size, not zero.
    pub sectors: u64,
    /// Logical block size in bytes: 512 or 4096.
    pub sector_size: u32,
    /// Physical block size in bytes, a hint; a power of two, at least `sector_size`.
    pub physical_sector_size: u32,
    /// A block device, not a regular file.
    pub block_device: bool,
    /// Discards are wanted and work.
    pub discard: Option<DiscardSpec>,
}
