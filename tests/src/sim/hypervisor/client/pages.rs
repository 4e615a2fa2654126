//! Pages of a guest's memory.

use std::sync::Arc;
use std::sync::atomic::AtomicU32;

use gntdev::{Access, PAGE_SIZE};
use ring_proto::{GrantRef, RingMemory};

use super::{GuestDomain, SimError};

/// Pages that lie side by side, freed when dropped. End their grants before.
#[derive(Debug)]
pub struct GuestPages {
    domain: Arc<GuestDomain>,
    first: u32,
    count: u32,
}

impl GuestPages {
    pub(super) const fn new(domain: Arc<GuestDomain>, first: u32, count: u32) -> Self {
        Self {
            domain,
            first,
            count,
        }
    }

    /// How many.
    #[must_use]
    pub const fn pages(&self) -> u32 {
        self.count
    }

    /// The guest that they belong to.
    #[must_use]
    pub const fn domain(&self) -> &Arc<GuestDomain> {
        &self.domain
    }

    /// The frame number of page `page`, counted from 0.
    #[must_use]
    pub const fn frame(&self, page: u32) -> u32 {
        self.first + page
    }

    /// Grants every page to domain 0, in order.
    ///
    /// # Errors
    /// [`SimError::Exhausted`].
    pub fn grant_all(&self, access: Access) -> Result<Vec<GrantRef>, SimError> {
        let pages = 0..self.count;
        pages
            .map(|page| self.domain.grant(self.frame(page), access))
            .collect()
    }

    /// Copies out from `at` on; whether that lies inside.
    #[must_use]
    pub fn read(&self, at: usize, into: &mut [u8]) -> bool {
        let at = self.inside(at, into.len());
        at.and_then(|at| self.domain.memory.read(at, into))
            .is_some()
    }

    /// Copies in from `at` on; whether that lies inside.
    #[must_use]
    pub fn write(&self, at: usize, from: &[u8]) -> bool {
        let at = self.inside(at, from.len());
        at.and_then(|at| self.domain.memory.write(at, from))
            .is_some()
    }

    /// The offset in the guest's memory of the `len` bytes from `at` on.
    fn inside(&self, at: usize, len: usize) -> Option<usize> {
        let end = at.checked_add(len)?;
        let first = self.first as usize * PAGE_SIZE;
        (end <= self.count as usize * PAGE_SIZE).then_some(first + at)
    }
}

impl RingMemory for GuestPages {
    fn words(&self) -> &[AtomicU32] {
        const WORDS: usize = PAGE_SIZE / 4;
        let first = self.first as usize * WORDS;
        let words = self.domain.memory.words();
        words
            .get(first..first + self.count as usize * WORDS)
            .unwrap_or_default()
    }
}

impl Drop for GuestPages {
    fn drop(&mut self) {
        self.domain.release(self.first, self.count);
    }
}
