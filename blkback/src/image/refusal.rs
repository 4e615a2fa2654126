//! Why an image is not opened, in words an administrator can act on.

use std::io;
use std::path::PathBuf;

/// An image that no guest gets. The text ends in what to do about it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// Neither `params` nor the hotplug script named anything.
    #[error("the disk has no image: set `target=` (or `script=`) in the disk line")]
    Unnamed,
    /// Relative, too long, or with components that hide where it leads.
    #[error("image path {path:?} {fault}: give the plain absolute path")]
    Path {
        /// As the toolstack wrote it.
        path: PathBuf,
        /// What is wrong with it.
        fault: &'static str,
    },
    /// The configuration's allow-list does not have it.
    #[error(
        "image {path:?} is matched by no pattern of `images` in the configuration: add one, or move the image"
    )]
    NotAllowed {
        /// The path.
        path: PathBuf,
    },
    /// The configuration's rules give it to this guest not at all, or not for writing.
    #[error(transparent)]
    Denied(#[from] broker::acl::Denied),
    /// There is no such file.
    #[error("image {path:?} does not exist: create it, or correct the disk line")]
    Missing {
        /// The path.
        path: PathBuf,
    },
    /// A symbolic link on the way; only links below /dev to block devices are followed.
    #[error(
        "image {path:?} leads through a symbolic link, which its directory's owner could turn elsewhere: name {real:?}"
    )]
    Symlink {
        /// The path.
        path: PathBuf,
        /// Where it leads now.
        real: PathBuf,
    },
    /// Neither a regular file nor a block device.
    #[error("image {path:?} is {kind}: a disk is a regular file or a block device")]
    Kind {
        /// The path.
        path: PathBuf,
        /// What it is.
        kind: &'static str,
    },
    /// A file that the kernel makes up.
    #[error("image {path:?} is on {file_system}, whose files are not storage")]
    NotStorage {
        /// The path.
        path: PathBuf,
        /// The file system.
        file_system: &'static str,
    },
    /// Another name may make it another guest's image.
    #[error(
        "image {path:?} has {links} names (hard links), so that it may be another guest's disk: copy it (cp --reflink=auto) or remove the other names"
    )]
    HardLinks {
        /// The path.
        path: PathBuf,
        /// How many names.
        links: u32,
    },
    /// `physical-device` and `physical-device-path` disagree.
    #[error(
        "{path:?} is block device {found}, but the hotplug script named {named}: attach the disk again"
    )]
    OtherDevice {
        /// The path.
        path: PathBuf,
        /// Its device number.
        found: String,
        /// What `physical-device` says.
        named: String,
    },
    /// `physical-device` names a device that the kernel does not have.
    #[error("there is no block device {number}: attach the disk again")]
    NoDevice {
        /// Major:minor.
        number: String,
    },
    /// Locked or claimed by somebody else. May pass: a device that is just going away holds its
    /// lock until its last write has landed.
    #[error(
        "image {path:?} is in use {how}: detach it there, or attach it read-only (access=ro) everywhere"
    )]
    Busy {
        /// The path.
        path: PathBuf,
        /// By what, as far as can be told.
        how: &'static str,
    },
    /// Not writable, and the guest wants to write.
    #[error("image {path:?} cannot be written: attach it with access=ro, or make it writable")]
    ReadOnly {
        /// The path.
        path: PathBuf,
        /// The kernel's word.
        error: io::Error,
    },
    /// No bytes.
    #[error("image {path:?} is empty: give it a size (truncate -s 10G {path:?})")]
    Empty {
        /// The path.
        path: PathBuf,
    },
    /// The last block is not whole: probably a truncated copy.
    #[error(
        "image {path:?} has {size} bytes, not a multiple of its {sector_size}-byte blocks: copy it again if it was cut short, or extend it (truncate -s %{sector_size} {path:?})"
    )]
    Ragged {
        /// The path.
        path: PathBuf,
        /// Bytes.
        size: u64,
        /// Block size in bytes.
        sector_size: u32,
    },
    /// A block size that guests cannot be told.
    #[error(
        "block device {path:?} has {sector_size}-byte logical blocks: a guest can be given 512 or 4096"
    )]
    SectorSize {
        /// The path.
        path: PathBuf,
        /// Bytes.
        sector_size: u32,
    },
    /// `direct-io = "require"` and the file system has none.
    #[error(
        "image {path:?} cannot be used with direct I/O ({why}): move it, or set direct-io = \"auto\""
    )]
    NotDirect {
        /// The path.
        path: PathBuf,
        /// Why not.
        why: String,
    },
    /// The file system has no locks.
    #[error(
        "image {path:?} cannot be locked: its file system has no file locks, which keep two guests off one disk"
    )]
    NoLocks {
        /// The path.
        path: PathBuf,
        /// The kernel's word.
        error: io::Error,
    },
    /// Anything else the kernel says.
    #[error("image {path:?}: {doing} failed: {error}")]
    System {
        /// The path.
        path: PathBuf,
        /// What was tried.
        doing: &'static str,
        /// The kernel's word.
        error: io::Error,
    },
}

impl Refusal {
    /// May trying again in a moment help, without anybody mending anything?
    #[must_use]
    pub const fn may_pass(&self) -> bool {
        matches!(self, Self::Busy { .. })
    }
}
