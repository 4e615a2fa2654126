//! What the broker tells a worker about one VBD.
//!
//! The broker has read and checked everything that came from xenstore and has opened every
//! file; the worker receives this and the open descriptors, and never looks anything up itself.
//! Descriptors travel beside the message in this order: the image, then for each ring its event
//! channel device and its grant device.

use ring_proto::{DomId, GrantRef};
use serde::{Deserialize, Serialize};

/// One VBD, ready to be connected.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VbdSpec {
    /// The guest.
    pub domid: u16,
    /// The virtual device number, which is also the directory name in xenstore (51712 = `xvda`).
    pub vdev: u32,
    /// The frontend's `protocol` key, verbatim; absent means what Linux makes of its absence.
    pub protocol: Option<String>,
    /// Both sides said `feature-persistent`.
    pub persistent: bool,
    /// The most segments an indirect request may carry, as advertised; 0 = not advertised.
    pub max_indirect_segments: u16,
    /// The disk behind the device.
    pub disk: DiskSpec,
    /// Which I/O engine to run.
    pub engine: EngineChoice,
    /// One entry per queue.
    pub rings: Vec<RingSpec>,
}

/// The shape of the disk, as advertised to the guest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DiskSpec {
    /// Size in 512-byte sectors.
    pub sectors: u64,
    /// Logical block size in bytes: 512 or 4096.
    pub sector_size: u32,
    /// Writes, flushes with data and discards are refused.
    pub read_only: bool,
    /// A block device (discards are `BLKDISCARD`), not a regular file (holes are punched).
    pub block_device: bool,
    /// Discard parameters when `feature-discard` was advertised.
    pub discard: Option<DiscardSpec>,
    /// `feature-flush-cache` was advertised.
    pub flush: bool,
}

/// The advertised discard parameters, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DiscardSpec {
    /// `discard-granularity`: a discard is rounded inwards to multiples of it.
    pub granularity: u32,
    /// `discard-alignment`: where the first granule begins.
    pub alignment: u32,
}

/// Where the frontend put one ring.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RingSpec {
    /// Grant references of the ring pages, 1 to 16, a power of two.
    pub refs: Vec<u32>,
    /// The frontend's unbound event channel port.
    pub port: u32,
}

/// Which engine carries I/O to the disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EngineChoice {
    /// `io_uring` when the kernel has it, threads otherwise.
    #[default]
    Auto,
    /// `io_uring`, or refuse to connect.
    IoUring,
    /// A pool of threads with plain `pread`/`pwrite`.
    Threads,
}

/// The most segments that an indirect request may ever be allowed: what Linux's backend offers.
pub const MAX_INDIRECT_SEGMENTS: u16 = 256;

impl VbdSpec {
    /// The guest as an id.
    #[must_use]
    pub const fn dom(&self) -> DomId {
        DomId::new(self.domid)
    }
}

impl RingSpec {
    /// The ring pages' grant references.
    #[must_use]
    pub fn grant_refs(&self) -> Vec<GrantRef> {
        self.refs.iter().copied().map(GrantRef::new).collect()
    }
}
