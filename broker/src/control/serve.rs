//! Answering what is asked over the control socket.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use mio::Token;
use ring_proto::DomId;
use serde_json::Value;
use xenbus::Phase;

use super::socket::Asked;
use super::{Answer, Command, DeviceStatus, Reply, STATUS, Status};
use crate::device::{Device, Hold, printable};
use crate::driver::{Driver, Refused};
use crate::supervisor::Supervisor;

impl<D: Driver> Supervisor<D> {
    /// Something of the control socket is ready.
    pub(crate) fn serve_control(&mut self, token: Token) {
        let now = Instant::now();
        let Some(asked) = self.control.wake(token, now) else {
            return;
        };
        let reply = match self.answer(&asked, now) {
            Ok(value) => Reply::Ok(value),
            Err(why) => Reply::Error(why),
        };
        self.control.reply(&asked, &reply, now);
    }

    fn answer(&mut self, asked: &Asked, now: Instant) -> Result<Value, String> {
        let name = asked.request.command.as_str();
        if name == STATUS {
            let status = self.status(now);
            return serde_json::to_value(status).map_err(|error| error.to_string());
        }
        let commands = self.driver.commands();
        let Some(command) = commands.iter().find(|command| command.name == name) else {
            return Err(unknown(name, commands));
        };
        if !self.control.may(asked, command.right) {
            return Err(format!(
                "{name} is for root and members of the socket's group"
            ));
        }
        if command.changes {
            tracing::info!("told to {name}");
        }
        let done = self.driver.control(&mut self.store, &asked.request);
        // What was changed before something failed has changed.
        let may_have_changed = command.changes;
        if done
            .as_ref()
            .map_or(may_have_changed, |done| done.look_again)
        {
            self.changed.extend(self.devices.keys());
        }
        match done {
            Ok(Answer { value, .. }) => Ok(value),
            Err(Refused::Store(error)) => {
                self.store_failed(&error);
                Err(format!("xenstore: {error}"))
            }
            Err(Refused::Busy { why, .. } | Refused::Because { why, .. }) => Err(why),
        }
    }

    fn status(&mut self, now: Instant) -> Status {
        let names = self.names();
        let devices = self.devices.values().map(|device| {
            let path = device.path;
            DeviceStatus {
                guest: path.frontend.raw(),
                name: names.get(&path.frontend).cloned(),
                device: path.devid,
                state: state(device).to_owned(),
                since: now.saturating_duration_since(device.since).as_secs(),
                workers: self.workers(device),
                summary: device.summary.as_deref().map(printable),
                error: device.trouble.clone(),
            }
        });
        Status {
            daemon: self.name.to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            domain: self.own_domain.raw(),
            xenstore: self.store.is_connected(),
            devices: devices.collect(),
        }
    }

    fn workers(&self, device: &Device) -> Vec<u32> {
        match device.hold {
            Hold::Nothing | Hold::Wanted { .. } => Vec::new(),
            Hold::Foreign | Hold::ForeignEnding => self.incumbents.pids(device.path.frontend),
            Hold::Connecting { .. } | Hold::Serving | Hold::Ending { .. } => {
                self.fleet.pid(device.path.frontend).into_iter().collect()
            }
        }
    }

    /// The guests' names, in one round trip, for readers only: a name that cannot be had is none.
    fn names(&mut self) -> BTreeMap<DomId, String> {
        let guests: BTreeSet<DomId> = self.devices.keys().map(|path| path.frontend).collect();
        let keys: Vec<_> = guests
            .iter()
            .map(|guest| format!("/local/domain/{guest}/name"))
            .collect();
        if keys.is_empty() || !self.store.is_connected() {
            return BTreeMap::new();
        }
        let names = match self.store.read_many(&keys) {
            Ok(names) => names,
            Err(error) => {
                if error.is_disconnect() {
                    self.store_failed(&error);
                }
                return BTreeMap::new();
            }
        };
        let text = |name: Vec<u8>| printable(&String::from_utf8_lossy(&name));
        let named = guests.into_iter().zip(names);
        named
            .filter_map(|(guest, name)| Some((guest, text(name?))))
            .collect()
    }
}

fn unknown(name: &str, commands: &[Command]) -> String {
    let known = commands.iter().map(|command| command.name);
    let known: Vec<_> = std::iter::once(STATUS).chain(known).collect();
    format!(
        "there is no command {:?}; the commands are {}",
        printable(name),
        known.join(", ")
    )
}

/// In words of an administrator.
fn state(device: &Device) -> &'static str {
    match (device.hold, device.handshake.phase()) {
        (Hold::Foreign, _) => "served by an earlier daemon's process",
        (Hold::ForeignEnding | Hold::Ending { .. }, _) => "disconnecting",
        (_, Phase::Unseen) => "new",
        (_, Phase::Waiting) if device.refusal.is_some() => "refused",
        (_, Phase::Waiting) => "waiting for the guest",
        (_, Phase::Connecting { .. }) => "connecting",
        (_, Phase::Serving) => "serving",
        (_, Phase::Closing { .. }) => "closing",
        (_, Phase::Draining) => "disconnecting",
        (_, Phase::Closed { .. } | Phase::Forgotten) => "closed",
    }
}
