//! The toolstack's and the test's view of the machine.

use std::path::Path;

use gntdev::GrantStatus;
use ring_proto::DomId;

use super::link::{Link, SimError, one_word};
use crate::sim::hypervisor::wire;

/// A connection for looking at the whole machine, and for making it misbehave. Works from any
/// process.
#[derive(Debug)]
pub struct Control(Link);

/// One domain that exists, or that cannot go because a backend has its pages mapped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DomainState {
    /// Which.
    pub domid: DomId,
    /// `false` for a zombie: destroyed, with pages still mapped.
    pub alive: bool,
    /// How many of its pages backends have mapped; a page mapped twice counts twice.
    pub mapped_pages: u32,
    /// How many event channels it has open.
    pub open_ports: u32,
}

impl Control {
    /// Connects to the machine that is served in `dir`.
    ///
    /// # Errors
    /// [`SimError::Connect`]: nothing listens there.
    pub fn connect(dir: &Path) -> Result<Self, SimError> {
        Link::connect(dir).map(Self)
    }

    /// What backends have done wrong so far, one line each, oldest first.
    ///
    /// # Errors
    /// [`SimError::Gone`], as for all that follow.
    pub fn violations(&self) -> Result<Vec<String>, SimError> {
        let answer = self.0.call("list violations", &[wire::VIOLATIONS])?;
        let (&len, words) = answer.words.split_first().ok_or(SimError::Gone)?;
        let mut bytes: Vec<u8> = words.iter().flat_map(|word| word.to_ne_bytes()).collect();
        bytes.truncate(usize::try_from(len).map_err(|_| SimError::Gone)?);
        let text = String::from_utf8(bytes).map_err(|_| SimError::Gone)?;
        Ok(text.lines().map(str::to_owned).collect())
    }

    /// Pages that were unmapped because a process died with them mapped. No violation: a worker may
    /// be killed at any time. One that ended by itself must leave none.
    ///
    /// # Errors
    /// [`SimError::Gone`].
    pub fn abandoned_pages(&self) -> Result<u32, SimError> {
        one_word(&self.0.call("count abandoned pages", &[wire::ABANDONED])?)
    }

    /// All guests, in the order in which they were made.
    ///
    /// # Errors
    /// [`SimError::Gone`].
    pub fn domains(&self) -> Result<Vec<DomainState>, SimError> {
        let answer = self.0.call("list domains", &[wire::DOMAINS])?;
        let (entries, _) = answer.words.as_chunks::<4>();
        let state = |&[domid, alive, mapped_pages, open_ports]: &[u32; 4]| {
            Ok(DomainState {
                domid: DomId::new(u16::try_from(domid).map_err(|_| SimError::Gone)?),
                alive: alive == 1,
                mapped_pages,
                open_ports,
            })
        };
        entries.iter().map(state).collect()
    }

    /// Ends a guest as `xl destroy` does; how many of its pages backends still have mapped. It stays
    /// a zombie in [`domains`](Self::domains) until that number is 0.
    ///
    /// # Errors
    /// [`SimError::Refused`] with `ESRCH`: there is no such guest.
    pub fn destroy(&self, domid: DomId) -> Result<u32, SimError> {
        let request = [wire::DESTROY, u32::from(domid.raw())];
        one_word(&self.0.call("destroy a domain", &request)?)
    }

    /// Makes the `nth` page of `domid` that is mapped from now on (1 is the next) fail with `status`.
    ///
    /// # Errors
    /// [`SimError::Gone`].
    pub fn fail_map(&self, domid: DomId, nth: u32, status: GrantStatus) -> Result<(), SimError> {
        self.fail(wire::FAIL_MAP, domid, nth, status)
    }

    /// Makes the `nth` segment that is copied from or to `domid` from now on fail with `status`.
    ///
    /// # Errors
    /// [`SimError::Gone`].
    pub fn fail_copy(&self, domid: DomId, nth: u32, status: GrantStatus) -> Result<(), SimError> {
        self.fail(wire::FAIL_COPY, domid, nth, status)
    }

    /// How many segments were copied from or to `domid`, modulo 2^32.
    ///
    /// # Errors
    /// [`SimError::Refused`] with `ESRCH`: there is no such guest.
    pub fn copies(&self, domid: DomId) -> Result<u32, SimError> {
        let request = [wire::COPIES, u32::from(domid.raw())];
        one_word(&self.0.call("count copies", &request)?)
    }

    fn fail(&self, what: u32, domid: DomId, nth: u32, status: GrantStatus) -> Result<(), SimError> {
        let status = i32::from(status.raw()).cast_unsigned();
        let request = [what, u32::from(domid.raw()), nth, status];
        self.0.call("inject a fault", &request).map(drop)
    }
}
