//! Events that bring no request: an honest guest causes a few, a hostile one any number.
//!
//! The kernel delays such events for its own backends, but not for user space, which acknowledges
//! them without telling (`drivers/xen/evtchn.c`, `evtchn_write`). So the port of a guest that keeps
//! ringing for nothing stays masked for a while, which costs nobody but that guest (RNG-05).

use std::time::{Duration, Instant};

/// Decides when a port may ring again.
#[derive(Debug, Default)]
pub(crate) struct Storm {
    idle_events: u32,
}

impl Storm {
    /// An event came; until when its port shall stay masked, if at all.
    ///
    /// The clock is asked only then: in a PV dom0, telling the time is a system call.
    #[must_use]
    pub(crate) fn on_event(&mut self, now: impl FnOnce() -> Instant) -> Option<Instant> {
        self.idle_events = self.idle_events.saturating_add(1);
        let over = self.idle_events.checked_sub(TOLERATED)?;
        let delay = FIRST_DELAY
            .checked_mul(1 << over.min(16))
            .map_or(LONGEST_DELAY, |delay| delay.min(LONGEST_DELAY));
        Some(now() + delay)
    }

    /// A request came.
    pub(crate) const fn on_request(&mut self) {
        self.idle_events = 0;
    }
}

/// Events without a request in between that are nobody's fault: the guest may notify for what was
/// already found by looking.
const TOLERATED: u32 = 64;
const FIRST_DELAY: Duration = Duration::from_millis(1);
const LONGEST_DELAY: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rng_05_a_storm_is_slowed_down_and_forgiven() {
        let now = Instant::now();
        let mut storm = Storm::default();
        for _ in 1..TOLERATED {
            assert_eq!(storm.on_event(|| now), None);
        }
        let delays: Vec<Duration> = (0..14)
            .map(|_| storm.on_event(|| now).unwrap() - now)
            .collect();
        assert_eq!(delays[..4], [1, 2, 4, 8].map(Duration::from_millis));
        assert_eq!(delays[13], LONGEST_DELAY);
        storm.on_request();
        assert_eq!(storm.on_event(|| now), None);
    }
}
