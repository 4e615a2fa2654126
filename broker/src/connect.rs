//! Handing a device to a worker and getting it back.

use std::time::{Duration, Instant};

use tracing::Level;
use xenbus::{BackendPath, Event, State, Switched, switch_state, switch_state_with};

use crate::attend::STORE_PAUSE;
use crate::device::{Hold, printable};
use crate::driver::{Driver, Refused};
use crate::fleet::Ordered;
use crate::message::Blame;
use crate::supervisor::Supervisor;

/// How long something that passes may delay a connection.
const CONNECT_PATIENCE: Duration = Duration::from_secs(30);
/// How long a worker may take to connect a device.
const CONNECT_LIMIT: Duration = Duration::from_secs(30);
/// How long a worker may take to give a device back before somebody is told. It waits for I/O.
const ENDING_LIMIT: Duration = Duration::from_secs(30);

impl<D: Driver> Supervisor<D> {
    pub(crate) fn begin_connecting(&mut self, path: BackendPath, now: Instant) {
        if let Some(device) = self.devices.get_mut(&path) {
            device.hold = Hold::Wanted {
                until: now + CONNECT_PATIENCE,
            };
            device.failure = None;
        }
    }

    /// Orders a connection that is wanted, unless something that passes is in the way.
    pub(crate) fn retry(&mut self, path: BackendPath, now: Instant) {
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
        device.changes = 0;
        let ordered =
            self.fleet
                .connect(path.frontend, path.devid, connection.spec, &connection.fds);
        // The image's lock must end with the worker's descriptor: no duplicate stays here.
        drop(connection.fds);
        match ordered {
            Ok(Ordered::Sent) => {
                let until = now + CONNECT_LIMIT;
                device.hold = Hold::Connecting { until };
                let text = format!("connecting {}", connection.summary);
                device.say(now, Level::INFO, &text);
                device.summary = Some(connection.summary);
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
            self.driver.closing(&path);
            self.inbox.push_back((path, Event::Failed));
        }
    }

    /// An earlier broker's worker serves this device: nothing is to be done while it does.
    pub(crate) fn leave_to_incumbent(&mut self, path: BackendPath, now: Instant) {
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

    pub(crate) fn publish(&mut self, path: BackendPath, now: Instant) {
        let Some(device) = self.devices.get_mut(&path) else {
            return;
        };
        device.clear_error(&mut self.store);
        let outcome = switch_state_with(&mut self.store, &path, &device.keys, State::Connected);
        let told = matches!(outcome, Ok(Switched::Written | Switched::Already));
        self.note_switch(path, State::Connected, outcome, now);
        if told {
            self.driver.connected(&path);
        }
    }

    /// Answers a frontend that wants a change, once its worker has taken it over; until then, it is
    /// asked for again when the worker has said so.
    pub(crate) fn reconfigure(&mut self, path: BackendPath, now: Instant) {
        if self.adjust(path, now) {
            let outcome = switch_state(&mut self.store, &path, State::Reconfigured);
            self.note_switch(path, State::Reconfigured, outcome, now);
        }
    }

    /// Tells the worker of a device that is served what may have changed about it. True if it has
    /// taken over all; what it could not be told, because the store does not answer, it is told later.
    pub(crate) fn adjust(&mut self, path: BackendPath, now: Instant) -> bool {
        let Some(device) = self.devices.get_mut(&path) else {
            return false;
        };
        if device.hold != Hold::Serving {
            return false;
        }
        let changes = match self.driver.adjust(&mut self.store, &path) {
            Ok(changes) => changes,
            Err(Refused::Store(error)) => {
                self.store_failed(&error);
                self.wake(path, now + STORE_PAUSE);
                return false;
            }
            Err(Refused::Busy { why, .. } | Refused::Because { why, .. }) => {
                device.say(now, Level::WARN, &why);
                return false;
            }
        };
        for change in changes {
            let text = format!("changes: {}", printable(&change.to_string()));
            match self.fleet.adjust(path.frontend, path.devid, change) {
                Ok(()) => {
                    device.say(now, Level::INFO, &text);
                    device.changes = device.changes.saturating_add(1);
                }
                Err(error) => {
                    let text = format!("its worker does not hear of a change yet: {error}");
                    device.say(now, Level::ERROR, &text);
                    self.driver.unheard(&path);
                    device.wake_at(now + STORE_PAUSE);
                    return false;
                }
            }
        }
        device.changes == 0
    }

    pub(crate) fn disconnect(&mut self, path: BackendPath, now: Instant) {
        let Some(device) = self.devices.get_mut(&path) else {
            return;
        };
        self.driver.closing(&path);
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

    /// A worker that does not answer is ended, unless it may be waiting for the disk and others
    /// depend on it.
    pub(crate) fn check_deadlines(&mut self, path: BackendPath, now: Instant) {
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
