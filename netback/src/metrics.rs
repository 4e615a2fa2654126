//! What a queue counts about itself: plain numbers, written by one thread.

use crate::filter::Reason;

/// Counters of one queue since it was connected. Directions are the guest's.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Frames that the guest has transmitted and the tap has taken.
    pub tx_frames: u64,
    /// Their bytes.
    pub tx_bytes: u64,
    /// Frames of the guest that were refused: malformed slots, missing grants, headers that do not
    /// fit what was said about them.
    pub tx_refused: u64,
    /// Frames of the guest that the tap has not taken, for instance because the interface is down.
    pub tx_dropped: u64,
    /// Frames of the guest that its policy does not let out, by [`Reason::index`].
    pub tx_denied: [u64; Reason::COUNT],
    /// Frames that the guest has received, whole.
    pub rx_frames: u64,
    /// Their bytes.
    pub rx_bytes: u64,
    /// Frames for the guest that it cannot take: more than was agreed to.
    pub rx_refused: u64,
    /// Frames for the guest that are longer than one can be, or than its MTU allowed when it connected
    /// and its buffers have room for.
    pub rx_long: u64,
    /// Frames for the guest that it has not asked for: multicast that is not on its list.
    pub rx_filtered: u64,
    /// Frames for the guest that its policy does not let in, by [`Reason::index`].
    pub rx_denied: [u64; Reason::COUNT],
    /// Frames for the guest that were thrown away because it had stopped receiving.
    pub rx_dropped: u64,
    /// Frames that were read here and belong to another queue.
    pub rx_handed: u64,
    /// Those of them that were thrown away: too many waited there, or there is no such queue.
    pub rx_crowded: u64,
    /// Frames whose pages the guest took away while they were being received.
    pub rx_failed: u64,
    /// Times the guest was notified.
    pub notifications: u64,
}

impl Counters {
    /// A frame of `len` bytes was sent, and the tap has taken it or not.
    pub(crate) fn count_sent(&mut self, len: u16, is_taken: bool) {
        if is_taken {
            self.tx_frames += 1;
            self.tx_bytes += u64::from(len);
        } else {
            self.tx_dropped += 1;
        }
    }

    /// A frame of `len` bytes was copied to the guest, all of it or not.
    pub(crate) fn count_received(&mut self, len: usize, is_whole: bool) {
        if is_whole {
            self.rx_frames += 1;
            self.rx_bytes += len as u64;
        } else {
            self.rx_failed += 1;
        }
    }

    /// How many numbers these are.
    pub const COUNT: usize = PLAIN + 2 * Reason::COUNT;

    /// All of them, in the order of [`of_numbers`](Self::of_numbers).
    pub fn numbers(&self) -> impl Iterator<Item = u64> {
        let plain = [
            self.tx_frames,
            self.tx_bytes,
            self.tx_refused,
            self.tx_dropped,
            self.rx_frames,
            self.rx_bytes,
            self.rx_refused,
            self.rx_long,
            self.rx_filtered,
            self.rx_dropped,
            self.rx_handed,
            self.rx_crowded,
            self.rx_failed,
            self.notifications,
        ];
        let denied = self.tx_denied.into_iter().chain(self.rx_denied);
        plain.into_iter().chain(denied)
    }

    /// What [`numbers`](Self::numbers) has told; 0 for those that are missing.
    #[must_use]
    pub fn of_numbers(numbers: &[u64]) -> Self {
        let mut numbers = numbers.iter().copied().chain(std::iter::repeat(0));
        let mut next = || numbers.next().unwrap_or(0);
        Self {
            tx_frames: next(),
            tx_bytes: next(),
            tx_refused: next(),
            tx_dropped: next(),
            rx_frames: next(),
            rx_bytes: next(),
            rx_refused: next(),
            rx_long: next(),
            rx_filtered: next(),
            rx_dropped: next(),
            rx_handed: next(),
            rx_crowded: next(),
            rx_failed: next(),
            notifications: next(),
            tx_denied: std::array::from_fn(|_| next()),
            rx_denied: std::array::from_fn(|_| next()),
        }
    }
}

/// Those that are no list.
const PLAIN: usize = 14;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_told_and_understood_in_one_order() {
        let numbers: Vec<u64> = (1..).take(Counters::COUNT).collect();
        let counters = Counters::of_numbers(&numbers);
        assert_eq!(counters.numbers().collect::<Vec<_>>(), numbers);
        assert_eq!(Counters::of_numbers(&[]), Counters::default());
        assert_eq!((counters.tx_frames, counters.notifications), (1, 14));
    }
}
