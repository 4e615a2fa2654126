//! The token bucket: one for a whole device, shared by its queues.
//!
//! It is kept as a time: when the device will have paid for all that it has sent. A device may be
//! ahead of the clock by what one request costs, and behind it by a burst; so a queue asks after it
//! has taken something, and takes nothing more until the time that it is told. Over any stretch of
//! time, no more passes than the rate allows, a burst, and one request for each queue.
//!
//! What cannot wait is policed instead ([`Throttle::admit`]): it takes what is there, or nothing.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// A rate: so many units (bytes, requests) in so much time.
///
/// Having one tells you that neither is 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// Nanoseconds that a unit costs, times 2^[`SHIFT`].
    cost: u64,
    /// How far a device may be behind, in nanoseconds: what a burst costs.
    burst: u64,
}

/// What a unit costs is kept in parts of a nanosecond.
const SHIFT: u32 = 20;

/// A bucket. All of it may change while others use it.
#[derive(Debug)]
pub struct Throttle {
    epoch: Instant,
    /// 0: no limit.
    cost: AtomicU64,
    burst: AtomicU64,
    /// Until then is paid for, in nanoseconds since the epoch.
    paid: AtomicU64,
}

impl Rate {
    /// `units` in each `interval`, and at most `burst` of them at once, but at least what the
    /// interval allows; `None` if one of the first two is 0.
    #[must_use]
    pub fn new(units: u64, interval: Duration, burst: u64) -> Option<Self> {
        let nanos = interval.as_nanos();
        if units == 0 || nanos == 0 {
            return None;
        }
        let cost = saturate((nanos << SHIFT) / u128::from(units)).max(1);
        let burst = price(cost, burst.max(units));
        Some(Self { cost, burst })
    }
}

impl Throttle {
    /// A full bucket; without a rate, no limit.
    #[must_use]
    pub fn new(rate: Option<Rate>, now: Instant) -> Self {
        let throttle = Self {
            epoch: now,
            cost: AtomicU64::new(0),
            burst: AtomicU64::new(0),
            paid: AtomicU64::new(0),
        };
        throttle.set(rate);
        throttle
    }

    /// Changes the limit, and starts anew with a full bucket: what is owed at a slow rate would
    /// otherwise keep a fast one waiting.
    pub fn set(&self, rate: Option<Rate>) {
        let Rate { cost, burst } = rate.unwrap_or(Rate { cost: 0, burst: 0 });
        self.burst.store(burst, Ordering::SeqCst);
        self.cost.store(cost, Ordering::SeqCst);
        self.paid.store(0, Ordering::SeqCst);
    }

    /// Is there a limit, so that [`charge`](Self::charge) needs to know the time?
    #[must_use]
    pub fn is_limited(&self) -> bool {
        self.cost.load(Ordering::Relaxed) != 0
    }

    /// Charges for `units` that were taken at `now`: nothing more is to be taken before the time
    /// that comes back, if one does.
    pub fn charge(&self, units: u64, now: Instant) -> Option<Instant> {
        let cost = self.cost.load(Ordering::SeqCst);
        if cost == 0 {
            return None;
        }
        let burst = self.burst.load(Ordering::SeqCst);
        // The bucket starts full: the epoch is a burst before the first request.
        let clock = saturate(now.saturating_duration_since(self.epoch).as_nanos());
        let clock = clock.saturating_add(burst);
        let due = self.pay(price(cost, units), clock, burst);
        let changed = || {
            cost != self.cost.load(Ordering::SeqCst) || burst != self.burst.load(Ordering::SeqCst)
        };
        if changed() {
            // It was paid in the old coin, perhaps into the new bucket.
            self.paid.store(0, Ordering::SeqCst);
            return None;
        }
        let ahead = due.checked_sub(clock).filter(|&ahead| ahead > 0)?;
        Some(now + Duration::from_nanos(ahead))
    }

    /// Takes `units` at `now` if they are there; if not, nothing is taken, and it says false.
    ///
    /// Over any stretch of time, no more passes than the rate allows and a burst.
    #[must_use]
    pub fn admit(&self, units: u64, now: Instant) -> bool {
        let cost = self.cost.load(Ordering::SeqCst);
        if cost == 0 {
            return true;
        }
        let burst = self.burst.load(Ordering::SeqCst);
        let clock = saturate(now.saturating_duration_since(self.epoch).as_nanos());
        let clock = clock.saturating_add(burst);
        let price = price(cost, units);
        // Who sees a bucket while its rate changes is judged by one of the two, or a mix of them.
        let takes = |paid: u64| {
            let due = paid.max(clock - burst).checked_add(price)?;
            (due <= clock).then_some(due)
        };
        self.paid
            .try_update(Ordering::SeqCst, Ordering::SeqCst, takes)
            .is_ok()
    }

    /// Until when all is paid for then.
    fn pay(&self, price: u64, clock: u64, burst: u64) -> u64 {
        let mut paid = self.paid.load(Ordering::SeqCst);
        loop {
            let due = paid.max(clock - burst).saturating_add(price);
            let due = due.min(clock.saturating_add(LONGEST));
            match self
                .paid
                .compare_exchange_weak(paid, due, Ordering::SeqCst, Ordering::SeqCst)
            {
                Ok(_) => return due,
                Err(other) => paid = other,
            }
        }
    }
}

/// Nanoseconds within which any price is paid: a bucket must never look broken for good.
const LONGEST: u64 = 3_600_000_000_000;

fn price(cost: u64, units: u64) -> u64 {
    saturate((u128::from(cost) * u128::from(units)) >> SHIFT)
}

fn saturate(number: u128) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn rate(units: u64, millis: u64, burst: u64) -> Option<Rate> {
        Rate::new(units, Duration::from_millis(millis), burst)
    }

    #[test]
    fn without_a_rate_there_is_no_limit() {
        let now = Instant::now();
        let throttle = Throttle::new(None, now);
        assert!(!throttle.is_limited());
        assert_eq!(throttle.charge(u64::MAX, now), None);
        assert_eq!((rate(0, 1, 1), rate(1, 0, 1)), (None, None));
    }

    #[test]
    fn a_burst_passes_and_then_the_rate_holds() {
        let now = Instant::now();
        let throttle = Throttle::new(rate(1000, 1000, 5000), now);
        for _ in 0..5 {
            assert_eq!(throttle.charge(1000, now), None);
        }
        let until = throttle.charge(1000, now).unwrap();
        let wait = until - now;
        assert!(wait >= Duration::from_millis(999) && wait <= Duration::from_millis(1001));
        assert_eq!(throttle.charge(1000, until + wait), None);
    }

    #[test]
    fn a_price_beyond_all_times_is_paid_within_an_hour() {
        let mut now = Instant::now();
        let throttle = Throttle::new(rate(1, 1_000_000, 1), now);
        for _ in 0..3 {
            now = throttle.charge(u64::MAX, now).unwrap();
        }
        let next = throttle.charge(0, now);
        assert_eq!(next, None, "the bucket is broken for good");
    }

    #[test]
    fn a_faster_rate_does_not_wait_for_what_a_slower_one_is_owed() {
        let now = Instant::now();
        let throttle = Throttle::new(rate(1, 1000, 1), now);
        assert!(throttle.charge(1800, now).is_some());
        throttle.set(rate(1000, 1000, 1000));
        assert_eq!(throttle.charge(1000, now), None);
        assert!(throttle.charge(1, now).is_some());
    }

    #[test]
    fn a_slower_rate_gives_no_second_burst_of_the_faster_one() {
        let now = Instant::now();
        let throttle = Throttle::new(rate(1_000_000, 1000, 1), now);
        assert_eq!(throttle.charge(1_000_000, now), None);
        throttle.set(rate(10, 1000, 1));
        assert_eq!(throttle.charge(10, now), None);
        let wait = throttle.charge(10, now).unwrap() - now;
        assert!(wait >= Duration::from_millis(999), "{wait:?}");
    }

    #[test]
    fn queues_share_one_bucket() {
        let start = Instant::now();
        let throttle = Throttle::new(rate(1_000_000, 1000, 1), start);
        let until = std::thread::scope(|scope| {
            let queue = || (0..1000).filter_map(|_| throttle.charge(1500, start)).max();
            let queues: Vec<_> = (0..4).map(|_| scope.spawn(queue)).collect();
            let ends = queues.into_iter().filter_map(|queue| queue.join().unwrap());
            ends.max().unwrap()
        });
        // 6 MB, of which 1 MB is the burst.
        let wait = until - start;
        assert!(wait > Duration::from_millis(4999) && wait <= Duration::from_millis(5000));
    }

    #[test]
    fn a_rate_changes_for_all_at_once() {
        let now = Instant::now();
        let throttle = Throttle::new(rate(1, 1000, 1), now);
        assert!(throttle.charge(100, now).is_some());
        throttle.set(None);
        assert_eq!(throttle.charge(100, now), None);
    }

    #[test]
    fn what_is_policed_gets_a_burst_then_the_rate_and_is_never_in_debt() {
        let mut now = Instant::now();
        let throttle = Throttle::new(rate(50, 1000, 100), now);
        let pass = |count: u32, now| (0..count).filter(|_| throttle.admit(1, now)).count();
        assert_eq!(pass(1000, now), 100);
        now += Duration::from_millis(19);
        assert_eq!(pass(1000, now), 0);
        now += Duration::from_millis(1);
        assert_eq!(pass(1000, now), 1, "what was refused is not owed");
        now += Duration::from_secs(1);
        assert_eq!(pass(1000, now), 50);
        now += Duration::from_secs(3600);
        assert!(!throttle.admit(101, now), "it does not fit at all");
        assert_eq!(pass(1000, now), 100, "and has taken nothing");
        assert!(Throttle::new(None, now).admit(u64::MAX, now));
    }

    #[test]
    fn queues_are_policed_together() {
        let start = Instant::now();
        let throttle = Throttle::new(rate(1000, 1000, 5000), start);
        let passed: usize = std::thread::scope(|scope| {
            let queue = || (0..3000).filter(|_| throttle.admit(1, start)).count();
            let queues: Vec<_> = (0..4).map(|_| scope.spawn(queue)).collect();
            queues.into_iter().map(|queue| queue.join().unwrap()).sum()
        });
        assert_eq!(passed, 5000);
    }

    proptest! {
        /// Beside a bucket that is counted in units and not in time.
        #[test]
        fn what_is_policed_gets_what_lies_in_the_bucket(
            units in 1_u64..1_000_000,
            millis in 1_u64..10_000,
            burst in 0_u64..1_000_000,
            asks in prop::collection::vec((1_u64..2000, 0_u64..100_000), 1..200),
        ) {
            let interval = Duration::from_millis(millis);
            let start = Instant::now();
            let throttle = Throttle::new(Rate::new(units, interval, burst), start);
            // A unit of these is what a unit of the others takes to come in.
            let (nanos, units) = (interval.as_nanos(), u128::from(units));
            let full = units.max(burst.into()) * nanos;
            let (mut now, mut level, mut margin) = (start, full, 2 * units);
            for (size, pause) in asks {
                let pause = Duration::from_micros(pause);
                now += pause;
                level = full.min(level + pause.as_nanos() * units);
                let price = u128::from(size) * nanos;
                if throttle.admit(size, now) {
                    prop_assert!(level + margin >= price, "{level} pays for {price}");
                    level = level.saturating_sub(price);
                    // Prices are rounded down to nanoseconds.
                    margin += 2 * units;
                } else {
                    prop_assert!(level < price + margin, "{level} does not pay for {price}");
                }
            }
        }

        #[test]
        fn never_more_than_the_rate_a_burst_and_one_request_each(
            units in 1_u64..1_000_000_000,
            micros in 1_u64..1_000_000,
            burst in 0_u64..10_000_000,
            requests in prop::collection::vec((1_u64..100_000, 0_u64..1000), 1..200),
        ) {
            let interval = Duration::from_micros(micros);
            let start = Instant::now();
            let throttle = Throttle::new(Rate::new(units, interval, burst), start);
            let (mut now, mut passed, mut last) = (start, 0_u128, 0);
            for (size, pause) in requests {
                passed += u128::from(size);
                last = size;
                if let Some(until) = throttle.charge(size, now) {
                    prop_assert!(until > now);
                    now = until;
                }
                now += Duration::from_micros(pause);
            }
            let elapsed = (now - start).as_nanos();
            let allowed = elapsed * u128::from(units) / interval.as_nanos();
            let room = u128::from(burst.max(units)) + u128::from(last);
            // The cost of a unit is rounded down.
            let slack = passed / 1000 + 2;
            prop_assert!(passed <= allowed + room + slack, "{passed} of {allowed} + {room}");
        }

        /// One who asks when it is told to, as long as it likes, gets what the rate allows.
        #[test]
        fn a_busy_device_gets_its_rate(
            units in 1_000_u64..10_000_000_000,
            micros in 1_u64..1_000_000,
            sizes in prop::collection::vec(1_u64..100_000, 50..200),
        ) {
            let interval = Duration::from_micros(micros);
            let start = Instant::now();
            let throttle = Throttle::new(Rate::new(units, interval, 0), start);
            let (mut now, mut passed) = (start, 0_u128);
            for size in sizes {
                passed += u128::from(size);
                now = throttle.charge(size, now).unwrap_or(now);
            }
            let elapsed = (now - start).as_nanos();
            let due = passed * interval.as_nanos() / u128::from(units);
            prop_assert!(elapsed <= due + 200, "{elapsed} ns for what costs {due} ns");
        }

        #[test]
        fn any_numbers_are_taken(
            units in any::<u64>(),
            nanos in any::<u64>(),
            burst in any::<u64>(),
            sizes in prop::collection::vec(any::<u64>(), 1..10),
        ) {
            let now = Instant::now();
            let throttle = Throttle::new(Rate::new(units, Duration::from_nanos(nanos), burst), now);
            for size in sizes {
                if let Some(until) = throttle.charge(size, now) {
                    prop_assert!(until > now && until <= now + Duration::from_nanos(LONGEST));
                }
                let _ = throttle.admit(size, now);
            }
        }
    }
}
