//! So many a second.

use std::time::{Duration, Instant};

use broker::throttle::{Rate, Throttle};

/// Lets so much pass, and drops what is beyond. All queues of an interface share it.
#[derive(Debug)]
pub(super) struct Meter {
    /// `None`: nothing passes.
    bucket: Option<Throttle>,
}

impl Meter {
    /// `rate` a second, and `burst` of them at once, but no less than `rate`.
    pub(super) fn new(rate: u32, burst: u32, now: Instant) -> Self {
        let rate = Rate::new(rate.into(), Duration::from_secs(1), burst.into());
        Self {
            bucket: rate.map(|rate| Throttle::new(Some(rate), now)),
        }
    }

    /// Does one more pass? The time is only asked for if it matters.
    pub(super) fn admits(&self, now: &impl Fn() -> Instant) -> bool {
        self.bucket
            .as_ref()
            .is_some_and(|bucket| bucket.admit(1, now()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn none_a_second_is_none_at_all() {
        let start = Instant::now();
        let meter = Meter::new(0, 100, start);
        assert!(!meter.admits(&|| panic!("the time does not matter")));
        let meter = Meter::new(2, 4, start);
        assert_eq!((0..9).filter(|_| meter.admits(&|| start)).count(), 4);
    }
}
