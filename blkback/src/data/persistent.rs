//! Grants that stay mapped, so that moving a page costs a `memcpy` and no hypercall.
//!
//! The frontend promises to reuse a pool of pages; each is mapped when it is first seen, read-write
//! whatever it is used for first, since the next request may use it the other way round. The pool
//! is the guest's word only: beyond the cap a page is not mapped but copied, and a page that went
//! cold makes room (GNT-03). Nothing of the disk is ever read into or written from a mapping.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::atomic::{AtomicUsize, Ordering};

use gntdev::{Access, Gntdev, Mapping};
use ring_proto::{DomId, GrantRef};

/// The pages of one queue that stay mapped.
#[derive(Debug)]
pub struct PersistentGrants {
    index: HashMap<GrantRef, usize, BuildHasherDefault<RefHasher>>,
    pages: Vec<Page>,
    cap: usize,
    /// Where the search for a cold page goes on.
    hand: usize,
    /// A cold page may be exchanged; one per sweep, so that a guest that never repeats a reference
    /// costs a copy per page and not a map and an unmap.
    may_exchange: bool,
}

#[derive(Debug)]
struct Page {
    gref: GrantRef,
    mapping: Mapping,
    used: bool,
}

impl PersistentGrants {
    /// An empty pool of at most `cap` pages.
    #[must_use]
    pub fn new(cap: usize) -> Self {
        Self {
            index: HashMap::default(),
            pages: Vec::new(),
            cap,
            hand: 0,
            may_exchange: true,
        }
    }

    /// A sweep over the ring begins.
    pub const fn begin_sweep(&mut self) {
        self.may_exchange = true;
    }

    /// The page `gref`, mapped; `None` if it cannot or shall not be, and must be copied.
    pub fn page(&mut self, grants: &Gntdev, dom: DomId, gref: GrantRef) -> Option<&Mapping> {
        let at = match self.index.get(&gref) {
            Some(&at) => at,
            None => self.admit(grants, dom, gref)?,
        };
        let page = self.pages.get_mut(at)?;
        page.used = true;
        Some(&page.mapping)
    }

    /// Pages mapped now.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.pages.len()
    }

    /// Is nothing mapped?
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.pages.is_empty()
    }

    #[cold]
    fn admit(&mut self, grants: &Gntdev, dom: DomId, gref: GrantRef) -> Option<usize> {
        let room = self.pages.len() < self.cap && MAPPED.load(Ordering::Relaxed) < MOST_MAPPED;
        if !room && !self.may_exchange {
            return None;
        }
        let at = if room {
            self.pages.len()
        } else {
            self.cold_page()?
        };
        // A page that may only be read, or a reference that is none, fails here; whether that is
        // an error the copy that follows will tell.
        let mapping = grants.map(dom, &[gref], Access::ReadWrite).ok()?;
        let page = Page {
            gref,
            mapping,
            used: true,
        };
        match self.pages.get_mut(at) {
            None => {
                MAPPED.fetch_add(1, Ordering::Relaxed);
                self.pages.push(page);
            }
            Some(cold) => {
                self.may_exchange = false;
                self.index.remove(&cold.gref);
                *cold = page;
            }
        }
        self.index.insert(gref, at);
        Some(at)
    }

    /// The next page that was not used since the hand last passed it.
    fn cold_page(&mut self) -> Option<usize> {
        for _ in 0..self.pages.len() {
            let at = self.hand;
            self.hand = (at + 1) % self.pages.len();
            let page = self.pages.get_mut(at)?;
            if !std::mem::take(&mut page.used) {
                return Some(at);
            }
        }
        None
    }
}

impl Drop for PersistentGrants {
    fn drop(&mut self) {
        MAPPED.fetch_sub(self.pages.len(), Ordering::Relaxed);
    }
}

/// Pages that all queues of this process keep mapped, which are one guest's.
static MAPPED: AtomicUsize = AtomicUsize::new(0);

/// Half of the mappings that Linux lets a process have (`vm.max_map_count`): each page is one, and
/// without one there is no memory to be had either (GNT-04). Queues may overshoot by one page each.
const MOST_MAPPED: usize = 32_768;

/// Spreads grant references over the table with one multiplication.
///
/// A guest that picks references to collide makes its own worker walk at most `cap` entries.
#[derive(Default)]
pub(super) struct RefHasher(u64);

impl Hasher for RefHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u32(u32::from(*byte));
        }
    }

    fn write_u32(&mut self, value: u32) {
        // 2^64 divided by the golden ratio.
        self.0 = (self.0 ^ u64::from(value)).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    }
}
