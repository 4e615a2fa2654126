//! How often a guest may make us do something: looks, log lines, reconnects.

use std::time::{Duration, Instant};

/// A token bucket: `burst` at once, one more every `every`.
#[derive(Debug)]
pub struct Bucket {
    burst: u32,
    every: Duration,
    tokens: u32,
    counted: Instant,
}

impl Bucket {
    /// A full bucket.
    #[must_use]
    pub fn new(burst: u32, every: Duration, now: Instant) -> Self {
        Self {
            burst,
            every,
            tokens: burst,
            counted: now,
        }
    }

    /// Takes a token.
    ///
    /// # Errors
    /// There is none; when there will be one.
    pub fn take(&mut self, now: Instant) -> Result<(), Instant> {
        while self.tokens < self.burst && self.counted + self.every <= now {
            self.tokens += 1;
            self.counted += self.every;
        }
        if self.tokens == self.burst {
            self.counted = now;
        }
        match self.tokens.checked_sub(1) {
            Some(left) => {
                self.tokens = left;
                Ok(())
            }
            None => Err(self.counted + self.every),
        }
    }
}

/// When a device that failed, or that reconnects again and again, may connect next: after 1 s,
/// then twice as long each time up to 60 s, and from the start after a quiet minute.
///
/// A frontend may start over for good reasons (a kernel that boots another one), so the first
/// few times without a fault are free.
#[derive(Debug, Default)]
pub(crate) struct Backoff {
    faults: u32,
    restarts: u32,
    last: Option<Instant>,
    until: Option<Instant>,
}

const QUIET: Duration = Duration::from_secs(60);
const LONGEST: Duration = Duration::from_secs(60);
const FREE_RESTARTS: u32 = 4;

impl Backoff {
    /// The device failed, by the guest's fault or ours.
    pub(crate) fn note_fault(&mut self, now: Instant) {
        self.forget_if_quiet(now);
        self.until = Some(now + delay(self.faults));
        self.faults += 1;
        self.last = Some(now);
    }

    /// The frontend starts over.
    pub(crate) fn note_restart(&mut self, now: Instant) {
        self.forget_if_quiet(now);
        self.restarts = self.restarts.saturating_add(1);
        if let Some(paid) = self.restarts.checked_sub(FREE_RESTARTS + 1) {
            let until = now + delay(paid);
            self.until = Some(self.until.map_or(until, |set| set.max(until)));
        }
        self.last = Some(now);
    }

    /// When it may be served again, if that is not now.
    pub(crate) fn wait_until(&self, now: Instant) -> Option<Instant> {
        self.until.filter(|until| *until > now)
    }

    fn forget_if_quiet(&mut self, now: Instant) {
        let since = self.last.max(self.until);
        if since.is_some_and(|last| now.saturating_duration_since(last) > QUIET) {
            *self = Self::default();
        }
    }
}

fn delay(strikes: u32) -> Duration {
    let seconds = 1_u64.checked_shl(strikes).unwrap_or(u64::MAX);
    Duration::from_secs(seconds).min(LONGEST)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn o7_a_bucket_lets_a_burst_through_and_then_the_rate() {
        let start = Instant::now();
        let mut bucket = Bucket::new(10, Duration::from_secs(6), start);
        let at = |seconds| start + Duration::from_secs(seconds);
        assert_eq!((0..100).filter(|_| bucket.take(at(0)).is_ok()).count(), 10);
        assert_eq!(bucket.take(at(1)), Err(at(6)));
        assert_eq!(bucket.take(at(6)), Ok(()));
        assert_eq!(bucket.take(at(6)), Err(at(12)));
        // A long silence fills it to the brim and no further.
        assert_eq!(
            (0..100).filter(|_| bucket.take(at(9999)).is_ok()).count(),
            10
        );
        let minute: usize = (1..=60)
            .map(|s| (0..9).filter(|_| bucket.take(at(9999 + s)).is_ok()).count())
            .sum();
        assert_eq!(minute, 10);
    }

    #[test]
    fn con_01_faults_wait_a_second_then_twice_as_long_up_to_a_minute() {
        let mut now = Instant::now();
        let mut backoff = Backoff::default();
        assert_eq!(backoff.wait_until(now), None);
        for seconds in [1, 2, 4, 8, 16, 32, 60, 60, 60] {
            backoff.note_fault(now);
            let until = now + Duration::from_secs(seconds);
            assert_eq!(backoff.wait_until(now), Some(until));
            assert_eq!(backoff.wait_until(until), None);
            now = until;
        }
        backoff.note_fault(now + Duration::from_secs(61));
        assert!(backoff.wait_until(now + Duration::from_secs(62)).is_none());
    }

    #[test]
    fn con_01_a_few_restarts_are_free_and_many_are_not() {
        let now = Instant::now();
        let mut backoff = Backoff::default();
        for _ in 0..FREE_RESTARTS {
            backoff.note_restart(now);
            assert_eq!(backoff.wait_until(now), None);
        }
        backoff.note_restart(now);
        assert_eq!(backoff.wait_until(now), Some(now + Duration::from_secs(1)));
        for _ in 0..100 {
            backoff.note_restart(now);
        }
        assert_eq!(backoff.wait_until(now), Some(now + LONGEST));
        assert_eq!(backoff.wait_until(now + LONGEST), None);
    }
}
