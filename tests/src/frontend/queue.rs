//! One ring of an honest frontend: requests out, responses in, every one checked.

use std::sync::Arc;

use anyhow::ensure;
use gntdev::{Access, PAGE_SIZE};
use ring_proto::blkif::{
    Abi, Answer, MAX_DIRECT_SEGMENTS, RawSegment, SEGMENTS_PER_PAGE, Sent, op,
};
use ring_proto::{FrontRing, GrantRef, Notify};

use super::buffers::{Buffers, Lent};
use super::keys::RingKeys;
use super::model::SECTOR;
use super::{Misbehaviour, Segments, Shape};
use crate::sim::hypervisor::{GuestDomain, GuestPages, GuestPort};

/// What pages hold where no request may write.
const CANARY: u8 = 0xc5;

/// Bytes of a segment descriptor.
const DESCRIPTOR: usize = 8;

/// What to do with the disk.
#[derive(Clone, Copy, Debug)]
pub enum Io<'a> {
    /// Read into segments, each first and last sector of a page.
    Read {
        /// First sector on the disk.
        sector: u64,
        /// Where it goes.
        segments: &'a [(u8, u8)],
    },
    /// Write from segments.
    Write {
        /// First sector on the disk.
        sector: u64,
        /// Where it lies.
        segments: &'a [(u8, u8)],
        /// What is written; pages are left as they are if it is empty.
        data: &'a [u8],
    },
    /// Make durable what was completed before.
    Flush,
    /// Forget.
    Discard {
        /// First sector.
        sector: u64,
        /// How many.
        sectors: u64,
        /// So that it cannot be restored.
        secure: bool,
    },
}

/// An answered request.
#[derive(Debug)]
pub struct Done {
    /// Number of the request, as [`Queue::submit`] gave it.
    pub id: u64,
    /// What kind it was ([`op`]).
    pub operation: u8,
    /// 0, -1 or -2.
    pub status: i16,
    /// What was read; empty unless it was a read that succeeded and the queue looks at data.
    pub data: Vec<u8>,
}

/// A request the backend has.
#[derive(Debug)]
struct Pending {
    operation: u8,
    empty_flush: bool,
    segments: Vec<(u8, u8)>,
    data: Vec<Lent>,
    descriptors: Vec<Lent>,
}

/// One ring.
#[derive(Debug)]
pub struct Queue {
    domain: Arc<GuestDomain>,
    abi: Abi,
    segments: Segments,
    ring: FrontRing<Arc<GuestPages>>,
    ring_refs: Vec<GrantRef>,
    port: GuestPort,
    buffers: Buffers,
    pending: Vec<Option<Pending>>,
    free_ids: Vec<usize>,
    looks_at_data: bool,
    responses: u64,
    events: u64,
}

impl Queue {
    /// Sets up the ring, its grants and its event channel.
    ///
    /// # Errors
    /// The guest is out of pages, grants or ports.
    pub fn new(domain: &Arc<GuestDomain>, shape: &Shape) -> anyhow::Result<Self> {
        Self::starting_at(domain, shape, 0)
    }

    /// As [`new`](Self::new), with ring indices that start at `start`, as if the ring were old.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn starting_at(
        domain: &Arc<GuestDomain>,
        shape: &Shape,
        start: u32,
    ) -> anyhow::Result<Self> {
        let abi = shape.protocol.abi();
        let pages = Arc::new(domain.allocate(shape.ring_pages())?);
        let ring_refs = pages.grant_all(Access::ReadWrite)?;
        let ring_shape = abi.ring_shape(shape.ring_pages());
        let ring_shape = ring_shape.ok_or_else(|| anyhow::anyhow!("no ring fits {shape}"))?;
        let ring = FrontRing::init_at(pages, ring_shape, start)?;
        let slots = ring.slots() as usize;
        Ok(Self {
            domain: Arc::clone(domain),
            abi,
            segments: shape.segments,
            ring,
            ring_refs,
            port: domain.alloc_port()?,
            buffers: Buffers::new(Arc::clone(domain)),
            pending: (0..slots).map(|_| None).collect(),
            free_ids: (0..slots).rev().collect(),
            looks_at_data: true,
            responses: 0,
            events: 0,
        })
    }

    /// Keeps grants from now on instead of ending them after each response: both sides offered it.
    pub const fn keep_grants(&mut self) {
        self.buffers.keep();
    }

    /// Leaves data alone from now on: for measuring, where what was read has been verified before.
    pub fn ignore_data(&mut self) {
        self.looks_at_data = false;
    }

    /// Where it is, for xenstore.
    #[must_use]
    pub fn keys(&self) -> RingKeys {
        RingKeys {
            refs: self.ring_refs.clone(),
            port: self.port.port(),
        }
    }

    /// Its event channel.
    #[must_use]
    pub const fn port(&self) -> &GuestPort {
        &self.port
    }

    /// The ring, for those who tamper with it.
    #[must_use]
    pub const fn ring(&mut self) -> &mut FrontRing<Arc<GuestPages>> {
        &mut self.ring
    }

    /// Requests without a response.
    #[must_use]
    pub fn open(&self) -> usize {
        self.pending.len() - self.free_ids.len()
    }

    /// Requests that fit.
    #[must_use]
    pub const fn slots(&self) -> u32 {
        self.ring.slots()
    }

    /// Responses taken, and events taken. There must not be more events than responses and set-ups:
    /// Linux delays interrupts that bring nothing (FE-11).
    #[must_use]
    pub const fn counts(&self) -> (u64, u64) {
        (self.responses, self.events)
    }

    /// Writes a request into the ring; its number, or `None` if the ring is full.
    ///
    /// # Errors
    /// The guest is out of pages or grants.
    pub fn submit(&mut self, io: &Io<'_>) -> anyhow::Result<Option<u64>> {
        let Some(slot) = self.free_ids.pop() else {
            return Ok(None);
        };
        let id = slot as u64;
        let pending = match *io {
            Io::Read { sector, segments } => self.transfer(id, op::READ, sector, segments, &[])?,
            Io::Write {
                sector,
                segments,
                data,
            } => self.transfer(id, op::WRITE, sector, segments, data)?,
            Io::Flush => self.flush(id)?,
            Io::Discard {
                sector,
                sectors,
                secure,
            } => self.discard(id, sector, sectors, secure)?,
        };
        self.pending[slot] = Some(pending);
        Ok(Some(id))
    }

    /// Shows the backend what was submitted, and wakes it if it sleeps.
    ///
    /// # Errors
    /// The machine is gone.
    pub fn publish(&mut self) -> Result<(), Misbehaviour> {
        if self.ring.publish() == Notify::Needed {
            self.port.notify()?;
        }
        Ok(())
    }

    /// Takes and checks the next response.
    ///
    /// # Errors
    /// Whatever a backend must not do.
    pub fn take(&mut self) -> Result<Option<Done>, Misbehaviour> {
        let Some(words) = self.ring.take_response::<4>()? else {
            return Ok(None);
        };
        let answer = Answer::decode([words[0], words[1], words[2]]);
        self.responses += 1;
        let id = answer.id;
        let slot = usize::try_from(id)
            .ok()
            .filter(|&at| at < self.pending.len());
        let pending = slot.and_then(|at| self.pending[at].take());
        let (Some(slot), Some(pending)) = (slot, pending) else {
            return Err(Misbehaviour::NotPending { id });
        };
        self.free_ids.push(slot);
        check(&answer, &pending)?;
        let tail = if self.abi == Abi::Native { words[3] } else { 0 };
        if words[2].to_le_bytes()[1] != 0 || tail != 0 {
            return Err(Misbehaviour::Padding { id });
        }
        let data = if self.looks_at_data && answer.operation == op::READ {
            collect(id, &pending)?
        } else {
            Vec::new()
        };
        for lent in pending.data.into_iter().chain(pending.descriptors) {
            let back = self.buffers.take_back(lent);
            back.map_err(|still| Misbehaviour::StillMapped { id, still })?;
        }
        Ok(Some(Done {
            id,
            operation: answer.operation,
            status: answer.status,
            data: if answer.status == 0 { data } else { Vec::new() },
        }))
    }

    /// Asks for an event at the next response; `true` if there is one already.
    ///
    /// # Errors
    /// The ring is broken.
    pub fn rearm(&mut self) -> Result<bool, Misbehaviour> {
        Ok(self.ring.rearm()?)
    }

    /// Takes an event, if one came.
    ///
    /// # Errors
    /// The machine is gone.
    pub fn take_event(&mut self) -> Result<bool, Misbehaviour> {
        let came = self.port.take_pending()?;
        self.events += u64::from(came);
        Ok(came)
    }

    /// Ends all grants, after the backend has closed. Requests without a response are given up.
    ///
    /// # Errors
    /// The backend has a page mapped still.
    pub fn retire(mut self) -> anyhow::Result<()> {
        for pending in self.pending.drain(..).flatten() {
            for lent in pending.data.into_iter().chain(pending.descriptors) {
                self.buffers.take_back(lent)?;
            }
        }
        self.buffers.retire()?;
        for gref in self.ring_refs.drain(..) {
            self.domain.end_access(gref)?;
        }
        Ok(())
    }

    fn transfer(
        &mut self,
        id: u64,
        operation: u8,
        sector: u64,
        segments: &[(u8, u8)],
        data: &[u8],
    ) -> anyhow::Result<Pending> {
        // A backend that reads the disk writes the page.
        let access = match operation {
            op::READ => Access::ReadWrite,
            _ => Access::ReadOnly,
        };
        let mut rest = data;
        let mut pages = Vec::with_capacity(segments.len());
        let mut raw = Vec::with_capacity(segments.len());
        for &(first, last) in segments {
            let lent = self.buffers.lend(access)?;
            if operation == op::READ && self.looks_at_data {
                ensure!(lent.memory.write(0, &[CANARY; PAGE_SIZE]), "page is short");
            }
            let bytes = (usize::from(last) + 1).saturating_sub(usize::from(first)) * SECTOR;
            let (now, later) = rest.split_at(bytes.min(rest.len()));
            ensure!(
                lent.memory.write(usize::from(first) * SECTOR, now),
                "page is short"
            );
            rest = later;
            raw.push(RawSegment::new(lent.gref, first, last));
            pages.push(lent);
        }
        let descriptors = self.post(id, operation, sector, &raw)?;
        Ok(Pending {
            operation,
            empty_flush: false,
            segments: segments.to_vec(),
            data: pages,
            descriptors,
        })
    }

    /// Writes a data request, direct or indirect; the pages its descriptors are in.
    fn post(
        &mut self,
        id: u64,
        operation: u8,
        sector: u64,
        raw: &[RawSegment],
    ) -> anyhow::Result<Vec<Lent>> {
        let indirect = match self.segments {
            Segments::Direct => false,
            Segments::IndirectIfMany => raw.len() > MAX_DIRECT_SEGMENTS,
            Segments::Indirect => true,
        };
        if !indirect {
            ensure!(
                raw.len() <= MAX_DIRECT_SEGMENTS,
                "{} segments do not fit",
                raw.len()
            );
            self.push(Sent::Direct {
                operation,
                nr_segments: u8::try_from(raw.len())?,
                handle: 0,
                id,
                sector,
                segments: raw,
            })?;
            return Ok(Vec::new());
        }
        let mut pages = Vec::new();
        for part in raw.chunks(SEGMENTS_PER_PAGE) {
            let lent = self.buffers.lend(Access::ReadOnly)?;
            for (at, segment) in part.iter().enumerate() {
                let [low, high] = segment.words();
                let words = [low.to_le_bytes(), high.to_le_bytes()].concat();
                ensure!(lent.memory.write(at * DESCRIPTOR, &words), "page is short");
            }
            pages.push(lent);
        }
        let grefs: Vec<GrantRef> = pages.iter().map(|lent| lent.gref).collect();
        self.push(Sent::Indirect {
            operation,
            nr_segments: u16::try_from(raw.len())?,
            handle: 0,
            id,
            sector,
            pages: &grefs,
        })?;
        Ok(pages)
    }

    fn flush(&mut self, id: u64) -> anyhow::Result<Pending> {
        self.push(Sent::Direct {
            operation: op::FLUSH,
            nr_segments: 0,
            handle: 0,
            id,
            // Linux sends -1 here: an empty flush has no place.
            sector: u64::MAX,
            segments: &[],
        })?;
        Ok(Pending::without_data(op::FLUSH))
    }

    fn discard(
        &mut self,
        id: u64,
        sector: u64,
        sectors: u64,
        secure: bool,
    ) -> anyhow::Result<Pending> {
        self.push(Sent::Discard {
            flags: u8::from(secure),
            handle: 0,
            id,
            sector,
            sectors,
        })?;
        Ok(Pending::without_data(op::DISCARD))
    }

    fn push(&mut self, sent: Sent<'_>) -> anyhow::Result<()> {
        Ok(self.ring.push_request(&sent.encode(self.abi))?)
    }
}

impl Pending {
    const fn without_data(operation: u8) -> Self {
        Self {
            operation,
            empty_flush: operation == op::FLUSH,
            segments: Vec::new(),
            data: Vec::new(),
            descriptors: Vec::new(),
        }
    }
}

/// Checks a response as Linux `blkif_interrupt` does, and against the rules no Linux checks.
fn check(answer: &Answer, pending: &Pending) -> Result<(), Misbehaviour> {
    let Answer {
        id,
        operation: said,
        status,
    } = *answer;
    let asked = pending.operation;
    if said != asked {
        return Err(Misbehaviour::WrongOperation { id, said, asked });
    }
    match status {
        0 => Ok(()),
        -1 | -2 if pending.empty_flush && status == -1 => Err(Misbehaviour::FailedFlush { id }),
        -1 => Ok(()),
        -2 if matches!(asked, op::READ | op::WRITE) => Err(Misbehaviour::UnsupportedData { id }),
        -2 => Ok(()),
        _ => Err(Misbehaviour::UnknownStatus { id, status }),
    }
}

/// The bytes that a read brought, after looking that nothing else of the pages has changed.
fn collect(id: u64, pending: &Pending) -> Result<Vec<u8>, Misbehaviour> {
    let mut data = Vec::new();
    let mut page = [0; PAGE_SIZE];
    for (lent, &(first, last)) in pending.data.iter().zip(&pending.segments) {
        if !lent.memory.read(0, &mut page) {
            continue;
        }
        let (from, to) = (
            usize::from(first) * SECTOR,
            (usize::from(last) + 1) * SECTOR,
        );
        let outside = (0..from).chain(to..PAGE_SIZE);
        if let Some(at) = outside.into_iter().find(|&at| page[at] != CANARY) {
            return Err(Misbehaviour::WroteOutside { id, at });
        }
        data.extend_from_slice(page.get(from..to).unwrap_or_default());
    }
    Ok(data)
}
