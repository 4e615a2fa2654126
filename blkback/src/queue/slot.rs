//! What is being done about each request that was taken: one fixed slot per ring slot.
//!
//! A slot holds the private copy of the guest's words and everything that finishing the request
//! takes. Slots are allocated when the ring is connected and named by our own index, never by the
//! guest's id: ids may repeat, and nothing may be found by them (RNG-06).

use std::io;

use gntdev::{CopyDirection, LocalPages};
use ring_proto::Claim;
use ring_proto::blkif::{Body, Echo, Extent, Geometry, Indirect, RawRequest, Request, Transfer};

use crate::data::{DataPath, GuestRange, PAGE, Run};
use crate::disk::Flush;

/// A place for one request.
#[derive(Debug, Default)]
pub(super) struct Slot {
    /// The private copy of the guest's words, the only one that is ever made.
    pub(super) raw: RawRequest,
    /// The private copy of an indirect request's segment descriptors.
    pub(super) descriptors: Vec<[u32; 2]>,
    /// What is being done about it; nothing while the slot is free.
    pub(super) task: Option<Task>,
}

/// A request on its way.
#[derive(Debug)]
pub(super) struct Task {
    /// The answer that is owed.
    pub(super) claim: Claim,
    /// What the answer repeats.
    pub(super) echo: Echo,
    /// What to do, and how far it is.
    pub(super) job: Job,
    /// Some range of the guest's memory could not be copied.
    pub(super) copy_failed: bool,
    /// Times the disk said "again" and was asked again.
    pub(super) retries: u8,
    /// The flush that the disk was asked for on behalf of it.
    pub(super) flush: Option<Flush>,
}

impl Slot {
    /// The indirect request in this slot; none if it is something else.
    pub(super) fn indirect(&self, geometry: &Geometry) -> Option<Indirect<'_>> {
        match Request::parse(&self.raw, geometry).ok()?.body {
            Body::Indirect(indirect) => Some(indirect),
            _ => None,
        }
    }

    /// Stages all data of the slot's transfer between the guest and the private pages at `at`,
    /// where its segments lie next to each other in the order of the disk.
    ///
    /// The request is parsed from the private copy again, which gives the same every time and is
    /// cheaper than to keep the segments.
    pub(super) fn stage_data(
        &self,
        data: &mut DataPath,
        direction: CopyDirection,
        (token, mut at): (u32, usize),
        geometry: &Geometry,
    ) -> io::Result<()> {
        let transfer = match Request::parse(&self.raw, geometry).map(|request| request.body) {
            Ok(Body::Read(transfer) | Body::Write(transfer) | Body::Flush(Some(transfer))) => {
                Ok(transfer)
            }
            Ok(Body::Indirect(indirect)) => indirect.resolve(&self.descriptors, geometry),
            Ok(Body::Flush(None) | Body::Discard(_)) => return Ok(()),
            Err(reject) => Err(reject),
        };
        // It was accepted before, from the same bytes.
        for segment in transfer.map_err(io::Error::other)?.segments() {
            let range = GuestRange::from(segment);
            data.stage(token, direction, range, at)?;
            at += usize::from(range.len);
        }
        Ok(())
    }

    /// Stages the descriptors of the slot's indirect request into the private pages at `at`.
    pub(super) fn stage_descriptors(
        &self,
        data: &mut DataPath,
        (token, mut at): (u32, usize),
        geometry: &Geometry,
    ) -> io::Result<()> {
        let Some(indirect) = self.indirect(geometry) else {
            return Ok(());
        };
        let mut left = usize::from(indirect.nr_segments()) * DESCRIPTOR;
        for gref in indirect.pages() {
            let len = left.min(PAGE);
            let range = GuestRange {
                gref,
                at: 0,
                len: u16::try_from(len).map_err(io::Error::other)?,
            };
            data.stage(token, CopyDirection::FromGuest, range, at)?;
            at += len;
            left -= len;
        }
        Ok(())
    }

    /// Takes the staged descriptors over from the private pages at `at`.
    pub(super) fn keep_descriptors(
        &mut self,
        pages: &LocalPages,
        at: usize,
        bytes: usize,
    ) -> io::Result<()> {
        let mut words = [0; DESCRIPTOR];
        self.descriptors.clear();
        for at in (at..at + bytes).step_by(DESCRIPTOR) {
            pages.read(at, &mut words).map_err(io::Error::other)?;
            let [a, b, c, d, e, f, g, h] = words;
            let descriptor = [[a, b, c, d], [e, f, g, h]].map(u32::from_le_bytes);
            self.descriptors.push(descriptor);
        }
        Ok(())
    }
}

/// The stages of a request.
#[derive(Debug)]
pub(super) enum Job {
    /// Its segment descriptors are to be copied into the run, which is none while there are not
    /// enough private pages.
    Fetch { bytes: usize, run: Option<Run> },
    /// Data between guest and disk.
    Move(Move),
    /// A flush without data.
    Flush,
    /// A flush without data that failed, or came after one that did. There is no true answer that
    /// a Linux frontend would not turn into success, so it gets none (FE-14).
    Withheld,
    /// A discard, in pieces.
    Discard {
        /// What is left of it.
        left: Extents,
    },
}

impl From<Body<'_>> for Job {
    fn from(body: Body<'_>) -> Self {
        match body {
            Body::Read(transfer) => Self::Move(Move::new(&transfer, false)),
            Body::Write(transfer) => Self::Move(Move::new(&transfer, true)),
            Body::Flush(None) => Self::Flush,
            Body::Flush(Some(transfer)) => Self::Move(Move {
                flush_first: true,
                ..Move::new(&transfer, true)
            }),
            Body::Discard(extent) => Self::Discard {
                left: Extents::of(extent),
            },
            Body::Indirect(indirect) => Self::Fetch {
                bytes: usize::from(indirect.nr_segments()) * DESCRIPTOR,
                run: None,
            },
        }
    }
}

/// What a request needs after an operation of the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// Another operation.
    Operation,
    /// What was read goes to the guest.
    Delivery,
    /// The answer.
    Answer,
    /// Nothing helps: the disk has no more bytes.
    Nothing,
}

impl Job {
    /// An operation has completed, of `bytes` bytes if it was a transfer.
    pub(super) fn completed(&mut self, bytes: u64) -> Next {
        match self {
            Self::Move(job) if job.flush_first => {
                job.flush_first = false;
                Next::Operation
            }
            Self::Move(_) if bytes == 0 => Next::Nothing,
            Self::Move(job) => {
                let more = u32::try_from(bytes).unwrap_or(u32::MAX);
                job.done = job.done.saturating_add(more);
                if job.done < job.bytes {
                    Next::Operation
                } else {
                    Next::Delivery
                }
            }
            Self::Discard { left } => {
                *left = left.advance();
                if left.bytes > 0 {
                    Next::Operation
                } else {
                    Next::Answer
                }
            }
            Self::Flush | Self::Fetch { .. } | Self::Withheld => Next::Answer,
        }
    }

    /// Is its next operation a flush?
    pub(super) const fn is_flush(&self) -> bool {
        match self {
            Self::Flush => true,
            Self::Move(job) => job.flush_first,
            Self::Fetch { .. } | Self::Withheld | Self::Discard { .. } => false,
        }
    }

    /// Anything that must not touch a disk that has lost a write, and promises about it.
    pub(super) const fn changes_disk(&self) -> bool {
        match self {
            Self::Move(job) => job.write,
            Self::Flush | Self::Discard { .. } => true,
            Self::Fetch { .. } | Self::Withheld => false,
        }
    }
}

/// A transfer and how far it is.
#[derive(Debug)]
pub(super) struct Move {
    pub(super) write: bool,
    /// The disk's cache must be flushed before the data is written (a flush with data).
    pub(super) flush_first: bool,
    /// Where on the disk, in bytes.
    pub(super) offset: u64,
    /// How much, in bytes.
    pub(super) bytes: u32,
    /// Bytes that the disk has done.
    pub(super) done: u32,
    /// The private pages; none while there are not enough of them.
    pub(super) run: Option<Run>,
}

impl Move {
    pub(super) const fn new(transfer: &Transfer<'_>, write: bool) -> Self {
        Self {
            write,
            flush_first: false,
            offset: transfer.offset(),
            bytes: transfer.bytes(),
            done: 0,
            run: None,
        }
    }
}

/// The rest of a discard, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Extents {
    pub(super) offset: u64,
    pub(super) bytes: u64,
}

impl Extents {
    pub(super) const fn of(extent: Extent) -> Self {
        Self {
            offset: extent.offset(),
            bytes: extent.bytes(),
        }
    }

    /// The next piece, small enough that others get at the disk in between (BLK-10).
    pub(super) fn piece(self) -> u64 {
        self.bytes.min(DISCARD_PIECE)
    }

    /// What is left when the next piece is done.
    pub(super) fn advance(self) -> Self {
        let piece = self.piece();
        Self {
            offset: self.offset + piece,
            bytes: self.bytes - piece,
        }
    }
}

/// The slots of one ring.
#[derive(Debug)]
pub(super) struct Slots {
    slots: Vec<Slot>,
    free: Vec<u32>,
}

impl Slots {
    pub(super) fn new(size: u32) -> Self {
        Self {
            slots: (0..size).map(|_| Slot::default()).collect(),
            // The lowest is used first, so that a shallow queue stays in few cache lines.
            free: (0..size).rev().collect(),
        }
    }

    /// The free slot that is to be used next, and its number; none while as many requests are on
    /// their way as the ring has slots. It stays free until [`occupy`](Self::occupy).
    pub(super) fn vacant(&mut self) -> Option<(u32, &mut Slot)> {
        let token = *self.free.last()?;
        Some((token, self.slots.get_mut(token as usize)?))
    }

    /// Puts a request into the free slot that is to be used next.
    pub(super) fn occupy(&mut self, task: Task) {
        if let Some(token) = self.free.pop()
            && let Some(slot) = self.slots.get_mut(token as usize)
        {
            slot.task = Some(task);
        }
    }

    /// A slot, free or not.
    pub(super) fn slot(&mut self, token: u32) -> Option<&mut Slot> {
        self.slots.get_mut(token as usize)
    }

    /// The request in a slot.
    pub(super) fn task(&mut self, token: u32) -> Option<&mut Task> {
        self.slots.get_mut(token as usize)?.task.as_mut()
    }

    /// Takes a request out of its slot.
    pub(super) fn close(&mut self, token: u32) -> Option<Task> {
        let task = self.slots.get_mut(token as usize)?.task.take()?;
        self.free.push(token);
        Some(task)
    }
}

/// Bytes of a segment descriptor.
const DESCRIPTOR: usize = 8;

const DISCARD_PIECE: u64 = 1 << 30;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blk_10_a_discard_goes_in_pieces() {
        let mut left = Extents {
            offset: 4096,
            bytes: 2 * DISCARD_PIECE + 512,
        };
        let mut pieces = Vec::new();
        while left.bytes > 0 {
            pieces.push((left.offset, left.piece()));
            left = left.advance();
        }
        assert_eq!(
            pieces,
            [
                (4096, DISCARD_PIECE),
                (4096 + DISCARD_PIECE, DISCARD_PIECE),
                (4096 + 2 * DISCARD_PIECE, 512),
            ]
        );
    }
}
