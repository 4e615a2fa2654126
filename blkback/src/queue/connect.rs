//! From what the broker sent to a running queue.

use std::io;
use std::num::NonZeroU32;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use broker::message::Blame;
use broker::worker::Reporter;
use evtchn::{Bell, Evtchn, EvtchnError, RemotePort};
use gntdev::{Access, Gntdev, GrantError, LocalPages};
use ring_proto::blkif::{Abi, DiscardLimits, Geometry, SectorSize, UnknownAbi};
use ring_proto::{AttachError, BackRing, Sector};

use super::slot::Slots;
use super::{Queue, Work};
use crate::data::{Arena, DataPath, PAGE};
use crate::disk::Disk;
use crate::engine::{Engine, WakeSources};
use crate::metrics::Counters;
use crate::spec::{DiskSpec, MAX_INDIRECT_SEGMENTS, RingSpec, VbdSpec};

/// Everything that one queue is made of.
#[derive(Debug)]
pub struct QueueSetup {
    /// Event channels, restricted to the guest.
    pub events: Evtchn,
    /// Grants.
    pub grants: Gntdev,
    /// Where the frontend put the ring.
    pub ring: RingSpec,
    /// The disk, shared with the device's other queues.
    pub disk: Arc<Disk>,
    /// Written once when the device's queues shall end.
    pub stop: Arc<OwnedFd>,
    /// Where to report what happens while the queue runs.
    pub reporter: Reporter,
}

/// Why a queue could not be connected.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// The frontend speaks another ABI.
    #[error(transparent)]
    Abi(#[from] UnknownAbi),
    /// The number of ring pages is no ring.
    #[error("{pages} ring pages do not make a ring")]
    RingPages {
        /// How many there are.
        pages: usize,
    },
    /// The ring pages cannot be mapped.
    #[error("ring pages {refs:?}: {source}")]
    Map {
        /// The references.
        refs: Vec<u32>,
        /// Why not.
        source: GrantError,
    },
    /// The ring is in no state that a backend can join.
    #[error("the ring cannot be joined: {0}")]
    Attach(#[from] AttachError),
    /// The event channel cannot be bound.
    #[error("event channel: {0}")]
    Bind(#[from] EvtchnError),
    /// The disk's logical block size is none that guests can use.
    #[error("logical blocks of {bytes} bytes cannot be offered to a guest")]
    SectorSize {
        /// Its size.
        bytes: u32,
    },
    /// There is no memory for private pages.
    #[error("private pages: {0}")]
    Pages(GrantError),
    /// The I/O engine does not start.
    #[error("I/O engine: {0}")]
    Engine(#[from] io::Error),
}

impl ConnectError {
    /// Who has to mend it.
    #[must_use]
    pub const fn blame(&self) -> Blame {
        let guest = match self {
            Self::Abi(_) | Self::RingPages { .. } | Self::Attach(_) => true,
            Self::Map { source, .. } => source.blames_guest(),
            Self::Bind(source) => matches!(
                source,
                EvtchnError::Stale { .. } | EvtchnError::NoDomain { .. }
            ),
            Self::SectorSize { .. } | Self::Pages(_) | Self::Engine(_) => false,
        };
        if guest { Blame::Guest } else { Blame::Host }
    }
}

impl Queue {
    /// Maps the ring, binds the port and starts the engine, on the thread that will run it.
    ///
    /// # Errors
    /// [`ConnectError`]; everything that was had by then is given back.
    pub fn connect(setup: QueueSetup, spec: &VbdSpec) -> Result<Self, ConnectError> {
        let QueueSetup {
            events,
            grants,
            ring: at,
            disk,
            stop,
            reporter,
        } = setup;
        let dom = spec.dom();
        let abi = Abi::parse(spec.protocol.as_deref().map(str::as_bytes))?;
        let geometry = geometry(disk.spec(), spec.max_indirect_segments)?;
        let pages = at.refs.len();
        let shape = u32::try_from(pages)
            .ok()
            .and_then(|pages| abi.ring_shape(pages))
            .ok_or(ConnectError::RingPages { pages })?;
        let memory = grants
            .map(dom, &at.grant_refs(), Access::ReadWrite)
            .map_err(|source| ConnectError::Map {
                refs: at.refs.clone(),
                source,
            })?;
        let ring = BackRing::attach(memory, shape)?;
        let bell = Bell::bind(events, dom, &[RemotePort(at.port)])?;
        let slots = ring.slots();
        let pages = Arc::new(LocalPages::new(private_pages(slots)).map_err(ConnectError::Pages)?);
        let events_fd = bell.wait_fd();
        let sources = WakeSources {
            events: events_fd,
            stop: stop.as_fd(),
        };
        let engine = Engine::new(spec.engine, &disk, &pages, sources, slots)?;
        let persistent = spec.persistent.then(|| persistent_pages(slots));
        Ok(Self {
            engine,
            data: DataPath::new(grants, dom, Arc::clone(&pages), persistent),
            arena: Arena::new(pages),
            slots: Slots::new(slots),
            ring,
            bell,
            abi,
            geometry,
            disk,
            counters: Counters::default(),
            reporter,
            work: Work::default(),
            stopping: false,
        })
    }
}

/// The disk as requests are judged against it.
fn geometry(disk: &DiskSpec, max_indirect_segments: u16) -> Result<Geometry, ConnectError> {
    let bytes = disk.sector_size;
    let discard = disk.discard.and_then(|discard| {
        Some(DiscardLimits {
            granularity: NonZeroU32::new(discard.granularity / 512)?,
            alignment: discard.alignment / 512,
            secure: false,
        })
    });
    Ok(Geometry {
        sectors: Sector::new(disk.sectors),
        sector_size: SectorSize::new(bytes).ok_or(ConnectError::SectorSize { bytes })?,
        read_only: disk.read_only,
        discard,
        max_indirect_segments: max_indirect_segments.min(MAX_INDIRECT_SEGMENTS),
    })
}

/// Private pages for a ring of `slots`: enough for every slot to hold a direct request, and for two
/// of the longest indirect ones, whatever the ring; at most 16 MiB.
fn private_pages(slots: u32) -> usize {
    (slots as usize * DIRECT_PAGES)
        .clamp(512, MAX_PRIVATE_BYTES / PAGE)
        .next_multiple_of(64)
}

/// Pages that may stay mapped: what a Linux frontend uses on a ring of one page, and more for
/// longer rings, but never so many that one guest uses up the host's mapping handles (GNT-04).
fn persistent_pages(slots: u32) -> usize {
    (slots as usize * 33).min(4 * 1056)
}

/// Pages of a direct request, and one to make 512 of 32 slots.
const DIRECT_PAGES: usize = 16;
const MAX_PRIVATE_BYTES: usize = 16 << 20;
