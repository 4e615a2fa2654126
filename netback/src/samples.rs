//! What is logged of the frames that a policy judges: a sample, however many there are.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use broker::Bucket;
use tracing::info;

use crate::filter::Seen;
use crate::ledger::Denial;
use crate::policy::Direction;

/// Lines about frames that are dropped, of one VIF (O7: at most ten a minute).
const DROPS: (u32, Duration) = (10, Duration::from_secs(6));
/// Lines about frames that rules decide about that ask for it, as of the kernel's.
const MATCHES: (u32, Duration) = (5, Duration::from_secs(1));

/// What one VIF may log.
#[derive(Debug)]
pub(crate) struct Samples {
    drops: Mutex<Sampled>,
    matches: Mutex<Sampled>,
}

/// A frame that is judged.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Glimpse<'a> {
    /// Which way it goes.
    pub(crate) direction: Direction,
    /// Its first bytes.
    pub(crate) head: &'a [u8],
    /// Bytes of all of it.
    pub(crate) len: usize,
}

#[derive(Debug)]
struct Sampled {
    bucket: Bucket,
    /// Since the last line.
    unsaid: u64,
}

impl Samples {
    pub(crate) fn new(now: Instant) -> Self {
        let sampled = |(burst, every)| {
            let bucket = Bucket::new(burst, every, now);
            Mutex::new(Sampled { bucket, unsaid: 0 })
        };
        Self {
            drops: sampled(DROPS),
            matches: sampled(MATCHES),
        }
    }

    /// A frame is dropped.
    pub(crate) fn dropped(&self, denial: Denial, head: &[u8], now: Instant) {
        let Some(unsaid) = take(&self.drops, now) else {
            return;
        };
        let Denial { reason, rule, .. } = denial;
        let rule = rule.map_or_else(String::new, |rule| format!(" {}", rule + 1));
        info!(
            "dropped {}: {reason}{rule}: {}{}",
            way(denial.direction),
            Seen(head),
            Unsaid(unsaid)
        );
    }

    /// A rule that is logged has decided about a frame, which `passes` or not.
    pub(crate) fn matched(&self, rule: usize, passes: bool, seen: Glimpse<'_>, now: Instant) {
        let Some(unsaid) = take(&self.matches, now) else {
            return;
        };
        let verdict = if passes { "passes" } else { "dropped" };
        info!(
            "rule {} {}: {verdict}: {}{}",
            rule + 1,
            way(seen.direction),
            Seen(seen.head),
            Unsaid(unsaid)
        );
    }
}

/// How many lines were left out, if there may be one now.
fn take(sampled: &Mutex<Sampled>, now: Instant) -> Option<u64> {
    let mut sampled = sampled.lock().unwrap_or_else(PoisonError::into_inner);
    if sampled.bucket.take(now).is_err() {
        sampled.unsaid += 1;
        return None;
    }
    Some(std::mem::take(&mut sampled.unsaid))
}

const fn way(direction: Direction) -> &'static str {
    match direction {
        Direction::Out => "from the guest",
        Direction::In => "for the guest",
    }
}

struct Unsaid(u64);

impl std::fmt::Display for Unsaid {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            0 => Ok(()),
            count => write!(f, "; {count} more since the last such line"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_logged_by_samples_which_say_how_many_there_were() {
        let now = Instant::now();
        let samples = Samples::new(now);
        let told: Vec<_> = (0..1000)
            .filter_map(|_| take(&samples.drops, now))
            .collect();
        assert_eq!(told, [0; 10]);
        assert_eq!(take(&samples.matches, now), Some(0));
        let later = now + Duration::from_secs(6);
        assert_eq!(take(&samples.drops, later), Some(990));
        assert_eq!(take(&samples.drops, later), None);
        assert_eq!(
            Unsaid(990).to_string(),
            "; 990 more since the last such line"
        );
        assert_eq!(Unsaid(0).to_string(), "");
    }
}
