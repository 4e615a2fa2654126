//! What a VIF's worker counts and remembers, where its broker can see it: the layout of its
//! [`Board`].
//!
//! ```text
//! queue 0: counters | last frames dropped    queue 1: ...    rules: how often each has decided
//! ```
//!
//! Each queue writes its own part. The numbers of rules belong to all, and begin anew with a policy.

mod records;

use std::io;
use std::ops::Range;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use broker::board::{Board, Tally};

pub use self::records::{Denial, Record};
use self::records::{RECORDS_LEN, Records};
use crate::metrics::Counters;

/// Rules that are counted: more than fit into a policy's message.
const RULES: usize = 1 << 15;
/// Numbers of one queue.
const QUEUE_LEN: usize = Counters::COUNT + RECORDS_LEN;

/// The broker's end.
#[derive(Debug)]
pub struct Ledger {
    board: Board,
    queues: usize,
    begun: SystemTime,
}

impl Ledger {
    /// Nothing yet, for so many queues.
    ///
    /// # Errors
    /// The host has no memory or no descriptor left.
    pub fn new(queues: usize) -> io::Result<Self> {
        let board = Board::new(queues * QUEUE_LEN + RULES)?;
        Ok(Self {
            board,
            queues,
            begun: SystemTime::now(),
        })
    }

    /// A number that no other one of this interface has.
    #[must_use]
    pub fn id(&self) -> u64 {
        let since = self.begun.duration_since(SystemTime::UNIX_EPOCH);
        let nanoseconds = since.unwrap_or_default().as_nanos();
        u64::try_from(nanoseconds).unwrap_or(u64::MAX)
    }

    /// A descriptor for the worker.
    ///
    /// # Errors
    /// No descriptor is left.
    pub fn share(&self) -> io::Result<OwnedFd> {
        self.board.share()
    }

    /// What each queue has counted.
    ///
    /// # Errors
    /// The kernel's.
    pub fn counters(&self) -> io::Result<Vec<Counters>> {
        let of = |queue| {
            let numbers = self.board.read(counters_of(queue))?;
            Ok(Counters::of_numbers(&numbers))
        };
        (0..self.queues).map(of).collect()
    }

    /// How often each of the first `count` rules has decided.
    ///
    /// # Errors
    /// The kernel's.
    pub fn rules(&self, count: usize) -> io::Result<Vec<u64>> {
        let start = self.queues * QUEUE_LEN;
        self.board.read(start..start + count.min(RULES))
    }

    /// The frames that were dropped last, each queue's in their order.
    ///
    /// # Errors
    /// The kernel's.
    pub fn dropped(&self) -> io::Result<Vec<Record>> {
        let mut all = Vec::new();
        for queue in 0..self.queues {
            // What is being written meanwhile differs.
            let seen = self.board.read(records_of(queue))?;
            let again = self.board.read(records_of(queue))?;
            all.extend(records::read(queue, &seen, &again));
        }
        Ok(all)
    }
}

/// The worker's end.
#[derive(Debug)]
pub struct Clerk {
    tally: Arc<Tally>,
    queues: usize,
}

impl Clerk {
    /// That of a ledger for so many queues.
    ///
    /// # Errors
    /// It is none, or there is no memory left.
    pub fn adopt(file: &OwnedFd, queues: usize) -> io::Result<Self> {
        let tally = Arc::new(Tally::adopt(file)?);
        Ok(Self { tally, queues })
    }

    /// A queue's part, for its thread.
    #[must_use]
    pub fn page(&self, queue: usize) -> Page {
        Page {
            tally: Arc::clone(&self.tally),
            queue,
            records: Records::default(),
        }
    }

    /// A rule has decided about a frame.
    pub(crate) fn count_rule(&self, rule: usize) {
        let number = self.rules().get(rule);
        number.map(|number| number.fetch_add(1, Ordering::Relaxed));
    }

    /// The rules are others now, where there were `count` of them.
    pub(crate) fn forget_rules(&self, count: usize) {
        // No more than that: where nobody has counted, there is no memory yet.
        for number in self.rules().iter().take(count) {
            number.store(0, Ordering::Relaxed);
        }
    }

    fn rules(&self) -> &[AtomicU64] {
        let start = self.queues * QUEUE_LEN;
        self.tally.all().get(start..).unwrap_or_default()
    }
}

/// What one queue writes.
#[derive(Debug)]
pub struct Page {
    tally: Arc<Tally>,
    queue: usize,
    records: Records,
}

impl Page {
    /// Shows what the queue has counted.
    pub(crate) fn publish(&self, counters: &Counters) {
        let numbers = self.tally.all().get(counters_of(self.queue));
        let numbers = numbers.unwrap_or_default().iter();
        for (number, value) in numbers.zip(counters.numbers()) {
            number.store(value, Ordering::Relaxed);
        }
    }

    /// Remembers a frame that is dropped, of which `head` is seen.
    pub(crate) fn remember(&mut self, denial: Denial, head: &[u8]) {
        let numbers = self.tally.all().get(records_of(self.queue));
        self.records
            .write(numbers.unwrap_or_default(), denial, head);
    }
}

fn counters_of(queue: usize) -> Range<usize> {
    let start = queue * QUEUE_LEN;
    start..start + Counters::COUNT
}

fn records_of(queue: usize) -> Range<usize> {
    let start = counters_of(queue).end;
    start..start + RECORDS_LEN
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::filter::Reason;
    use crate::policy::Direction;

    #[test]
    fn each_queue_has_its_page_and_all_have_the_rules() {
        let ledger = Ledger::new(2).unwrap();
        let clerk = Clerk::adopt(&ledger.share().unwrap(), 2).unwrap();
        let mut pages = [clerk.page(0), clerk.page(1)];
        let mut counters = [Counters::default(), Counters::default()];
        counters[0].tx_frames = 5;
        counters[1].rx_denied[3] = 7;
        for (page, counters) in pages.iter().zip(&counters) {
            page.publish(counters);
        }
        let denial = Denial {
            direction: Direction::Out,
            reason: Reason::Rule,
            rule: Some(41),
            len: 1514,
        };
        pages[1].remember(denial, &[1, 2, 3]);
        clerk.count_rule(0);
        clerk.count_rule(2);
        clerk.count_rule(2);
        clerk.count_rule(RULES);
        assert_eq!(ledger.counters().unwrap(), counters);
        assert_eq!(ledger.rules(3).unwrap(), [1, 0, 2]);
        let dropped = ledger.dropped().unwrap();
        let [record] = &dropped[..] else {
            panic!("{dropped:?}");
        };
        assert_eq!((record.queue, record.number), (1, 0));
        assert_eq!((record.denial, &record.head[..]), (denial, &[1, 2, 3][..]));
        clerk.forget_rules(3);
        assert_eq!(ledger.rules(3).unwrap(), [0; 3]);
    }
}
