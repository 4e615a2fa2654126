//! Who has which grants mapped.
//!
//! A grant entry is the guest's to write, except for two bits that say that it is in use, which the
//! hypervisor sets while somebody has it mapped (`xen/common/grant_table.c`, version 1 tables).
//! Copying happens in the backends' processes and sets no bits: it is over when it returns.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, Ordering};

use gntdev::GrantStatus;
use gntdev::sim::wire::{
    DOMID_SHIFT, ENTRIES_PER_FRAME, ENTRY_WORDS, GTF_PERMIT_ACCESS, GTF_READING, GTF_READONLY,
    GTF_TYPE_MASK, GTF_WRITING,
};
use ring_proto::{DomId, GrantRef};

use super::state::{BACKEND, Domain, Hypervisor};

/// How often an entry is in use.
#[derive(Clone, Copy, Debug, Default)]
struct Pins {
    all: usize,
    writing: usize,
}

/// One mapping, of several pages.
#[derive(Debug)]
struct Mapped {
    connection: u64,
    domid: DomId,
    grefs: Vec<GrantRef>,
    writable: bool,
}

/// All mappings of all guests.
#[derive(Debug, Default)]
pub(super) struct Mappings {
    by_token: BTreeMap<u32, Mapped>,
    pins: BTreeMap<(DomId, GrantRef), Pins>,
    faults: BTreeMap<DomId, (u32, GrantStatus)>,
    last_token: u32,
    /// Pages given back because a connection broke off: processes that were killed.
    pub(super) abandoned: usize,
}

/// Why a mapping was refused, and at which of its pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Refused {
    pub(super) status: GrantStatus,
    pub(super) position: usize,
}

impl Mappings {
    pub(super) fn pages_of(&self, domid: DomId) -> usize {
        let of_domain = self.by_token.values().filter(|m| m.domid == domid);
        of_domain.map(|m| m.grefs.len()).sum()
    }

    /// Makes the `nth` page mapped from now on fail; 0 for none.
    pub(super) fn fail(&mut self, domid: DomId, nth: u32, status: GrantStatus) {
        self.faults.insert(domid, (nth, status));
    }

    /// What `connection` has mapped: token, domain, pages.
    pub(super) fn of_connection(&self, connection: u64) -> Vec<(u32, DomId, usize)> {
        let mut found = Vec::new();
        for (&token, mapped) in &self.by_token {
            if mapped.connection == connection {
                found.push((token, mapped.domid, mapped.grefs.len()));
            }
        }
        found
    }

    /// Counts down to the page that a test wants to fail.
    fn fault(&mut self, domid: DomId) -> Option<GrantStatus> {
        let (left, status) = self.faults.get_mut(&domid)?;
        let due = *left == 1;
        *left = left.saturating_sub(1);
        due.then_some(*status)
    }
}

impl Hypervisor {
    /// Maps all of `grefs` or none: the token and the frames.
    pub(super) fn map(
        &mut self,
        connection: u64,
        domid: DomId,
        grefs: &[GrantRef],
        writable: bool,
    ) -> Result<(u32, Vec<u32>), Refused> {
        let mut frames = Vec::with_capacity(grefs.len());
        for (position, &gref) in grefs.iter().enumerate() {
            match self.pin(domid, gref, writable) {
                Ok(frame) => frames.push(frame),
                Err(status) => {
                    for &pinned in &grefs[..position] {
                        self.unpin(domid, pinned, writable);
                    }
                    return Err(Refused { status, position });
                }
            }
        }
        self.mappings.last_token = self.mappings.last_token.wrapping_add(1);
        let token = self.mappings.last_token;
        let mapped = Mapped {
            connection,
            domid,
            grefs: grefs.to_vec(),
            writable,
        };
        self.mappings.by_token.insert(token, mapped);
        Ok((token, frames))
    }

    /// Ends a mapping of `connection`; whether there was one.
    pub(super) fn unmap(&mut self, connection: u64, token: u32) -> bool {
        let mapped = self.mappings.by_token.get(&token);
        if mapped.is_none_or(|mapped| mapped.connection != connection) {
            return false;
        }
        if let Some(mapped) = self.mappings.by_token.remove(&token) {
            for &gref in &mapped.grefs {
                self.unpin(mapped.domid, gref, mapped.writable);
            }
            self.bury(mapped.domid);
        }
        true
    }

    fn pin(&mut self, domid: DomId, gref: GrantRef, writable: bool) -> Result<u32, GrantStatus> {
        if let Some(status) = self.mappings.fault(domid) {
            return Err(status);
        }
        let domain = self.alive(domid).map_err(|_| GrantStatus::BadDomain)?;
        let frame = acquire(domain, gref, writable)?;
        let pins = self.mappings.pins.entry((domid, gref)).or_default();
        pins.all += 1;
        pins.writing += usize::from(writable);
        Ok(frame)
    }

    fn unpin(&mut self, domid: DomId, gref: GrantRef, writable: bool) {
        let Some(pins) = self.mappings.pins.get_mut(&(domid, gref)) else {
            return;
        };
        pins.all -= 1;
        pins.writing -= usize::from(writable);
        let mut over = 0;
        if pins.writing == 0 {
            over |= GTF_WRITING;
        }
        if pins.all == 0 {
            over |= GTF_READING;
            self.mappings.pins.remove(&(domid, gref));
        }
        if let Some((permission, _)) = self.domains.get(&domid).and_then(|d| entry(d, gref)) {
            permission.fetch_and(!over, Ordering::Release);
        }
    }
}

/// Checks an entry and marks it in use in one step, so that the guest cannot end it in between.
fn acquire(domain: &Domain, gref: GrantRef, writable: bool) -> Result<u32, GrantStatus> {
    let (permission, frame) = entry(domain, gref).ok_or(GrantStatus::BadGrantRef)?;
    let frame = frame.load(Ordering::Acquire);
    if !(domain.table_frames..domain.frames).contains(&frame) {
        return Err(GrantStatus::BadPage);
    }
    let marks = GTF_READING | if writable { GTF_WRITING } else { 0 };
    permission
        .fetch_update(Ordering::AcqRel, Ordering::Acquire, |now| {
            let granted = now & GTF_TYPE_MASK == GTF_PERMIT_ACCESS
                && now >> DOMID_SHIFT == u32::from(BACKEND.raw())
                && !(writable && now & GTF_READONLY != 0);
            granted.then_some(now | marks)
        })
        .map_err(|_| GrantStatus::GeneralError)?;
    Ok(frame)
}

/// The two words of an entry: permission and frame.
fn entry(domain: &Domain, gref: GrantRef) -> Option<(&AtomicU32, &AtomicU32)> {
    if gref.raw() >= domain.table_frames * ENTRIES_PER_FRAME {
        return None;
    }
    let at = gref.raw() as usize * ENTRY_WORDS;
    let words = domain.table.words();
    Some((words.get(at)?, words.get(at + 1)?))
}
