//! What the simulated machine consists of, and what was done wrong on it.

use std::collections::BTreeMap;
use std::fmt;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::Ordering;

use gntdev::PAGE_SIZE;
use gntdev::sim::wire as grant_wire;
use ring_proto::DomId;
use rustix::fs::{MemfdFlags, SealFlags};
use rustix::io::Errno;

use super::grants::Mappings;
use super::ports::Ports;
use super::sys::Memory;

/// Where backends run.
pub(super) const BACKEND: DomId = DomId::new(0);

/// Frames of one guest at most: 4 GiB.
const MAX_FRAMES: u32 = 1 << 20;

/// Grant-table frames of one guest at most (`gnttab_max_frames` of guests).
const MAX_TABLE_FRAMES: u32 = 64;

/// Violations kept; a broken backend in a loop must not fill the memory.
const MAX_VIOLATIONS: usize = 1000;

/// Something that a backend did wrong, though Xen might not have minded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Violation {
    /// It unmapped something that is not mapped: twice, or never.
    UnknownUnmap {
        /// What it named.
        token: u32,
    },
    /// It closed its grant device in good order, with pages mapped.
    ForgottenMapping {
        /// Whose pages.
        domid: DomId,
        /// How many.
        pages: usize,
    },
    /// It unmasked a port that it has not bound.
    StrayUnmask {
        /// The local port.
        port: u32,
    },
    /// It closed a port that it has not bound.
    StrayUnbind {
        /// The local port.
        port: u32,
    },
    /// It said something that is no request.
    BadRequest {
        /// The first word.
        operation: u32,
    },
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownUnmap { token } => write!(f, "unmapped {token}, which is not mapped"),
            Self::ForgottenMapping { domid, pages } => {
                write!(
                    f,
                    "closed gntdev with {pages} page(s) of domain {domid} mapped"
                )
            }
            Self::StrayUnmask { port } => write!(f, "unmasked port {port}, which is not bound"),
            Self::StrayUnbind { port } => write!(f, "unbound port {port}, which is not bound"),
            Self::BadRequest { operation } => write!(f, "request {operation:#x} makes no sense"),
        }
    }
}

/// One guest.
#[derive(Debug)]
pub(super) struct Domain {
    pub(super) memory: OwnedFd,
    pub(super) control_fd: OwnedFd,
    pub(super) control: Memory,
    pub(super) table: Memory,
    pub(super) frames: u32,
    pub(super) table_frames: u32,
    pub(super) alive: bool,
}

/// The whole machine.
#[derive(Debug, Default)]
pub(super) struct Hypervisor {
    pub(super) domains: BTreeMap<DomId, Domain>,
    pub(super) ports: Ports,
    pub(super) mappings: Mappings,
    pub(super) violations: Vec<Violation>,
    last_domid: u16,
}

impl Hypervisor {
    /// A new guest with `frames` of memory, of which the first `table_frames` are its grant table.
    pub(super) fn create(&mut self, frames: u32, table_frames: u32) -> Result<DomId, Errno> {
        if frames > MAX_FRAMES || !(1..=MAX_TABLE_FRAMES).contains(&table_frames) {
            return Err(Errno::INVAL);
        }
        if table_frames >= frames {
            return Err(Errno::INVAL);
        }
        let memory = sealed_memory("guest", frames)?;
        let control_fd = sealed_memory("guest-control", 1)?;
        let control = Memory::map(control_fd.as_fd(), 0, PAGE_SIZE)?;
        control.words()[grant_wire::CONTROL_ALIVE].store(1, Ordering::Release);
        let domain = Domain {
            table: Memory::map(memory.as_fd(), 0, table_frames as usize * PAGE_SIZE)?,
            memory,
            control_fd,
            control,
            frames,
            table_frames,
            alive: true,
        };
        self.last_domid = self.last_domid.checked_add(1).ok_or(Errno::NOSPC)?;
        let domid = DomId::new(self.last_domid);
        self.domains.insert(domid, domain);
        Ok(domid)
    }

    /// Ends a guest: its ports close and its grants are void at once; its memory stays as long as a
    /// backend has some mapped. The number of those pages.
    pub(super) fn destroy(&mut self, domid: DomId) -> Result<usize, Errno> {
        let domain = self.domains.get_mut(&domid).ok_or(Errno::SRCH)?;
        domain.alive = false;
        domain.control.words()[grant_wire::CONTROL_ALIVE].store(0, Ordering::Release);
        self.ports.close_domain(domid);
        let mapped = self.mappings.pages_of(domid);
        self.bury(domid);
        Ok(mapped)
    }

    /// Forgets a dead domain of which nothing is mapped any more.
    pub(super) fn bury(&mut self, domid: DomId) {
        let dead = self.domains.get(&domid).is_some_and(|domain| !domain.alive);
        if dead && self.mappings.pages_of(domid) == 0 {
            self.domains.remove(&domid);
        }
    }

    pub(super) fn alive(&self, domid: DomId) -> Result<&Domain, Errno> {
        let domain = self.domains.get(&domid).filter(|domain| domain.alive);
        domain.ok_or(Errno::SRCH)
    }

    /// Whether a domain of that number can own and bind ports.
    pub(super) fn exists(&self, domid: DomId) -> bool {
        domid == BACKEND || self.domains.contains_key(&domid)
    }

    pub(super) fn blame(&mut self, violation: Violation) {
        if self.violations.len() < MAX_VIOLATIONS {
            self.violations.push(violation);
        }
    }
}

/// A memfd that nobody who has it can shrink under the others' feet.
fn sealed_memory(name: &str, frames: u32) -> Result<OwnedFd, Errno> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let fd = rustix::fs::memfd_create(name, flags)?;
    let len = u64::from(frames) * PAGE_SIZE as u64;
    rustix::fs::ftruncate(&fd, len)?;
    let seals = SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL;
    rustix::fs::fcntl_add_seals(&fd, seals)?;
    Ok(fd)
}
