//! Guests that stop receiving (XSA-392).

use std::time::{Duration, Instant};

/// Since when a guest has had no room for a frame.
#[derive(Debug, Default)]
pub(super) struct Stall {
    since: Option<Instant>,
    /// It has lasted too long, and the carrier was taken away for it.
    stalled: bool,
}

/// What becomes of a guest that has no room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It may still get some.
    Wait,
    /// Its carrier goes, and what waits for it is thrown away.
    Begins,
    /// Its carrier is gone; what waits is thrown away.
    Lasts,
}

/// How long a guest may go without room for a frame that waits.
const LIMIT: Duration = Duration::from_secs(10);

impl Stall {
    /// There is room; true if the carrier was taken away.
    pub(super) const fn ends(&mut self) -> bool {
        self.since = None;
        std::mem::replace(&mut self.stalled, false)
    }

    /// There is no room at `now`. Only a guest for which a frame waits is judged by it.
    pub(super) fn goes_on(&mut self, now: Instant, waits: impl FnOnce() -> bool) -> Verdict {
        let since = *self.since.get_or_insert(now);
        if now < since + LIMIT {
            return Verdict::Wait;
        }
        if self.stalled {
            return Verdict::Lasts;
        }
        if !waits() {
            self.since = Some(now);
            return Verdict::Wait;
        }
        self.stalled = true;
        Verdict::Begins
    }

    /// The carrier was taken away.
    pub(super) const fn is_on(&self) -> bool {
        self.stalled
    }

    /// There was no room when this was last looked at.
    pub(super) const fn is_near(&self) -> bool {
        self.since.is_some()
    }

    /// When the next verdict is due.
    pub(super) fn verdict_at(&self) -> Option<Instant> {
        self.since
            .filter(|_| !self.stalled)
            .map(|since| since + LIMIT)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn net_12_a_guest_is_stalled_when_a_frame_has_waited_for_room_too_long() {
        let start = Instant::now();
        let mut stall = Stall::default();
        assert_eq!(stall.verdict_at(), None);
        assert_eq!(stall.goes_on(start, || true), Verdict::Wait);
        assert_eq!(stall.verdict_at(), Some(start + LIMIT));
        let nearly = start + LIMIT - Duration::from_nanos(1);
        assert_eq!(stall.goes_on(nearly, || true), Verdict::Wait);
        assert_eq!(stall.goes_on(start + LIMIT, || true), Verdict::Begins);
        assert_eq!(stall.verdict_at(), None);
        assert_eq!(stall.goes_on(start + LIMIT, || false), Verdict::Lasts);
        assert!(stall.ends());
        assert!(!stall.ends());
    }

    #[test]
    fn net_12_a_guest_for_which_nothing_waits_has_all_the_time() {
        let start = Instant::now();
        let mut stall = Stall::default();
        assert_eq!(stall.goes_on(start, || false), Verdict::Wait);
        let later = start + LIMIT;
        assert_eq!(stall.goes_on(later, || false), Verdict::Wait);
        assert_eq!(stall.goes_on(later, || true), Verdict::Wait);
        assert_eq!(stall.verdict_at(), Some(later + LIMIT));
        assert!(!stall.ends());
    }
}
