//! The frames that a queue has dropped last.
//!
//! One writes, and never waits; others read when they like. An entry begins with a number that is odd
//! while the entry is being written, and even afterwards, a higher one each time.

use std::sync::atomic::{AtomicU64, Ordering, fence};
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

use crate::filter::{HEAD, Reason};
use crate::policy::Direction;

/// Frames that a queue remembers.
const RECORDS: usize = 64;
/// Numbers in front of the frame: of the entry, the time, what was decided, lengths.
const FRONT: usize = 4;
const ENTRY: usize = FRONT + HEAD / size_of::<u64>();
/// Numbers of all of them.
pub(super) const RECORDS_LEN: usize = RECORDS * ENTRY;

/// Why a frame is dropped, and how long it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Denial {
    /// Which way it went.
    pub direction: Direction,
    /// The check that it did not pass.
    pub reason: Reason,
    /// The rule of the policy that decided, if it was one.
    pub rule: Option<usize>,
    /// Bytes of the whole frame.
    pub len: usize,
}

/// A frame that was dropped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// The queue that has dropped it.
    pub queue: usize,
    /// How many this queue had dropped before.
    pub number: u64,
    /// When, since 1970.
    pub time: Duration,
    /// Why.
    pub denial: Denial,
    /// Its first bytes, [`HEAD`] at most.
    pub head: Vec<u8>,
}

/// The writer's memory of what it has written.
#[derive(Debug, Default)]
pub(super) struct Records {
    next: u64,
}

impl Records {
    pub(super) fn write(&mut self, numbers: &[AtomicU64], denial: Denial, head: &[u8]) {
        let number = self.next;
        self.next += 1;
        let entry = usize::try_from(number).unwrap_or(0) % RECORDS * ENTRY;
        let Some((first, rest)) = numbers
            .get(entry..entry + ENTRY)
            .and_then(<[_]>::split_first)
        else {
            return;
        };
        first.store(2 * number + 1, Ordering::Relaxed);
        fence(Ordering::Release);
        let head = head.get(..HEAD).unwrap_or(head);
        let now = clock_gettime(ClockId::RealtimeCoarse);
        let now = Duration::try_from(now).unwrap_or_default();
        let front = [
            u64::try_from(now.as_nanos()).unwrap_or(u64::MAX),
            pack([
                u64::from(denial.direction == Direction::In),
                denial.reason.index() as u64,
                // 0 is none.
                denial.rule.map_or(0, |rule| rule as u64 + 1),
            ]),
            pack([head.len() as u64, 0, denial.len as u64]),
        ];
        let words = head.chunks(size_of::<u64>()).map(|bytes| {
            let mut word = [0; size_of::<u64>()];
            word.iter_mut()
                .zip(bytes)
                .for_each(|(to, from)| *to = *from);
            u64::from_ne_bytes(word)
        });
        for (number, value) in rest.iter().zip(front.into_iter().chain(words)) {
            number.store(value, Ordering::Relaxed);
        }
        first.store(2 * number + 2, Ordering::Release);
    }
}

/// What a queue has written, as it was `seen` and seen `again`; in order. Nothing of it is to be
/// trusted: what makes no sense is left out.
pub(super) fn read(queue: usize, seen: &[u64], again: &[u64]) -> Vec<Record> {
    let entries = seen.chunks_exact(ENTRY).zip(again.chunks_exact(ENTRY));
    let stable = entries.filter(|(seen, again)| seen == again);
    let mut records: Vec<_> = stable
        .filter_map(|(entry, _)| parse(queue, entry))
        .collect();
    records.sort_unstable_by_key(|record| record.number);
    records
}

fn parse(queue: usize, entry: &[u64]) -> Option<Record> {
    let (&[number, time, decided, lengths], words) = entry.split_first_chunk()?;
    let number = number.checked_sub(2).filter(|number| number % 2 == 0)? / 2;
    let [way, reason, rule] = unpack(decided);
    let [head, _, len] = unpack(lengths);
    let denial = Denial {
        direction: if way == 0 {
            Direction::Out
        } else {
            Direction::In
        },
        reason: *Reason::ALL.get(usize::try_from(reason).ok()?)?,
        rule: usize::try_from(rule).ok()?.checked_sub(1),
        len: usize::try_from(len).ok()?,
    };
    let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_ne_bytes()).collect();
    let head = bytes.get(..usize::try_from(head).ok()?)?.to_vec();
    Some(Record {
        queue,
        number,
        time: Duration::from_nanos(time),
        denial,
        head,
    })
}

/// Three numbers in one: 16, 16 and 32 bits of them.
const fn pack([low, middle, high]: [u64; 3]) -> u64 {
    low & 0xffff | (middle & 0xffff) << 16 | high << 32
}

const fn unpack(packed: u64) -> [u64; 3] {
    [packed & 0xffff, packed >> 16 & 0xffff, packed >> 32]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn board() -> Vec<AtomicU64> {
        (0..RECORDS_LEN).map(|_| AtomicU64::new(0)).collect()
    }

    fn values(board: &[AtomicU64]) -> Vec<u64> {
        let load = |number: &AtomicU64| number.load(Ordering::Relaxed);
        board.iter().map(load).collect()
    }

    const DENIAL: Denial = Denial {
        direction: Direction::In,
        reason: Reason::Default,
        rule: None,
        len: 65_549,
    };

    #[test]
    fn the_last_frames_are_remembered_in_their_order() {
        let board = board();
        let mut records = Records::default();
        for number in 0..100_u8 {
            records.write(&board, DENIAL, &vec![number; usize::from(number) * 4]);
        }
        let seen = values(&board);
        let found = read(3, &seen, &seen);
        assert_eq!(found.len(), RECORDS);
        for (record, number) in found.iter().zip(36_u8..) {
            assert_eq!((record.queue, record.number), (3, number.into()));
            assert_eq!(record.denial, DENIAL);
            let len = (usize::from(number) * 4).min(HEAD);
            assert_eq!(record.head, vec![number; len]);
            assert!(record.time > Duration::from_hours(24 * 365 * 50));
        }
    }

    #[test]
    fn what_is_being_written_or_makes_no_sense_is_left_out() {
        let board = board();
        let mut records = Records::default();
        for _ in 0..4 {
            records.write(&board, DENIAL, &[1; 60]);
        }
        let good = values(&board);
        let numbers = |seen: &[u64], again: &[u64]| {
            let found = read(0, seen, again).into_iter();
            found.map(|record| record.number).collect::<Vec<_>>()
        };
        let changed = |at: usize, value: u64| {
            let mut changed = good.clone();
            changed[at] = value;
            changed
        };
        assert_eq!(numbers(&good, &good), [0, 1, 2, 3]);
        // An odd number, another frame, a reason that there is not, more bytes than there are.
        let begun = changed(ENTRY, 129);
        assert_eq!(numbers(&begun, &begun), [0, 2, 3]);
        assert_eq!(numbers(&good, &changed(2 * ENTRY + 9, 7)), [0, 1, 3]);
        let strange = changed(2, u64::MAX);
        assert_eq!(numbers(&strange, &strange), [1, 2, 3]);
        let long = changed(3, u64::MAX);
        assert_eq!(numbers(&long, &long), [1, 2, 3]);
    }
}
