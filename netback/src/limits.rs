//! How much may pass in one direction: bytes and packets a second, as a policy says.

use std::time::{Duration, Instant};

use broker::throttle::{Rate, Throttle};

use crate::policy::Limit;

/// The limits of one direction, for all queues of an interface together.
#[derive(Debug)]
pub(crate) struct Limits {
    bytes: Throttle,
    packets: Throttle,
}

impl Limits {
    /// As a policy says, with all that may pass at once.
    pub(crate) fn new(limit: Limit, now: Instant) -> Self {
        Self {
            bytes: Throttle::new(bytes(limit), now),
            packets: Throttle::new(packet_rate(limit.packets), now),
        }
    }

    /// From now on, those.
    pub(crate) fn set(&self, limit: Limit) {
        self.bytes.set(bytes(limit));
        self.packets.set(packet_rate(limit.packets));
    }

    /// Is there any?
    pub(crate) fn is_limited(&self) -> bool {
        self.bytes.is_limited() || self.packets.is_limited()
    }

    /// So much has passed at `now`: when more may, if not at once.
    pub(crate) fn charge(&self, bytes: u64, packets: u64, now: Instant) -> Option<Instant> {
        let waits = [
            self.bytes.charge(bytes, now),
            self.packets.charge(packets, now),
        ];
        waits.into_iter().flatten().max()
    }
}

fn bytes(limit: Limit) -> Option<Rate> {
    if limit.bytes == 0 {
        return None;
    }
    // What an interval allows passes at once: so it is not longer than what is to.
    let (interval, burst) = match limit.burst {
        0 => (INTERVAL_US, MIN_BURST),
        burst => {
            let paid = burst.saturating_mul(SECOND_US) / limit.bytes;
            (paid.clamp(1, INTERVAL_US), burst)
        }
    };
    let units = limit.bytes.saturating_mul(interval).div_ceil(SECOND_US);
    Rate::new(units, Duration::from_micros(interval), burst)
}

/// So many packets a second, and a ring full of them at once.
pub(crate) fn packet_rate(packets: u32) -> Option<Rate> {
    let each = Duration::from_secs(1).checked_div(packets)?;
    Rate::new(1, each, PACKET_BURST)
}

/// What Linux lets pass at once at any rate.
pub(crate) const MIN_BURST: u64 = 131_072;
/// Packets that pass at once at any rate.
pub(crate) const PACKET_BURST: u64 = 256;
/// In what time a rate is paid out, at the most: xl's default.
const INTERVAL_US: u64 = 50_000;
const SECOND_US: u64 = 1_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn net_11_bytes_and_packets_are_limited_each_and_the_longer_wait_counts() {
        let now = Instant::now();
        let limits = Limits::new(Limit::default(), now);
        assert!(!limits.is_limited());
        assert_eq!(limits.charge(u64::MAX, u64::MAX, now), None);
        limits.set(Limit {
            bytes: 1_000_000,
            packets: 1000,
            burst: 1_000_000,
        });
        assert!(limits.is_limited());
        assert_eq!(limits.charge(1_000_000, 256, now), None);
        let wait = |bytes, packets| {
            let until = limits.charge(bytes, packets, now).unwrap();
            (until - now).as_millis()
        };
        assert!((9..=11).contains(&wait(10_000, 1)));
        assert!((100..=102).contains(&wait(1, 100)));
    }
    #[test]
    fn net_11_no_more_than_the_burst_passes_at_once_however_fast_it_may_be() {
        let now = Instant::now();
        let of = |bytes, burst| {
            let packets = 0;
            let limit = Limit {
                bytes,
                packets,
                burst,
            };
            Limits::new(limit, now)
        };
        for (bytes, burst, at_once) in [
            (125_000_000, 65_536, 65_536),
            (1000, 65_536, 65_536),
            (1_000_000, 0, MIN_BURST),
            // In 50 ms.
            (125_000_000, 0, 6_250_000),
        ] {
            let limits = of(bytes, burst);
            assert_eq!(limits.charge(at_once, 1, now), None, "{bytes} {burst}");
            let wait = limits.charge(bytes / 10, 1, now).map(|until| until - now);
            let wait = wait.unwrap().as_millis();
            assert!((99..=101).contains(&wait), "{bytes} {burst}: {wait} ms");
        }
    }
}
