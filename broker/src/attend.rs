//! Attending to one device: look what is there, let the handshake decide, do it.

use std::time::{Duration, Instant};

use tracing::Level;
use xenbus::{
    Action, BackendPath, Errno, Event, Key, Phase, Seen, Snapshot, State, Switched, Why,
    switch_state, switch_state_with,
};

use crate::device::{Device, printable};
use crate::driver::{Driver, Refused};
use crate::message::Blame;
use crate::pace::Backoff;
use crate::supervisor::Supervisor;

/// The key that carries a refusal to the hotplug script, which shows it to whoever runs xl. A
/// toolstack waits for InitWait before it runs the script, and shows nothing but the script's
/// errors.
const REFUSAL: &str = "xen-backends-error";

/// How long something that passes may delay InitWait: libxl waits ten seconds.
const ADVERTISE_PATIENCE: Duration = Duration::from_secs(6);
/// When to try again after a store operation was refused.
pub(crate) const STORE_PAUSE: Duration = Duration::from_secs(1);

impl<D: Driver> Supervisor<D> {
    /// Looks at a device and does what is due. Without a store the event stays in the inbox.
    pub(crate) fn attend(&mut self, path: BackendPath, event: Event, now: Instant) {
        if let Some(device) = self.devices.get_mut(&path)
            && event == Event::Look
            && !device.may_look(now)
        {
            return;
        }
        let seen = match Snapshot::read(&mut self.store, &path) {
            Ok(seen) => seen,
            Err(error) => {
                self.store_failed(&error);
                if !self.store.is_connected() {
                    self.inbox.push_front((path, event));
                } else if let Some(device) = self.devices.get_mut(&path) {
                    device.wake_at(now + STORE_PAUSE);
                    device.unheard.push(event);
                }
                return;
            }
        };
        if !self.devices.contains_key(&path) && !self.discover(path, &seen, now) {
            return;
        }
        self.check_deadlines(path, now);
        let Some(device) = self.devices.get_mut(&path) else {
            return;
        };
        if device.handshake.is_another(&seen) {
            // What the old device did is not held against it.
            device.backoff = Backoff::default();
        }
        let restarts = device.handshake.reconnects();
        let (handshake, actions) = device.handshake.decide(event, &seen);
        if handshake.phase() != device.handshake.phase() {
            device.since = now;
        }
        device.handshake = handshake;
        if handshake.reconnects() > restarts {
            device.backoff.note_restart(now);
        }
        for action in actions {
            self.execute(path, action, now);
        }
        self.retry(path, now);
        self.adjust(path, now);
        if let Some(device) = self.devices.get_mut(&path) {
            device.plan_look(now);
        }
    }

    /// Makes a record of a device that exists and was not known.
    fn discover(&mut self, path: BackendPath, seen: &Snapshot, now: Instant) -> bool {
        let ours = path.backend == self.own_domain && path.class == self.driver.class();
        if seen.backend == Seen::Gone || !ours {
            return false;
        }
        for key in self.watched() {
            let watch = path.frontend_key(key);
            if let Err(error) = self.store.watch(&watch, &path.to_string()) {
                self.store_failed(&error);
                self.unwatch(&path);
                self.rescan_later(Some(path.frontend), now);
                return false;
            }
        }
        self.past_errors.clear(&path, &mut self.store);
        let device = Device::new(path, self.driver.connects(), now);
        tracing::debug!(%device, "new device");
        self.devices.insert(path, device);
        true
    }

    fn execute(&mut self, path: BackendPath, action: Action, now: Instant) {
        match action {
            Action::Advertise => self.advertise(path, now),
            Action::Connect => self.begin_connecting(path, now),
            Action::Adopt => self.leave_to_incumbent(path, now),
            Action::Publish => self.publish(path, now),
            Action::Reconfigure => self.reconfigure(path, now),
            Action::Disconnect => self.disconnect(path, now),
            Action::Switch(state) => {
                let outcome = switch_state(&mut self.store, &path, state);
                self.note_switch(path, state, outcome, now);
            }
            Action::Fail(why) => self.fail(path, why, now),
            Action::Forget => self.forget(path),
        }
    }

    fn advertise(&mut self, path: BackendPath, now: Instant) {
        let Some(device) = self.devices.get_mut(&path) else {
            return;
        };
        if let Some(until) = device.backoff.wait_until(now) {
            // The store stays as it is, so the handshake will ask again.
            return device.wake_at(until);
        }
        let mut keys = match self.driver.advertise(&mut self.store, &path) {
            Ok(keys) => {
                device.delayed_since = None;
                device.refusal = None;
                device.clear_error(&mut self.store);
                let mut keys = keys;
                keys.push((REFUSAL, String::new()));
                keys
            }
            Err(Refused::Store(error)) => {
                self.store_failed(&error);
                return self.wake(path, now + STORE_PAUSE);
            }
            Err(Refused::Busy { retry_after, .. })
                if now < *device.delayed_since.get_or_insert(now) + ADVERTISE_PATIENCE =>
            {
                return device.wake_at(now + retry_after);
            }
            Err(Refused::Busy { why, .. }) => told(device, &mut self.store, now, Blame::Host, &why),
            Err(Refused::Because { blame, why }) => told(device, &mut self.store, now, blame, &why),
        };
        keys.sort_unstable_by_key(|(key, _)| *key);
        let outcome = switch_state_with(&mut self.store, &path, &keys, State::InitWait);
        self.note_switch(path, State::InitWait, outcome, now);
    }

    fn fail(&mut self, path: BackendPath, why: Why, now: Instant) {
        let Some(device) = self.devices.get_mut(&path) else {
            return;
        };
        let (blame, text) = match why {
            Why::Device => device
                .failure
                .take()
                .unwrap_or_else(|| (Blame::Host, "failed".to_owned())),
            Why::BackendState(seen) => {
                let text =
                    format!("closed: somebody wrote a state that is ours to write, {seen:?}");
                (Blame::Host, text)
            }
            Why::FrontendState(seen) => {
                let text = format!("closed: no frontend can be in state {seen:?}");
                (Blame::Guest, text)
            }
            Why::Unpaired => {
                let place = path.frontend_path();
                (
                    Blame::Host,
                    format!("closed: its `frontend` key is not {place}"),
                )
            }
            Why::Hotplug => {
                let error = self.store.read(&path.key("hotplug-error")).ok().flatten();
                let error = String::from_utf8_lossy(&error.unwrap_or_default()).into_owned();
                if device.refusal.as_ref() == Some(&error) {
                    // Our own words, told already, on their way to whoever runs xl.
                    return device.say(now, Level::DEBUG, "closed: the hotplug script has told it");
                }
                let text = format!("closed: the hotplug script failed: {error}");
                (Blame::Host, text)
            }
        };
        device.fail(&mut self.store, now, blame, &text);
    }

    fn forget(&mut self, path: BackendPath) {
        let Some(device) = self.devices.remove(&path) else {
            return;
        };
        tracing::debug!(%device, "device removed");
        if let Some(node) = device.into_error_node() {
            self.past_errors.keep(path, node, &mut self.store);
        }
        self.driver.closing(&path);
        self.driver.forgotten(&path);
        self.unwatch(&path);
        // If it is there again already, it is a new device.
        self.changed.insert(path);
    }

    /// Keys of a frontend that are watched.
    fn watched(&self) -> impl Iterator<Item = &'static str> + use<D> {
        ["state"]
            .into_iter()
            .chain(self.driver.frontend_keys().iter().copied())
    }

    /// Forgets the watches of a device, as far as there are any.
    fn unwatch(&mut self, path: &BackendPath) {
        for key in self.watched() {
            match self
                .store
                .unwatch(&path.frontend_key(key), &path.to_string())
            {
                Ok(()) => {}
                Err(error) if error.errno() == Some(&Errno::NoEntry) => {}
                Err(error) => self.store_failed(&error),
            }
        }
    }

    pub(crate) fn note_switch(
        &mut self,
        path: BackendPath,
        state: State,
        outcome: Result<Switched, xenbus::StoreError>,
        now: Instant,
    ) {
        match outcome {
            Ok(Switched::Written) => {
                if let Some(device) = self.devices.get_mut(&path) {
                    device.say(now, Level::DEBUG, &format!("state {state}"));
                }
            }
            Ok(Switched::Already) => {}
            // Its removal is an event of its own, but may have come before.
            Ok(Switched::Gone) => {
                self.changed.insert(path);
            }
            Err(error) => {
                self.store_failed(&error);
                self.wake(path, now + STORE_PAUSE);
            }
        }
    }

    pub(crate) fn wake(&mut self, path: BackendPath, at: Instant) {
        if let Some(device) = self.devices.get_mut(&path) {
            device.wake_at(at);
        }
    }
}

/// A refusal at InitWait is told, not executed: see [`REFUSAL`].
fn told(
    device: &mut Device,
    store: &mut xenbus::Store,
    now: Instant,
    blame: Blame,
    why: &str,
) -> Vec<Key<'static>> {
    debug_assert_eq!(device.handshake.phase(), Phase::Waiting);
    device.fail(store, now, blame, why);
    let why = printable(why);
    device.refusal = Some(why.clone());
    vec![(REFUSAL, why)]
}
