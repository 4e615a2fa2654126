//! A value that one thread exchanges while others go by it.
//!
//! They look whether there is another one as often as they like: that takes no lock.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// A value, and how often it was exchanged.
#[derive(Debug)]
pub(crate) struct News<T> {
    changes: AtomicU32,
    value: Mutex<(u32, Arc<T>)>,
}

impl<T> News<T> {
    /// The first value, which is change 0.
    pub(crate) fn new(value: T) -> Self {
        Self {
            changes: AtomicU32::new(0),
            value: Mutex::new((0, Arc::new(value))),
        }
    }

    /// Exchanges it: whoever looks when this has returned finds `value`.
    pub(crate) fn say(&self, value: T) {
        let mut now = self.lock();
        let change = now.0.wrapping_add(1);
        *now = (change, Arc::new(value));
        self.changes.store(change, Ordering::Relaxed);
    }

    /// The value and its change, if that is another than `seen`.
    pub(crate) fn since(&self, seen: u32) -> Option<(u32, Arc<T>)> {
        // Only whether it has changed: what it has changed to is behind the lock.
        let changed = self.changes.load(Ordering::Relaxed) != seen;
        changed.then(|| self.now())
    }

    /// The value and its change.
    pub(crate) fn now(&self) -> (u32, Arc<T>) {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, (u32, Arc<T>)> {
        self.value.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_is_seen_once_by_each() {
        let news = News::new("first");
        assert_eq!(news.now(), (0, Arc::new("first")));
        assert_eq!(news.since(0), None);
        news.say("second");
        news.say("third");
        assert_eq!(news.since(0), Some((2, Arc::new("third"))));
        assert_eq!(news.since(2), None);
    }
}
