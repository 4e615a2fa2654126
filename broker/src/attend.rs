//! Attending to one device: look what is there, let the handshake decide, do it.

use std::time::{Duration, Instant};

use tracing::Level;
use xenbus::{
    Action, BackendPath, Event, Key, Phase, Seen, Snapshot, State, Switched, Why, switch_state,
    switch_state_with,
};

use crate::device::{Device, Hold};
use crate::driver::{Driver, Refused};
use crate::fleet::Ordered;
use crate::message::Blame;
use crate::supervisor::Supervisor;

/// The key that carries a refusal to the hotplug script, which shows it to whoever runs xl. A
/// toolstack waits for InitWait before it runs the script, and shows nothing but the script's
/// errors.
const REFUSAL: &str = "xen-backends-error";

/// How long something that passes may delay InitWait: libxl waits ten seconds.
const ADVERTISE_PATIENCE: Duration = Duration::from_secs(6);
/// How long something that passes may delay a connection.
const CONNECT_PATIENCE: Duration = Duration::from_secs(30);
/// How long a worker may take to connect a device.
const CONNECT_LIMIT: Duration = Duration::from_secs(30);
/// How long a worker may take to give a device back before somebody is told. It waits for I/O.
const ENDING_LIMIT: Duration = Duration::from_secs(30);
/// When to try again after a store operation was refused.
const STORE_PAUSE: Duration = Duration::from_secs(1);

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
        let restarts = device.handshake.reconnects();
        let (handshake, actions) = device.handshake.decide(event, &seen);
        device.handshake = handshake;
        if handshake.reconnects() > restarts {
            device.backoff.note_restart(now);
        }
        for action in actions {
            self.execute(path, action, now);
        }
        self.retry(path, now);
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
        let watch = path.frontend_key("state");
        if let Err(error) = self.store.watch(&watch, &path.to_string()) {
            self.store_failed(&error);
            self.rescan.add(Some(path.frontend));
            return false;
        }
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

    fn begin_connecting(&mut self, path: BackendPath, now: Instant) {
        if let Some(device) = self.devices.get_mut(&path) {
            device.hold = Hold::Wanted {
                until: now + CONNECT_PATIENCE,
            };
            device.failure = None;
        }
    }

    /// Orders a connection that is wanted, unless something that passes is in the way.
    fn retry(&mut self, path: BackendPath, now: Instant) {
        let Some(device) = self.devices.get_mut(&path) else {
            return;
        };
        let Hold::Wanted { until } = device.hold else {
            return;
        };
        if self.fleet.is_ending(path.frontend) {
            // Its end wakes the guest's devices.
            return;
        }
        let connection = match self.driver.connect(&mut self.store, &path) {
            Ok(connection) => connection,
            Err(Refused::Store(error)) => {
                self.store_failed(&error);
                return self.wake(path, now + STORE_PAUSE);
            }
            Err(Refused::Busy { retry_after, .. }) if now < until => {
                return device.wake_at(now + retry_after);
            }
            Err(Refused::Busy { why, .. }) => return self.lost(path, Blame::Host, why, now),
            Err(Refused::Because { blame, why }) => return self.lost(path, blame, why, now),
        };
        device.keys = connection.keys;
        let ordered =
            self.fleet
                .connect(path.frontend, path.devid, connection.spec, &connection.fds);
        // The image's lock must end with the worker's descriptor: no duplicate stays here.
        drop(connection.fds);
        match ordered {
            Ok(Ordered::Sent) => {
                let until = now + CONNECT_LIMIT;
                device.hold = Hold::Connecting { until };
                device.say(now, Level::INFO, &connection.summary);
            }
            Ok(Ordered::Ending) => {}
            Err(error) => self.lost(path, Blame::Host, format!("no worker: {error}"), now),
        }
    }

    /// Nothing of the device is held any more, against everybody's wish.
    pub(crate) fn lost(&mut self, path: BackendPath, blame: Blame, why: String, now: Instant) {
        if let Some(device) = self.devices.get_mut(&path) {
            device.hold = Hold::Nothing;
            device.failure = Some((blame, why));
            device.backoff.note_fault(now);
            self.inbox.push_back((path, Event::Failed));
        }
    }

    /// An earlier broker's worker serves this device: nothing is to be done while it does.
    fn leave_to_incumbent(&mut self, path: BackendPath, now: Instant) {
        let pids = self.incumbents.pids(path.frontend);
        if pids.is_empty() {
            let why = "the process that served it is gone, with requests under way".to_owned();
            return self.lost(path, Blame::Host, why, now);
        }
        if let Some(device) = self.devices.get_mut(&path) {
            device.hold = Hold::Foreign;
            let text = format!("still served by the worker of an earlier broker (pid {pids:?})");
            device.say(now, Level::WARN, &text);
            self.inbox.push_back((path, Event::Connected));
        }
    }

    fn publish(&mut self, path: BackendPath, now: Instant) {
        let Some(device) = self.devices.get_mut(&path) else {
            return;
        };
        device.clear_error(&mut self.store);
        let outcome = switch_state_with(&mut self.store, &path, &device.keys, State::Connected);
        self.note_switch(path, State::Connected, outcome, now);
    }

    fn disconnect(&mut self, path: BackendPath, now: Instant) {
        let Some(device) = self.devices.get_mut(&path) else {
            return;
        };
        let until = now + ENDING_LIMIT;
        let asked = match device.hold {
            Hold::Connecting { .. } | Hold::Serving => {
                device.hold = Hold::Ending {
                    until,
                    failed: false,
                };
                self.fleet.disconnect(path.frontend, path.devid)
            }
            Hold::Foreign => {
                device.hold = Hold::ForeignEnding;
                let text = "goes: the earlier broker's worker of this guest is ended";
                device.say(now, Level::WARN, text);
                self.incumbents.kill(path.frontend).map(|()| true)
            }
            Hold::Ending { .. } | Hold::ForeignEnding => Ok(true),
            Hold::Nothing | Hold::Wanted { .. } => Ok(false),
        };
        match asked {
            Ok(true) => {}
            Ok(false) => {
                device.hold = Hold::Nothing;
                self.inbox.push_back((path, Event::Disconnected));
            }
            Err(error) => device.say(now, Level::ERROR, &format!("not disconnected: {error}")),
        }
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
                (
                    Blame::Host,
                    format!("closed: the hotplug script failed: {error}"),
                )
            }
        };
        device.fail(&mut self.store, now, blame, &text);
    }

    fn forget(&mut self, path: BackendPath) {
        let Some(mut device) = self.devices.remove(&path) else {
            return;
        };
        tracing::debug!(%device, "device removed");
        device.clear_error(&mut self.store);
        self.driver.forget(&path);
        let watch = path.frontend_key("state");
        if let Err(error) = self.store.unwatch(&watch, &path.to_string()) {
            self.store_failed(&error);
        }
        // If it is there again already, it is a new device.
        self.changed.insert(path);
    }

    fn note_switch(
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

    fn wake(&mut self, path: BackendPath, at: Instant) {
        if let Some(device) = self.devices.get_mut(&path) {
            device.wake_at(at);
        }
    }

    /// A worker that does not answer is ended, unless it may be waiting for the disk and others
    /// depend on it.
    fn check_deadlines(&mut self, path: BackendPath, now: Instant) {
        let guest = path.frontend;
        let Some(device) = self.devices.get_mut(&path) else {
            return;
        };
        let outcome = match device.hold {
            Hold::Connecting { until } if until <= now => {
                device.say(
                    now,
                    Level::ERROR,
                    "the worker does not connect it; it is killed",
                );
                self.fleet.kill(guest)
            }
            Hold::Ending { until, failed } if until <= now => {
                let wait = now + ENDING_LIMIT;
                device.hold = Hold::Ending {
                    until: wait,
                    failed,
                };
                if failed || self.fleet.devices(guest) <= 1 {
                    device.say(
                        now,
                        Level::ERROR,
                        "not given back in time; its worker is killed",
                    );
                    self.fleet.kill(guest)
                } else {
                    device.say(now, Level::WARN, "still waits for its last I/O");
                    Ok(())
                }
            }
            _ => Ok(()),
        };
        if let Err(error) = outcome {
            tracing::error!(domid = %guest, %error, "worker not killed");
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
    vec![(REFUSAL, crate::device::printable(why))]
}
