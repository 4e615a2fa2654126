//! The memory that both sides write: where everything lives, and the two ways to touch it.
//!
//! Layout (`xen/include/public/io/ring.h`, `DEFINE_RING_TYPES`), in 32-bit words:
//!
//! | word | field | written by |
//! |---|---|---|
//! | 0 | `req_prod` | frontend |
//! | 1 | `req_event`: wake me when `req_prod` passes it | backend |
//! | 2 | `rsp_prod` | backend |
//! | 3 | `rsp_event`: wake me when `rsp_prod` passes it | frontend |
//! | 4..16 | private bytes and padding | frontend, once |
//! | 16.. | slots, each a request and later some response | both |
//!
//! Indices run freely through all 32 bits; slot number = index modulo the number of slots.

use std::array;
use std::fmt;

use crate::sync::{AtomicU32, Ordering};

/// Memory that a ring lives in: 32-bit words that another domain may change at any moment.
///
/// A `&[AtomicU32]` can be read and written, but nobody can make a `&[u8]` of it, so every use of a
/// guest's bytes is a copy by construction. All words must stay the same memory for the life of the
/// value: implementations return the same slice on every call.
pub trait RingMemory {
    /// The words, in address order from the start of the first page.
    fn words(&self) -> &[AtomicU32];
}

impl RingMemory for [AtomicU32] {
    fn words(&self) -> &[AtomicU32] {
        self
    }
}

impl RingMemory for Vec<AtomicU32> {
    fn words(&self) -> &[AtomicU32] {
        self
    }
}

impl<M: RingMemory + ?Sized> RingMemory for &M {
    fn words(&self) -> &[AtomicU32] {
        (**self).words()
    }
}

impl<M: RingMemory + ?Sized> RingMemory for Box<M> {
    fn words(&self) -> &[AtomicU32] {
        (**self).words()
    }
}

impl<M: RingMemory + ?Sized> RingMemory for std::sync::Arc<M> {
    fn words(&self) -> &[AtomicU32] {
        (**self).words()
    }
}

/// How many slots a ring has and how far apart they are.
///
/// Having one tells you that `slots` is a power of two, at least 1 and at most 2^31, that a slot is
/// not empty, and that the whole ring can be addressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RingShape {
    slots: u32,
    stride_words: usize,
}

impl RingShape {
    /// A ring of `slots` slots that start `stride_words` words apart; `None` unless that makes a ring.
    #[must_use]
    pub fn new(slots: u32, stride_words: usize) -> Option<Self> {
        let shape = Self {
            slots,
            stride_words,
        };
        (slots.is_power_of_two() && stride_words > 0 && shape.checked_words().is_some())
            .then_some(shape)
    }

    /// A shape that fits a page and is right by its numbers: a constant that is not does not compile.
    pub(crate) const fn known(slots: u32, stride_words: usize) -> Self {
        assert!(slots.is_power_of_two() && stride_words > 0);
        assert!(SLOTS_AT + slots as usize * stride_words <= WORDS_PER_PAGE);
        Self {
            slots,
            stride_words,
        }
    }

    /// The ring that both sides agree on when they share `pages` pages of 4096 bytes: as many slots
    /// as fit behind the header, rounded down to a power of two (`ring.h`, `__CONST_RING_SIZE`).
    #[must_use]
    pub fn fitting(pages: u32, stride_words: usize) -> Option<Self> {
        let room = usize::try_from(pages).ok()?.checked_mul(WORDS_PER_PAGE)?;
        let fit = room.checked_sub(SLOTS_AT)?.checked_div(stride_words)?;
        let slots = 1u32.checked_shl(fit.checked_ilog2()?)?;
        Self::new(slots, stride_words)
    }

    /// Number of slots.
    #[must_use]
    pub const fn slots(self) -> u32 {
        self.slots
    }

    /// Words from the start of one slot to the start of the next.
    #[must_use]
    pub const fn stride_words(self) -> usize {
        self.stride_words
    }

    /// Words the ring takes up, header included.
    #[must_use]
    pub fn words(self) -> usize {
        self.checked_words().unwrap_or(usize::MAX)
    }

    fn checked_words(self) -> Option<usize> {
        let slots = usize::try_from(self.slots).ok()?;
        slots.checked_mul(self.stride_words)?.checked_add(SLOTS_AT)
    }
}

/// Whether the other side asked to be woken for what was just published.
///
/// An event that it did not ask for is not harmless: Linux counts it as spurious and delays the
/// interrupts of the whole port, up to a second each (XSA-391).
#[must_use = "the other side sleeps until it is notified"]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Notify {
    /// Send an event.
    Needed,
    /// It is awake, or waits for something later.
    NotNeeded,
}

impl Notify {
    /// Whether moving a producer index from `old` to `new` passes `event` (`ring.h`,
    /// `RING_PUSH_*_AND_CHECK_NOTIFY`).
    pub(crate) fn on_moving(old: u32, new: u32, event: u32) -> Self {
        if new.wrapping_sub(event) < new.wrapping_sub(old) {
            Self::Needed
        } else {
            Self::NotNeeded
        }
    }
}

/// The memory is too small for the ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooSmall {
    /// Words that the memory has.
    pub has: usize,
    /// Words that the shape asks for.
    pub needs: usize,
}

impl fmt::Display for TooSmall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "ring memory has {} words, the ring needs {}",
            self.has, self.needs
        )
    }
}

impl std::error::Error for TooSmall {}

/// Ring memory that was checked to hold the shape.
#[derive(Debug)]
pub(crate) struct Shared<M> {
    memory: M,
    shape: RingShape,
}

impl<M: RingMemory> Shared<M> {
    pub(crate) fn new(memory: M, shape: RingShape) -> Result<Self, TooSmall> {
        let (has, needs) = (memory.words().len(), shape.words());
        if has < needs {
            Err(TooSmall { has, needs })
        } else {
            Ok(Self { memory, shape })
        }
    }

    pub(crate) const fn slots(&self) -> u32 {
        self.shape.slots
    }

    pub(crate) const fn memory(&self) -> &M {
        &self.memory
    }

    pub(crate) fn word(&self, at: usize) -> &AtomicU32 {
        &self.memory.words()[at]
    }

    /// The words of the slot that the free-running index `index` names.
    #[inline]
    pub(crate) fn slot(&self, index: u32) -> &[AtomicU32] {
        let start = SLOTS_AT + (index & (self.shape.slots - 1)) as usize * self.shape.stride_words;
        &self.memory.words()[start..start + self.shape.stride_words]
    }
}

/// Copies the first `W` words out of a slot, reading each of them exactly once. Words that the slot
/// does not have are 0.
///
/// The copy is what parsers look at: whatever the other side writes from now on, nobody sees
/// (XSA-155). It may be a mixture of two states, which is its own fault and only its own problem.
#[inline]
pub(crate) fn copy_out<const W: usize>(slot: &[AtomicU32]) -> [u32; W] {
    if let Some(words) = slot.first_chunk::<W>() {
        // The length is known here, so this becomes straight-line loads.
        return array::from_fn(|at| words[at].load(Ordering::Relaxed));
    }
    let mut copy = [0; W];
    copy_into(&mut copy, slot);
    copy
}

/// As [`copy_out`], to where the copy is kept.
#[inline]
pub(crate) fn copy_into(to: &mut [u32], slot: &[AtomicU32]) {
    let len = to.len().min(slot.len());
    let (to, to_rest) = to[..len].as_chunks_mut::<4>();
    let (from, from_rest) = slot[..len].as_chunks::<4>();
    // By fours, because a loop over atomics is not unrolled: half the instructions of a request.
    for (to, from) in to.iter_mut().zip(from) {
        *to = array::from_fn(|at| from[at].load(Ordering::Relaxed));
    }
    for (to, from) in to_rest.iter_mut().zip(from_rest) {
        *to = from.load(Ordering::Relaxed);
    }
}

/// Writes `words` to the start of a slot; what does not fit is dropped.
#[inline]
pub(crate) fn copy_in(slot: &[AtomicU32], words: &[u32]) {
    if let (Some(to), [a, b, c, d]) = (slot.first_chunk::<4>(), words) {
        // A blkif response, without a loop.
        for (to, from) in to.iter().zip([*a, *b, *c, *d]) {
            to.store(from, Ordering::Relaxed);
        }
        return;
    }
    // The answers to a slot of a network packet, and to a buffer for one.
    if let ([to, ..], [word]) = (slot, words) {
        to.store(*word, Ordering::Relaxed);
        return;
    }
    if let ([to, also, ..], [word, second]) = (slot, words) {
        to.store(*word, Ordering::Relaxed);
        also.store(*second, Ordering::Relaxed);
        return;
    }
    for (to, from) in slot.iter().zip(words) {
        to.store(*from, Ordering::Relaxed);
    }
}

pub(crate) const REQ_PROD: usize = 0;
pub(crate) const REQ_EVENT: usize = 1;
pub(crate) const RSP_PROD: usize = 2;
pub(crate) const RSP_EVENT: usize = 3;
pub(crate) const SLOTS_AT: usize = 16;
const WORDS_PER_PAGE: usize = 1024;

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn notify_is_needed_when_the_event_lies_on_the_way() {
        for base in [0, 1, 0x7fff_fffe, 0xffff_fffe, u32::MAX] {
            for moved in 0..70u32 {
                for event in 0..140u32 {
                    // From 69 behind the old index to 70 ahead of it.
                    let event = base.wrapping_add(event).wrapping_sub(69);
                    let new = base.wrapping_add(moved);
                    let on_the_way = (1..=moved).any(|step| base.wrapping_add(step) == event);
                    let notify = Notify::on_moving(base, new, event);
                    assert_eq!(notify == Notify::Needed, on_the_way, "{base} {new} {event}");
                }
            }
        }
    }

    #[test]
    fn only_powers_of_two_are_rings() {
        for (slots, stride) in [(0, 28), (3, 28), (31, 28), (32, 0), (u32::MAX, 28)] {
            assert_eq!(RingShape::new(slots, stride), None);
        }
        assert_eq!(RingShape::new(1 << 31, usize::MAX), None);
        assert_eq!(RingShape::fitting(0, 28), None);
        assert_eq!(RingShape::fitting(1, 2000), None);
        assert_eq!(RingShape::fitting(1, 0), None);
        assert_eq!(RingShape::new(32, 28).map(RingShape::words), Some(912));
    }

    /// netif slots, from `netif.h`: tx 12 bytes, rx 8 bytes, in one page each.
    #[test]
    fn netif_rings_have_256_slots() {
        for stride in [2, 3] {
            assert_eq!(
                RingShape::fitting(1, stride).map(RingShape::slots),
                Some(256)
            );
        }
    }
}
