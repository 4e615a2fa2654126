//! Which flush may be called done: never one from which the kernel kept a lost write.
//!
//! The kernel tells of a lost write once per open file, to whichever of several concurrent flushes
//! looks first, and calls the others done (`errseq_check_and_advance` of `lib/errseq.c`). The one
//! that was told may be reaped later than the others, on another queue's thread. So a flush that
//! was called done has to wait until every flush that was under way at that moment has been looked
//! at; it waits by flushing again, which needs nobody to wake it, and costs the disk a flush where
//! flushes overlap: a guest has one under way for each queue.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// The flushes under way on one disk, on all its queues.
#[derive(Debug, Default)]
pub struct Flushes {
    lost: AtomicBool,
    open: Mutex<Open>,
}

#[derive(Debug, Default)]
struct Open {
    next: u64,
    numbers: BTreeSet<u64>,
}

/// A flush that the disk was asked for. One that is dropped before it was [`kept`](Verdict::Kept)
/// may have been told of a lost write that nobody will hear of: from then on no flush of the disk
/// is called done.
#[derive(Debug)]
pub struct Flush {
    flushes: Arc<Flushes>,
    number: u64,
    /// Those with lower numbers have to be looked at before this one is called done.
    barrier: Option<u64>,
}

/// What a flush that the disk called done is worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is done: everything that was written before it is on the medium.
    Kept,
    /// Another one may have been told what this one was not: flush again, and ask again.
    Again,
    /// A write was lost.
    Lost,
}

impl Flushes {
    /// The disk is about to be asked for a flush.
    #[must_use]
    pub fn begin(self: &Arc<Self>) -> Flush {
        Flush {
            number: self.with(Open::enter),
            flushes: Arc::clone(self),
            barrier: None,
        }
    }

    /// Has a flush failed since the disk was opened? From then on nobody knows what is on the
    /// medium, so no later flush can honestly succeed.
    #[must_use]
    pub fn have_lost(&self) -> bool {
        self.lost.load(Ordering::Acquire)
    }

    fn with<T>(&self, change: impl FnOnce(&mut Open) -> T) -> T {
        change(&mut self.open.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Open {
    fn enter(&mut self) -> u64 {
        let number = self.next;
        self.next += 1;
        self.numbers.insert(number);
        number
    }
}

impl Flush {
    /// The disk calls it done.
    pub fn done(&mut self) -> Verdict {
        let (number, barrier) = (self.number, self.barrier);
        let again = self.flushes.with(|open| {
            open.numbers.remove(&number);
            let barrier = barrier.unwrap_or(open.next);
            let waits = open.numbers.range(..barrier).next().is_some();
            waits.then(|| (open.enter(), barrier))
        });
        if self.flushes.have_lost() {
            return Verdict::Lost;
        }
        let Some((number, barrier)) = again else {
            return Verdict::Kept;
        };
        (self.number, self.barrier) = (number, Some(barrier));
        Verdict::Again
    }

    /// The disk says that it failed; true for the first of a disk.
    ///
    /// The mark is set before the flush leaves the list: who does not find it there finds the mark.
    pub fn failed(&mut self) -> bool {
        let first = !self.flushes.lost.swap(true, Ordering::AcqRel);
        let number = self.number;
        self.flushes.with(|open| open.numbers.remove(&number));
        first
    }
}

impl Drop for Flush {
    fn drop(&mut self) {
        let number = self.number;
        if self.flushes.with(|open| open.numbers.contains(&number)) {
            self.failed();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flush_alone_is_done_at_once() {
        let flushes = Arc::new(Flushes::default());
        for _ in 0..3 {
            assert_eq!(flushes.begin().done(), Verdict::Kept);
        }
        assert!(!flushes.have_lost());
    }

    #[test]
    fn fe_14_a_flush_waits_for_those_that_were_under_way_and_for_no_others() {
        let flushes = Arc::new(Flushes::default());
        let (mut slow, mut quick) = (flushes.begin(), flushes.begin());
        assert_eq!(quick.done(), Verdict::Again);
        let mut later = flushes.begin();
        assert_eq!(quick.done(), Verdict::Again, "the slow one is not known");
        assert_eq!(slow.done(), Verdict::Again, "quick and later are not known");
        assert_eq!(quick.done(), Verdict::Kept);
        assert_eq!(later.done(), Verdict::Again);
        assert_eq!(slow.done(), Verdict::Kept);
        assert_eq!(later.done(), Verdict::Kept);
    }

    #[test]
    fn a_flush_that_is_given_up_may_have_known_of_a_lost_write() {
        let flushes = Arc::new(Flushes::default());
        let (given_up, mut other) = (flushes.begin(), flushes.begin());
        drop(given_up);
        assert_eq!(other.done(), Verdict::Lost);
    }

    /// A flush of a disk that may lose one write, and tells the first flush that looks.
    struct UnderWay {
        flush: Flush,
        /// When the kernel has looked: is it told of a lost write, and was one lost by then?
        look: Option<(bool, bool)>,
        /// Was a write lost when it was first called done?
        promise: Option<bool>,
    }

    impl UnderWay {
        fn new(flushes: &Arc<Flushes>) -> Self {
            Self {
                flush: flushes.begin(),
                look: None,
                promise: None,
            }
        }

        /// True if it has ended.
        fn reap(&mut self) -> bool {
            let Some((told, lost)) = self.look.take() else {
                return false;
            };
            if told {
                self.flush.failed();
                return true;
            }
            let promise = *self.promise.get_or_insert(lost);
            let verdict = self.flush.done();
            assert!(
                verdict != Verdict::Kept || !promise,
                "a lost write was kept from it"
            );
            verdict != Verdict::Again
        }
    }

    #[test]
    fn fe_14_no_flush_from_which_a_lost_write_was_kept_is_ever_done() {
        let mut seed = 0x9E37_79B9_7F4A_7C15_u64;
        let mut random = |below: usize| {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            usize::try_from(seed >> 33).unwrap() % below
        };
        for _ in 0..20_000 {
            let flushes = Arc::new(Flushes::default());
            let mut untold = false;
            let mut lost = false;
            let mut under_way: Vec<UnderWay> = Vec::new();
            for step in 0..40 {
                match random(4) {
                    0 if under_way.len() < 4 => under_way.push(UnderWay::new(&flushes)),
                    1 if step == 10 => (untold, lost) = (true, true),
                    1 | 2 if !under_way.is_empty() => {
                        let at = random(under_way.len());
                        let look = || (std::mem::take(&mut untold), lost);
                        under_way[at].look.get_or_insert_with(look);
                    }
                    _ if !under_way.is_empty() => {
                        let at = random(under_way.len());
                        if under_way[at].reap() {
                            under_way.swap_remove(at);
                        }
                    }
                    _ => {}
                }
            }
        }
    }
}
