//! The queue of watch events: bounded, whatever a guest writes.
//!
//! A guest that rewrites a watched node a hundred thousand times a second costs one entry: an event
//! already waiting is not queued again. A guest that creates ever new nodes below a watched
//! directory costs [`PER_WATCH`] entries; then they are folded into one event for the watched path
//! itself, which says no more than a watch ever says: look again. (The unbounded queue was
//! XSA-349.)

use std::collections::{HashMap, HashSet, VecDeque};

/// How many different paths below one watch may wait.
pub const PER_WATCH: usize = 64;

/// Something at or below a watched path may have changed. May be spurious: read again to know.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct WatchEvent {
    /// The node that changed, or the watched path when much changed at once.
    pub path: String,
    /// The token the watch was registered with.
    pub token: String,
}

/// A registered watch.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Watch {
    pub(crate) path: String,
    pub(crate) token: String,
}

/// Registered watches, and the events that nobody has taken yet: at most [`PER_WATCH`] + 1 for each
/// watch.
#[derive(Debug, Default)]
pub(crate) struct Watches {
    /// Paths by token, each with the number of its waiting events.
    registered: HashMap<String, HashMap<String, usize>>,
    queue: VecDeque<(WatchEvent, String)>,
    waiting: HashSet<WatchEvent>,
}

impl Watches {
    pub(crate) fn add(&mut self, path: &str, token: &str) {
        self.registered
            .entry(token.to_owned())
            .or_default()
            .entry(path.to_owned())
            .or_insert(0);
    }

    pub(crate) fn has(&self, path: &str, token: &str) -> bool {
        let paths = self.registered.get(token);
        paths.is_some_and(|paths| paths.contains_key(path))
    }

    /// Forgets a watch together with its waiting events.
    pub(crate) fn remove(&mut self, path: &str, token: &str) {
        if let Some(paths) = self.registered.get_mut(token) {
            paths.remove(path);
            if paths.is_empty() {
                self.registered.remove(token);
            }
        }
        let waiting = &mut self.waiting;
        self.queue.retain(|(event, watched)| {
            let stays = event.token != token || watched != path;
            if !stays {
                waiting.remove(event);
            }
            stays
        });
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = Watch> {
        self.registered.iter().flat_map(|(token, paths)| {
            paths.keys().map(|path| Watch {
                path: path.clone(),
                token: token.clone(),
            })
        })
    }

    /// Queues an event, unless it waits already. Drops what no watch asked for: the last events of
    /// a removed one.
    pub(crate) fn push(&mut self, path: &str, token: &str) {
        let Some(paths) = self.registered.get_mut(token) else {
            return;
        };
        let Some((watched, waiting)) = paths.iter_mut().find(|(watched, _)| covers(watched, path))
        else {
            return;
        };
        let path = if *waiting >= PER_WATCH {
            watched.as_str()
        } else {
            path
        };
        let event = WatchEvent {
            path: path.to_owned(),
            token: token.to_owned(),
        };
        if self.waiting.insert(event.clone()) {
            *waiting += 1;
            self.queue.push_back((event, watched.clone()));
        }
    }

    pub(crate) fn pop(&mut self) -> Option<WatchEvent> {
        let (event, watched) = self.queue.pop_front()?;
        self.waiting.remove(&event);
        if let Some(waiting) = self
            .registered
            .get_mut(&event.token)
            .and_then(|paths| paths.get_mut(&watched))
        {
            *waiting = waiting.saturating_sub(1);
        }
        Some(event)
    }
}

/// Whether `path` is `watched` or below it. The special watches cover themselves alone.
fn covers(watched: &str, path: &str) -> bool {
    let rest = path.strip_prefix(watched);
    watched == "/" || rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drain(watches: &mut Watches) -> Vec<String> {
        std::iter::from_fn(|| watches.pop())
            .map(|event| event.path)
            .collect()
    }

    #[test]
    fn con_05_a_rewritten_node_waits_once() {
        let mut watches = Watches::default();
        watches.add("/a", "t");
        for _ in 0..100_000 {
            watches.push("/a/state", "t");
        }
        assert_eq!(drain(&mut watches), ["/a/state"]);
        watches.push("/a/state", "t");
        assert_eq!(
            drain(&mut watches),
            ["/a/state"],
            "once taken, the next change counts again"
        );
    }

    #[test]
    fn con_05_ever_new_nodes_fold_into_the_watched_path() {
        let mut watches = Watches::default();
        watches.add("/a", "t");
        watches.add("/b", "t");
        for n in 0..100_000 {
            watches.push(&format!("/a/{n}"), "t");
        }
        watches.push("/b", "t");
        let seen = drain(&mut watches);
        assert_eq!(seen.len(), PER_WATCH + 2);
        assert_eq!(
            seen.get(PER_WATCH..),
            Some(&["/a".to_owned(), "/b".to_owned()][..])
        );
        watches.push("/a/again", "t");
        assert_eq!(
            drain(&mut watches),
            ["/a/again"],
            "the count goes down as events are taken"
        );
    }

    #[test]
    fn a_removed_watch_leaves_nothing_behind() {
        let mut watches = Watches::default();
        watches.add("/a", "t");
        watches.add("/a", "u");
        watches.push("/a/x", "t");
        watches.push("/a/x", "u");
        watches.remove("/a", "t");
        watches.push("/a/late", "t");
        assert_eq!(
            watches.pop(),
            Some(WatchEvent {
                path: "/a/x".into(),
                token: "u".into()
            })
        );
        assert_eq!(watches.pop(), None);
        assert_eq!(watches.iter().count(), 1);
    }

    #[test]
    fn a_sibling_with_the_same_prefix_is_not_below() {
        assert!(covers("/a", "/a"));
        assert!(covers("/a", "/a/b"));
        assert!(!covers("/a", "/ab"));
        assert!(covers("/", "/anything"));
        assert!(covers("@releaseDomain", "@releaseDomain"));
    }
}
