//! One device as the supervisor knows it.

use std::fmt;
use std::time::{Duration, Instant};

use xenbus::{BackendPath, Connects, ErrorNode, Event, Handshake, Key, Phase, Store};

use crate::message::Blame;
use crate::pace::{Backoff, Bucket};

/// Log lines that a guest can cause, per device (O7: at most ten a minute).
const LINES: u32 = 10;
const LINE_EVERY: Duration = Duration::from_secs(6);
/// Looks at the store that a guest can cause, per device.
const LOOKS: u32 = 40;
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// How often a device that is on its way out is looked at without being told to: the event that
/// says that the guest has died may never come (STO-03).
const CLOSING_LOOK: Duration = Duration::from_secs(5);

/// What a worker has of a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Hold {
    /// Nothing.
    Nothing,
    /// Nothing yet: something that passes is in the way. Tried again until `until`.
    Wanted { until: Instant },
    /// It is connecting.
    Connecting { until: Instant },
    /// It serves.
    Serving,
    /// It is giving everything back. `failed`: it has said that it holds nothing, but still owes
    /// the answer to our order.
    Ending { until: Instant, failed: bool },
    /// A worker of an earlier broker serves.
    Foreign,
    /// That worker was ended, and its end is awaited.
    ForeignEnding,
}

#[derive(Debug)]
pub(crate) struct Device {
    pub(crate) path: BackendPath,
    pub(crate) handshake: Handshake,
    pub(crate) hold: Hold,
    /// Changes that its worker has not said to have taken over.
    pub(crate) changes: u32,
    /// Written together with state Connected.
    pub(crate) keys: Vec<Key<'static>>,
    /// What went wrong, for the handshake's next [`xenbus::Action::Fail`].
    pub(crate) failure: Option<(Blame, String)>,
    pub(crate) backoff: Backoff,
    /// What the hotplug script was given to tell.
    pub(crate) refusal: Option<String>,
    /// What was connected last.
    pub(crate) summary: Option<String>,
    /// What is wrong with it, until it works again.
    pub(crate) trouble: Option<String>,
    /// When its handshake came to where it is.
    pub(crate) since: Instant,
    /// Since when something that passes has been in the way of advertising.
    pub(crate) delayed_since: Option<Instant>,
    /// What it could not be told yet, because the store refused to be read.
    pub(crate) unheard: Vec<Event>,
    /// When to look again without being told.
    pub(crate) wake: Option<Instant>,
    error_node: ErrorNode,
    error_told: bool,
    looks: Bucket,
    lines: Bucket,
    unsaid: u32,
}

impl Device {
    pub(crate) fn new(path: BackendPath, connects: Connects, now: Instant) -> Self {
        Self {
            path,
            handshake: Handshake::new(connects),
            hold: Hold::Nothing,
            changes: 0,
            keys: Vec::new(),
            failure: None,
            backoff: Backoff::default(),
            refusal: None,
            summary: None,
            trouble: None,
            since: now,
            delayed_since: None,
            unheard: Vec::new(),
            wake: None,
            error_node: ErrorNode::new(&path),
            error_told: false,
            looks: Bucket::new(LOOKS, LOOK_EVERY, now),
            lines: Bucket::new(LINES, LINE_EVERY, now),
            unsaid: 0,
        }
    }

    /// May it be looked at now? If not, it will be later.
    pub(crate) fn may_look(&mut self, now: Instant) -> bool {
        match self.looks.take(now) {
            Ok(()) => true,
            Err(later) => {
                self.wake_at(later);
                false
            }
        }
    }

    /// Looks again at `when`, or earlier if that was planned already.
    pub(crate) fn wake_at(&mut self, when: Instant) {
        self.wake = Some(self.wake.map_or(when, |set| set.min(when)));
    }

    /// Looks again from time to time while it is on its way out, and at a deadline.
    pub(crate) fn plan_look(&mut self, now: Instant) {
        if matches!(
            self.handshake.phase(),
            Phase::Closing { .. } | Phase::Draining
        ) {
            self.wake_at(now + CLOSING_LOOK);
        }
        match self.hold {
            Hold::Connecting { until } | Hold::Ending { until, .. } => self.wake_at(until),
            _ => {}
        }
    }

    /// Tells an administrator what is wrong: the log, and the error node, which keeps the first
    /// text until the device works again.
    pub(crate) fn fail(&mut self, store: &mut Store, now: Instant, blame: Blame, why: &str) {
        let why = printable(why);
        self.trouble = Some(why.clone());
        match blame {
            Blame::Guest => self.say(now, tracing::Level::WARN, &why),
            Blame::Host => self.say(now, tracing::Level::ERROR, &why),
        }
        let errno = match blame {
            Blame::Guest => 22,
            Blame::Host => 5,
        };
        match self.error_node.write(store, errno, &why) {
            Ok(_) => self.error_told = true,
            Err(error) => tracing::debug!(device = %self, %error, "error node not written"),
        }
    }

    /// The device works: its error node goes.
    pub(crate) fn clear_error(&mut self, store: &mut Store) {
        self.trouble = None;
        match self.error_node.clear(store) {
            Ok(()) => self.error_told = false,
            Err(error) => tracing::debug!(device = %self, %error, "error node not removed"),
        }
    }

    /// The device is gone: what its error node says, if it says anything.
    pub(crate) fn into_error_node(self) -> Option<ErrorNode> {
        self.error_told.then_some(self.error_node)
    }

    /// Logs a line about this device, if its guest has not caused too many.
    pub(crate) fn say(&mut self, now: Instant, level: tracing::Level, text: &str) {
        if self.lines.take(now).is_err() {
            self.unsaid = self.unsaid.saturating_add(1);
            return;
        }
        let unsaid = std::mem::take(&mut self.unsaid);
        if unsaid > 0 {
            tracing::warn!("{self}: {unsaid} messages were left out");
        }
        match level {
            tracing::Level::ERROR => tracing::error!("{self}: {text}"),
            tracing::Level::WARN => tracing::warn!("{self}: {text}"),
            tracing::Level::INFO => tracing::info!("{self}: {text}"),
            _ => tracing::debug!("{self}: {text}"),
        }
    }
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let BackendPath {
            class,
            frontend,
            devid,
            ..
        } = self.path;
        write!(f, "{} {frontend}/{devid}", class.as_str())
    }
}

/// A text that may quote a guest: control characters escaped, at most 400 characters.
pub(crate) fn printable(text: &str) -> String {
    let mut out = String::new();
    for (count, letter) in text.chars().enumerate() {
        if count == 400 {
            out.push_str("...");
            break;
        }
        if letter.is_control() {
            out.extend(letter.escape_default());
        } else {
            out.push(letter);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guests_text_cannot_drive_a_terminal_or_fill_the_log() {
        assert_eq!(printable("bad \u{1b}[2J\nkey"), "bad \\u{1b}[2J\\nkey");
        assert_eq!(printable(&"ä".repeat(5000)).chars().count(), 403);
    }

    #[test]
    fn con_05_a_device_is_looked_at_so_often_and_no_more() {
        let now = Instant::now();
        let path = BackendPath::parse("/local/domain/0/backend/vbd/7/51712").unwrap();
        let mut device = Device::new(path, Connects::WhenInitialised, now);
        let looks = (0..100_000).filter(|_| device.may_look(now)).count();
        assert_eq!(looks, 40);
        assert_eq!(device.wake, Some(now + LOOK_EVERY));
        assert_eq!(device.to_string(), "vbd 7/51712");
    }
}
