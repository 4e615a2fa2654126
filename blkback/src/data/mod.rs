//! Moves data between the guest's pages and private ones.
//!
//! A private page is the only thing a disk operation ever touches, and the only thing a parser
//! ever reads: what the guest does to its own pages meanwhile changes nobody's mind. Pages of a
//! frontend that promised to reuse them stay mapped and are moved by `memcpy`
//! ([`PersistentGrants`]); all others are moved by `GRANT_COPY`, collected over a whole sweep of
//! the ring into one system call.

mod arena;
mod persistent;

use std::io;
use std::sync::Arc;

use gntdev::{CopyDirection, CopySegment, Gntdev, GrantStatus, LocalPages};
use ring_proto::blkif::Segment;
use ring_proto::{DomId, GrantRef};

pub use arena::{Arena, PAGE, Run};
pub use persistent::PersistentGrants;

/// A stretch of one page of the guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GuestRange {
    /// The page.
    pub gref: GrantRef,
    /// Where in the page it begins, in bytes.
    pub at: u16,
    /// Bytes, at most to the end of the page.
    pub len: u16,
}

impl From<Segment> for GuestRange {
    fn from(segment: Segment) -> Self {
        Self {
            gref: segment.gref(),
            at: segment.offset(),
            len: segment.bytes(),
        }
    }
}

/// The data path of one queue.
#[derive(Debug)]
pub struct DataPath {
    grants: Gntdev,
    dom: DomId,
    pages: Arc<LocalPages>,
    persistent: Option<PersistentGrants>,
    batch: Vec<CopySegment>,
    /// Which slot each element of the batch belongs to.
    owners: Vec<u32>,
}

impl DataPath {
    /// Moves data between `dom` and `pages`; keeps up to `persistent` pages mapped, none if the
    /// frontend did not promise to reuse them.
    #[must_use]
    pub fn new(
        grants: Gntdev,
        dom: DomId,
        pages: Arc<LocalPages>,
        persistent: Option<usize>,
    ) -> Self {
        Self {
            grants,
            dom,
            pages,
            persistent: persistent.map(PersistentGrants::new),
            batch: Vec::new(),
            owners: Vec::new(),
        }
    }

    /// A sweep over the ring begins.
    pub const fn begin_sweep(&mut self) {
        if let Some(persistent) = &mut self.persistent {
            persistent.begin_sweep();
        }
    }

    /// Moves one range for `slot`, now or with the next [`run`](Self::run).
    ///
    /// # Errors
    /// The range lies outside the private pages: a bug of ours.
    pub fn stage(
        &mut self,
        slot: u32,
        direction: CopyDirection,
        guest: GuestRange,
        local_at: usize,
    ) -> io::Result<()> {
        if let Some(persistent) = &mut self.persistent
            && let Some(page) = persistent.page(&self.grants, self.dom, guest.gref)
        {
            let (at, len) = (usize::from(guest.at), usize::from(guest.len));
            let moved = match direction {
                CopyDirection::FromGuest => page.copy_to(at, &self.pages, local_at, len),
                CopyDirection::ToGuest => page.copy_from(at, &self.pages, local_at, len),
            };
            return moved.map_err(io::Error::other);
        }
        self.batch.push(CopySegment::new(
            guest.gref, guest.at, local_at, guest.len, direction,
        ));
        self.owners.push(slot);
        Ok(())
    }

    /// Performs what was staged and not done yet; names the slot of every range that failed.
    ///
    /// # Errors
    /// The batch was not executed: the host's fault.
    pub fn run(&mut self, mut failed: impl FnMut(u32, GrantStatus)) -> io::Result<()> {
        if self.batch.is_empty() {
            return Ok(());
        }
        self.grants
            .copy(self.dom, &self.pages, &mut self.batch)
            .map_err(io::Error::other)?;
        let mut patience = EAGAIN_RETRIES;
        for (segment, slot) in self.batch.iter_mut().zip(&self.owners) {
            // The guest's page is being paged in by its toolstack; that ends soon or not at all.
            while segment.status == GrantStatus::Again && patience > 0 {
                patience -= 1;
                std::thread::sleep(EAGAIN_PAUSE);
                self.grants
                    .copy(self.dom, &self.pages, std::slice::from_mut(segment))
                    .map_err(io::Error::other)?;
            }
            if !segment.status.is_okay() {
                failed(*slot, segment.status);
            }
        }
        self.batch.clear();
        self.owners.clear();
        Ok(())
    }

    /// Pages that are mapped and stay so.
    #[must_use]
    pub fn persistent_pages(&self) -> usize {
        self.persistent.as_ref().map_or(0, PersistentGrants::len)
    }
}

/// Of a whole batch: what a guest has paged out may hold up its queue so long, not each page.
const EAGAIN_RETRIES: u32 = 8;
const EAGAIN_PAUSE: std::time::Duration = std::time::Duration::from_millis(1);
