//! When to doze instead of asking for a ring.
//!
//! A guest that transmits packet by packet rings for each, and each ring costs two switches of
//! context. When packets follow each other fast, not asking and looking again a little later gathers
//! many for the price of one; when the guest waits for an answer to each, nothing is gathered and
//! the answer to nothing is late. Which of both it is, a trial tells: one that gathers nothing makes
//! the next one rarer. A lone packet is never held back: it is sent before any doze.

use std::time::Duration;

/// Decides about one transmit ring.
#[derive(Debug)]
pub(super) struct Nap {
    dozing: bool,
    /// Rings in a row that brought few packets.
    lonely: u32,
    /// So many of them make a trial.
    patience: u32,
}

/// How long a doze is. The system's timers add their slack, 50 us as a rule.
pub(super) const DOZE: Duration = Duration::from_micros(30);

/// Most bytes of a packet that is short, on average.
const SMALL: u64 = 2048;
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
            patience: LEAST_PATIENCE,
        }
    }
}

impl Nap {
    /// A look after a ring or a doze has found `packets` of `bytes` together, and nothing is left; true if the next look
    /// comes after a doze, false if the guest is to be asked for a ring.
    pub(super) const fn doze_after(&mut self, packets: u32, bytes: u64) -> bool {
        if bytes > SMALL * packets as u64 {
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
        } else if packets > 0 {
            self.lonely = if packets < ENOUGH { self.lonely + 1 } else { 0 };
            if self.lonely >= self.patience {
                self.lonely = 0;
                self.dozing = true;
            }
        }
        self.dozing
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

    /// Rings with so many packets until a doze, at most `most` of them.
    fn rings_until_doze(nap: &mut Nap, packets: u32, most: u32) -> Option<u32> {
        (1..=most).find(|_| nap.doze_after(packets, u64::from(packets) * 64))
    }

    #[test]
    fn packets_that_follow_each_other_are_gathered_until_they_cease() {
        let mut nap = Nap::default();
        assert_eq!(rings_until_doze(&mut nap, 1, 100), Some(LEAST_PATIENCE));
        for _ in 0..1000 {
            assert!(nap.doze_after(8, 8 * 64));
        }
        assert!(!nap.doze_after(0, 0));
    }

    #[test]
    fn a_guest_that_waits_for_answers_is_soon_left_alone() {
        let mut nap = Nap::default();
        let mut dozes = 0;
        for _ in 0..100_000 {
            if nap.doze_after(1, 1514) {
                dozes += 1;
                assert!(!nap.doze_after(0, 0));
            }
        }
        assert!(dozes < 35, "{dozes} dozes");
    }

    #[test]
    fn long_packets_are_not_waited_for() {
        let mut nap = Nap::default();
        assert_eq!(rings_until_doze(&mut nap, 1, 100), Some(LEAST_PATIENCE));
        assert!(!nap.doze_after(8, 8 * 9000));
        for _ in 0..10_000 {
            assert!(!nap.doze_after(3, 3 * 65_000));
        }
    }

    #[test]
    fn what_comes_in_plenty_or_not_at_all_needs_no_doze() {
        let mut nap = Nap::default();
        assert_eq!(rings_until_doze(&mut nap, ENOUGH, 10_000), None);
        assert_eq!(rings_until_doze(&mut nap, 0, 10_000), None);
    }
}
