//! Verified random requests, many at a time.

use std::collections::HashMap;
use std::ops::Range;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use ring_proto::blkif::op;

use super::{Blkfront, Chance, Done, Io, Model};

/// How long the backend may take for any one answer.
const PATIENCE: Duration = Duration::from_secs(20);

/// Sectors of a page.
const PER_PAGE: usize = 8;

/// What to send.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// Requests under way at a time, on each queue.
    pub depth: usize,
    /// Longest request, in 512-byte sectors.
    pub max_sectors: usize,
    /// Of a hundred requests, so many are writes.
    pub writes: usize,
    /// So many are flushes.
    pub flushes: usize,
    /// So many are discards.
    pub discards: usize,
    /// Data lies anywhere in its pages instead of filling them.
    pub scattered: bool,
    /// Which random numbers.
    pub seed: u64,
}

impl Plan {
    /// Half reads, half writes, some flushes, up to 44 KiB.
    pub const MIXED: Self = Self {
        depth: 16,
        max_sectors: 88,
        writes: 48,
        flushes: 2,
        discards: 0,
        scattered: false,
        seed: 1,
    };
}

/// How much was done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Reads, all of them verified.
    pub reads: u64,
    /// Writes.
    pub writes: u64,
    /// Flushes.
    pub flushes: u64,
    /// Discards.
    pub discards: u64,
    /// Bytes read and written.
    pub bytes: u64,
}

impl Tally {
    /// Requests answered.
    #[must_use]
    pub const fn requests(&self) -> u64 {
        self.reads + self.writes + self.flushes + self.discards
    }
}

/// A request under way.
#[derive(Debug)]
struct Flight {
    range: Range<usize>,
    generation: u32,
}

/// Where a request reads or writes, on the disk and in memory.
#[derive(Debug)]
struct Place {
    range: Range<usize>,
    segments: Vec<(u8, u8)>,
}

/// A frontend under load.
#[derive(Debug)]
pub struct Load<'a> {
    front: &'a mut Blkfront,
    model: &'a mut Model,
    plan: Plan,
    chance: Chance,
    flights: HashMap<(usize, u64), Flight>,
    tally: Tally,
}

impl<'a> Load<'a> {
    /// Nothing is sent yet.
    #[must_use]
    pub fn new(front: &'a mut Blkfront, model: &'a mut Model, plan: Plan) -> Self {
        Self {
            front,
            model,
            plan,
            chance: Chance::new(plan.seed),
            flights: HashMap::new(),
            tally: Tally::default(),
        }
    }

    /// Sends `requests` requests at the planned depth and waits for the answer to each.
    ///
    /// # Errors
    /// Any answer that is wrong, missing, or not what Linux would accept.
    pub fn run(&mut self, requests: usize) -> anyhow::Result<Tally> {
        let mut unsent = requests;
        while unsent > 0 || !self.flights.is_empty() {
            unsent -= self.fill(unsent)?;
            self.reap()?;
        }
        Ok(self.tally)
    }

    /// As [`run`](Self::run), but stops sending when `stop` says so.
    ///
    /// # Errors
    /// As [`run`](Self::run).
    pub fn run_until(&mut self, stop: impl Fn() -> bool) -> anyhow::Result<Tally> {
        while !stop() {
            self.fill(usize::MAX)?;
            self.reap()?;
        }
        self.run(0)
    }

    /// Sends until every queue is at its depth, waiting for nothing; how many. At most `most`.
    ///
    /// # Errors
    /// The guest is out of pages, or the machine is gone.
    pub fn fill(&mut self, most: usize) -> anyhow::Result<usize> {
        let mut sent = 0;
        for queue in 0..self.front.queues().len() {
            while sent < most && self.front.queues()[queue].open() < self.plan.depth {
                if !self.send_one(queue)? {
                    break;
                }
                sent += 1;
            }
            self.front.queues()[queue].publish()?;
        }
        Ok(sent)
    }

    /// What was answered so far.
    #[must_use]
    pub const fn tally(&self) -> Tally {
        self.tally
    }

    /// Sends one request that meets none under way; `false` if there is no room for it.
    fn send_one(&mut self, queue: usize) -> anyhow::Result<bool> {
        let dice = self.chance.below(100);
        let Plan {
            writes,
            flushes,
            discards,
            ..
        } = self.plan;
        if dice < flushes {
            return self.send(queue, &Io::Flush, 0..0, 0);
        }
        if dice < flushes + discards {
            return self.send_discard(queue);
        }
        let write = dice < flushes + discards + writes;
        let Some(Place { range, segments }) = self.choose(write) else {
            return Ok(false);
        };
        let sector = range.start as u64;
        let segments = &segments;
        if write {
            let (generation, data) = self.model.next_generation(range.clone());
            let data = &data;
            let io = Io::Write {
                sector,
                segments,
                data,
            };
            self.send(queue, &io, range, generation)
        } else {
            self.send(queue, &Io::Read { sector, segments }, range, 0)
        }
    }

    fn send(
        &mut self,
        queue: usize,
        io: &Io<'_>,
        range: Range<usize>,
        generation: u32,
    ) -> anyhow::Result<bool> {
        let Some(id) = self.front.queues()[queue].submit(io)? else {
            self.model.release(range);
            return Ok(false);
        };
        let flight = Flight { range, generation };
        self.flights.insert((queue, id), flight);
        Ok(true)
    }

    /// Discards a range that the disk can forget as a whole.
    fn send_discard(&mut self, queue: usize) -> anyhow::Result<bool> {
        let discard = self.front.disk().discard;
        let discard = discard.context("the plan discards, the disk does not")?;
        let unit = usize::try_from(discard.granularity / 512)?.max(1);
        let sectors = self.model.sectors();
        let first = self.chance.below(sectors / unit) * unit;
        let count = (1 + self.chance.below(8)) * unit;
        let range = first..sectors.min(first + count);
        if range.len() % unit != 0 || !self.model.reserve(range.clone(), true) {
            return Ok(false);
        }
        let io = Io::Discard {
            sector: range.start as u64,
            sectors: range.len() as u64,
            secure: false,
        };
        self.send(queue, &io, range, 0)
    }

    /// A range that nothing under way touches, reserved, and how its data lies in pages.
    fn choose(&mut self, write: bool) -> Option<Place> {
        let unit = usize::try_from(self.front.disk().sector_size / 512).ok()?;
        let most_segments = self.front.max_segments();
        for _ in 0..16 {
            let wanted = (1 + self.chance.below(self.plan.max_sectors / unit)) * unit;
            let segments = if self.plan.scattered && unit == 1 {
                scattered(&mut self.chance, wanted, most_segments)
            } else {
                packed(wanted, most_segments)
            };
            let count: usize = segments.iter().map(|&(f, l)| usize::from(l - f) + 1).sum();
            let places = (self.model.sectors().checked_sub(count)?) / unit + 1;
            let first = self.chance.below(places) * unit;
            let range = first..first + count;
            if self.model.reserve(range.clone(), write) {
                return Some(Place { range, segments });
            }
        }
        None
    }

    /// Takes all answers there are; waits for the first if there is none.
    ///
    /// # Errors
    /// As [`run`](Self::run).
    pub fn reap(&mut self) -> anyhow::Result<()> {
        let deadline = Instant::now() + PATIENCE;
        while !self.flights.is_empty() {
            let mut some = false;
            for queue in 0..self.front.queues().len() {
                while let Some(done) = self.front.queues()[queue].take()? {
                    self.finish(queue, &done)?;
                    some = true;
                }
            }
            if some {
                return Ok(());
            }
            let mut more = false;
            for queue in self.front.queues() {
                more |= queue.rearm()?;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if !more && !self.front.wait(left)? {
                let missing: Vec<_> = self.flights.keys().take(8).collect();
                bail!("no answer within {PATIENCE:?} to (queue, id) {missing:?} and others");
            }
        }
        Ok(())
    }

    fn finish(&mut self, queue: usize, done: &Done) -> anyhow::Result<()> {
        let flight = self.flights.remove(&(queue, done.id));
        let Flight { range, generation } = flight.context("an answer to nothing")?;
        ensure!(
            done.status == 0,
            "operation {} on sectors {range:?} failed with {}",
            done.operation,
            done.status
        );
        let tally = &mut self.tally;
        match done.operation {
            op::READ => {
                ensure!(
                    done.data.len() == range.len() * super::model::SECTOR,
                    "short read"
                );
                self.model.check(range.start, &done.data)?;
                tally.reads += 1;
            }
            op::WRITE => {
                self.model.written(range.clone(), generation);
                tally.writes += 1;
            }
            op::DISCARD => {
                self.model.zeroed_out(range.clone());
                tally.discards += 1;
            }
            _ => tally.flushes += 1,
        }
        if matches!(done.operation, op::READ | op::WRITE) {
            tally.bytes += (range.len() * super::model::SECTOR) as u64;
        }
        self.model.release(range);
        Ok(())
    }
}

/// Whole pages, the last one as long as needed.
#[must_use]
pub fn packed(sectors: usize, most_segments: usize) -> Vec<(u8, u8)> {
    let sectors = sectors.min(most_segments * PER_PAGE);
    let last_of = |count: usize| u8::try_from(count.min(PER_PAGE)).unwrap_or(8) - 1;
    (0..sectors)
        .step_by(PER_PAGE)
        .map(|at| (0, last_of(sectors - at)))
        .collect()
}

/// Pieces of pages, wherever and however long, until there are enough sectors or segments.
fn scattered(chance: &mut Chance, sectors: usize, most_segments: usize) -> Vec<(u8, u8)> {
    let mut segments = Vec::new();
    let mut left = sectors;
    while left > 0 && segments.len() < most_segments {
        let first = chance.below(PER_PAGE);
        let len = (1 + chance.below(PER_PAGE - first)).min(left);
        let sect = |at: usize| u8::try_from(at).unwrap_or(7);
        segments.push((sect(first), sect(first + len - 1)));
        left -= len;
    }
    segments
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packed_segments_cover_what_was_asked_for() {
        assert_eq!(packed(1, 11), [(0, 0)]);
        assert_eq!(packed(8, 11), [(0, 7)]);
        assert_eq!(packed(20, 11), [(0, 7), (0, 7), (0, 3)]);
        assert_eq!(packed(1000, 11).len(), 11);
    }

    #[test]
    fn scattered_segments_stay_in_their_pages() {
        let mut chance = Chance::new(5);
        for wanted in 1..200 {
            let segments = scattered(&mut chance, wanted, 256);
            assert!(
                segments
                    .iter()
                    .all(|&(first, last)| first <= last && last < 8)
            );
            let sum: usize = segments.iter().map(|&(f, l)| usize::from(l - f) + 1).sum();
            assert_eq!(sum, wanted);
        }
    }
}
