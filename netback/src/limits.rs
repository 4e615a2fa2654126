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
    let burst = if limit.burst == 0 {
        MIN_BURST
    } else {
        limit.burst
    };
    Rate::new(limit.bytes, Duration::from_secs(1), burst)
}

/// So many packets a second, and a ring full of them at once.
pub(crate) fn packet_rate(packets: u32) -> Option<Rate> {
    let each = Duration::from_secs(1).checked_div(packets)?;
    Rate::new(1, each, PACKET_BURST)
}

/// What Linux lets pass at once at any rate.
pub(crate) const MIN_BURST: u64 = 131_072;
const PACKET_BURST: u64 = 256;

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
}
