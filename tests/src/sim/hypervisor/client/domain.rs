//! A guest: its memory, its grant table, its event channels.

use std::collections::BTreeMap;
use std::os::fd::AsFd;
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use gntdev::sim::wire::{
    DOMID_SHIFT, ENTRIES_PER_FRAME, ENTRY_WORDS, GTF_PERMIT_ACCESS, GTF_READING, GTF_READONLY,
    GTF_WRITING,
};
use gntdev::{Access, PAGE_SIZE};
use ring_proto::{DomId, GrantRef};

use super::link::{Link, SimError, one_word};
use super::{GuestPages, GuestPort};
use crate::sim::hypervisor::sys::Memory;
use crate::sim::hypervisor::wire;

/// Where backends run.
const BACKEND: DomId = DomId::new(0);

/// Grant-table frames of a guest: 16384 entries.
const TABLE_FRAMES: u32 = 32;

/// The first references that Linux never hands out (`GNTTAB_NR_RESERVED_ENTRIES`).
const RESERVED_GREFS: u32 = 8;

/// A guest of the simulated machine, as its kernel sees it. Scripted frontends are made of this.
///
/// It lives until [`destroy`](Self::destroy)ed, or the machine ends: dropping this value does not
/// end it, as a crash of a toolstack does not end guests.
#[derive(Debug)]
pub struct GuestDomain {
    pub(super) link: Link,
    domid: DomId,
    pub(super) memory: Memory,
    free_pages: Mutex<BTreeMap<u32, u32>>,
    free_grefs: Mutex<Vec<GrantRef>>,
}

/// A grant that cannot be ended, because a backend has the page mapped. After a response this is the
/// backend's fault, and current Linux frontends disable the device for it (FE-05).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("grant {gref} is still in use by the backend")]
pub struct StillInUse {
    /// The grant.
    pub gref: GrantRef,
}

impl GuestDomain {
    /// A new guest with `pages` pages of memory to use, on the machine that is served in `dir`.
    ///
    /// # Errors
    /// [`SimError::Connect`], or the machine's refusal.
    pub fn create(dir: &Path, pages: u32) -> Result<Arc<Self>, SimError> {
        let link = Link::connect(dir)?;
        let frames = pages.saturating_add(TABLE_FRAMES);
        let answer = link.call("create a domain", &[wire::CREATE, frames, TABLE_FRAMES])?;
        let raw = one_word(&answer)?;
        let memory = answer.fds.first().ok_or(SimError::Gone)?;
        let len = frames as usize * PAGE_SIZE;
        let memory = Memory::map(memory.as_fd(), 0, len).map_err(|errno| SimError::Os {
            operation: "mmap of a guest",
            errno,
        })?;
        let entries = RESERVED_GREFS..TABLE_FRAMES * ENTRIES_PER_FRAME;
        Ok(Arc::new(Self {
            link,
            domid: DomId::new(u16::try_from(raw).map_err(|_| SimError::Gone)?),
            memory,
            free_pages: Mutex::new(BTreeMap::from([(TABLE_FRAMES, pages)])),
            free_grefs: Mutex::new(entries.rev().map(GrantRef::new).collect()),
        }))
    }

    /// Its number.
    #[must_use]
    pub const fn domid(&self) -> DomId {
        self.domid
    }

    /// Ends the guest as `xl destroy` does; how many of its pages backends still have mapped.
    ///
    /// # Errors
    /// [`SimError::Refused`] with `ESRCH` if it is gone already.
    pub fn destroy(&self) -> Result<u32, SimError> {
        let request = [wire::DESTROY, u32::from(self.domid.raw())];
        one_word(&self.link.call("destroy a domain", &request)?)
    }

    /// `count` pages of its memory that lie side by side.
    ///
    /// # Errors
    /// [`SimError::Exhausted`].
    pub fn allocate(self: &Arc<Self>, count: u32) -> Result<GuestPages, SimError> {
        let mut free = self
            .free_pages
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let found = free.iter().find(|&(_, &len)| len >= count);
        let (&first, &len) = found.ok_or(SimError::Exhausted { what: "pages" })?;
        free.remove(&first);
        if len > count {
            free.insert(first + count, len - count);
        }
        Ok(GuestPages::new(Arc::clone(self), first, count))
    }

    pub(super) fn release(&self, mut first: u32, mut count: u32) {
        let mut free = self
            .free_pages
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(after) = free.remove(&(first + count)) {
            count += after;
        }
        if let Some((&before, len)) = free.range_mut(..first).next_back()
            && before + *len == first
        {
            count += *len;
            first = before;
        }
        free.insert(first, count);
    }

    /// Grants the page at `frame` to domain 0.
    ///
    /// # Errors
    /// [`SimError::Exhausted`].
    pub fn grant(&self, frame: u32, access: Access) -> Result<GrantRef, SimError> {
        self.grant_to(BACKEND, frame, access)
    }

    /// Grants the page at `frame` to some domain.
    ///
    /// # Errors
    /// [`SimError::Exhausted`].
    pub fn grant_to(&self, to: DomId, frame: u32, access: Access) -> Result<GrantRef, SimError> {
        let mut free = self
            .free_grefs
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let exhausted = SimError::Exhausted { what: "grants" };
        let gref = free.pop().ok_or(exhausted)?;
        let flags = match access {
            Access::ReadOnly => GTF_PERMIT_ACCESS | GTF_READONLY,
            Access::ReadWrite => GTF_PERMIT_ACCESS,
        };
        self.set_entry(gref, flags, to, frame);
        Ok(gref)
    }

    /// Writes an entry of the grant table, whatever it is now: for hostile guests. Entries up to 16383
    /// are there; beyond those nothing happens.
    pub fn set_entry(&self, gref: GrantRef, flags: u32, to: DomId, frame: u32) {
        if let Some((permission, frame_word)) = self.entry(gref) {
            frame_word.store(frame, Ordering::Relaxed);
            let word = flags | u32::from(to.raw()) << DOMID_SHIFT;
            permission.store(word, Ordering::Release);
        }
    }

    /// Whether a backend has the page mapped.
    #[must_use]
    pub fn in_use(&self, gref: GrantRef) -> bool {
        self.entry(gref).is_some_and(|(permission, _)| {
            permission.load(Ordering::Acquire) & (GTF_READING | GTF_WRITING) != 0
        })
    }

    /// Ends a grant, so that the page is the guest's alone again.
    ///
    /// # Errors
    /// [`StillInUse`]: a backend has it mapped, and the grant stays.
    pub fn end_access(&self, gref: GrantRef) -> Result<(), StillInUse> {
        let Some((permission, _)) = self.entry(gref) else {
            return Ok(());
        };
        let idle = |now: u32| (now & (GTF_READING | GTF_WRITING) == 0).then_some(0);
        match permission.fetch_update(Ordering::AcqRel, Ordering::Acquire, idle) {
            // Ending it twice must not make the reference free twice.
            Ok(0) => {}
            Ok(_) => {
                let free = self.free_grefs.lock();
                free.unwrap_or_else(PoisonError::into_inner).push(gref);
            }
            Err(_) => return Err(StillInUse { gref }),
        }
        Ok(())
    }

    /// An event channel that domain 0 may bind.
    ///
    /// # Errors
    /// [`SimError::Refused`]: too many, or the guest is gone.
    pub fn alloc_port(self: &Arc<Self>) -> Result<GuestPort, SimError> {
        self.alloc_port_for(BACKEND)
    }

    /// An event channel that `remote` may bind.
    ///
    /// # Errors
    /// [`SimError::Refused`]: too many, or the guest is gone.
    pub fn alloc_port_for(self: &Arc<Self>, remote: DomId) -> Result<GuestPort, SimError> {
        let (of, remote) = (u32::from(self.domid.raw()), u32::from(remote.raw()));
        let request = [wire::ALLOC_PORT, of, remote];
        GuestPort::new(
            Arc::clone(self),
            self.link.call("allocate a port", &request)?,
        )
    }

    /// The two words of an entry that frontends may use.
    fn entry(&self, gref: GrantRef) -> Option<(&AtomicU32, &AtomicU32)> {
        let table = TABLE_FRAMES * ENTRIES_PER_FRAME;
        if gref.raw() >= table {
            return None;
        }
        let at = gref.raw() as usize * ENTRY_WORDS;
        let words = self.memory.words();
        Some((words.get(at)?, words.get(at + 1)?))
    }
}
