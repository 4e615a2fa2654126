//! When to doze instead of asking for a ring.
//!
//! A guest that transmits packet by packet rings for each, and each ring costs two switches of
//! context. When packets follow each other fast, not asking and looking again a little later gathers
//! many for the price of one; when the guest waits for an answer to each, nothing is gathered and
//! the answer to nothing is late. Which of both it is, a trial tells: one that gathers nothing makes
//! the next one rarer. A lone packet is never held back: it is sent before any doze. And where rings
//! are rare, nothing is tried at all.

use std::time::Duration;

/// Decides about one transmit ring.
#[derive(Debug)]
pub(super) struct Nap {
    dozing: bool,
    /// Rings in a row that brought few packets.
    lonely: u32,
    /// When the first of them came.
    since: Duration,
    /// So many of them make a trial.
    patience: u32,
}

/// How long a doze is. The system's timers add their slack, 50 us as a rule.
pub(super) const DOZE: Duration = Duration::from_micros(30);

/// Most bytes of a packet that is short, on average.
const SMALL: u64 = 2048;
/// Rings that come at least so often are worth a trial.
const FAST: Duration = Duration::from_micros(250);
/// What the time of a clock that only moves with the kernel's ticks may be off by.
const BLUR: Duration = Duration::from_millis(10);
/// Packets in a look that make a doze worth its price.
const MANY: u32 = 3;
/// A ring that brings as many needs no help.
const ENOUGH: u32 = 16;
const LEAST_PATIENCE: u32 = 16;
const MOST_PATIENCE: u32 = 4096;

impl Default for Nap {
    fn default() -> Self {
        Self {
            dozing: false,
            lonely: 0,
            since: Duration::ZERO,
            patience: LEAST_PATIENCE,
        }
    }
}

impl Nap {
    /// A look after a ring or a doze has found `packets` of `bytes` together, and nothing is left;
    /// true if the next look comes after a doze, false if the guest is to be asked for a ring. `now`
    /// is asked seldom, and need not be exact.
    pub(super) fn doze_after(
        &mut self,
        packets: u32,
        bytes: u64,
        now: impl FnOnce() -> Duration,
    ) -> bool {
        if bytes > SMALL * u64::from(packets) {
            // A few of these are worth a ring, and their sender soon waits until they are answered.
            self.dozing = false;
            self.lonely = 0;
        } else if self.dozing {
            self.dozing = packets >= MANY;
            if self.dozing {
                self.patience = LEAST_PATIENCE;
            } else if self.patience < MOST_PATIENCE {
                self.patience *= 2;
            }
        } else if packets >= ENOUGH {
            self.lonely = 0;
        } else if packets > 0 {
            self.count_ring(now);
        }
        self.dozing
    }

    /// A ring that brought few packets: enough of them in a short time make a trial.
    fn count_ring(&mut self, now: impl FnOnce() -> Duration) {
        self.lonely += 1;
        if self.lonely == 1 {
            self.since = now();
        } else if self.lonely >= self.patience {
            let took = now().saturating_sub(self.since);
            self.dozing = took <= FAST * self.patience + BLUR;
            self.lonely = 0;
        }
    }
}

impl Nap {
    /// Does the next look come after a doze?
    pub(super) const fn is_dozing(&self) -> bool {
        self.dozing
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// All at once.
    const NOW: fn() -> Duration = || Duration::ZERO;

    /// Rings with so many packets until a doze, at most `most` of them.
    fn rings_until_doze(nap: &mut Nap, packets: u32, most: u32) -> Option<u32> {
        (1..=most).find(|_| nap.doze_after(packets, u64::from(packets) * 64, NOW))
    }

    #[test]
    fn packets_that_follow_each_other_are_gathered_until_they_cease() {
        let mut nap = Nap::default();
        assert_eq!(rings_until_doze(&mut nap, 1, 100), Some(LEAST_PATIENCE));
        for _ in 0..1000 {
            assert!(nap.doze_after(8, 8 * 64, NOW));
        }
        assert!(!nap.doze_after(0, 0, NOW));
    }

    #[test]
    fn a_guest_that_waits_for_answers_is_soon_left_alone() {
        let mut nap = Nap::default();
        let mut dozes = 0;
        for _ in 0..100_000 {
            if nap.doze_after(1, 1514, NOW) {
                dozes += 1;
                assert!(!nap.doze_after(0, 0, NOW));
            }
        }
        assert!(dozes < 35, "{dozes} dozes");
    }

    #[test]
    fn where_rings_are_rare_nothing_is_tried() {
        let mut nap = Nap::default();
        // As ping does, and a little faster than what counts as fast.
        for (gap, dozes) in [(20_000_000, false), (200_000, true)] {
            let ring = |n: u64| {
                let now = || Duration::from_nanos(n * gap);
                nap.doze_after(1, 98, now)
            };
            assert_eq!((0..1000).any(ring), dozes, "{gap} ns");
        }
    }

    #[test]
    fn long_packets_are_not_waited_for() {
        let mut nap = Nap::default();
        assert_eq!(rings_until_doze(&mut nap, 1, 100), Some(LEAST_PATIENCE));
        assert!(!nap.doze_after(8, 8 * 9000, NOW));
        for _ in 0..10_000 {
            assert!(!nap.doze_after(3, 3 * 65_000, NOW));
        }
    }

    #[test]
    fn what_comes_in_plenty_or_not_at_all_needs_no_doze() {
        let mut nap = Nap::default();
        assert_eq!(rings_until_doze(&mut nap, ENOUGH, 10_000), None);
        assert_eq!(rings_until_doze(&mut nap, 0, 10_000), None);
    }
}
