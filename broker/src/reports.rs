//! What workers report, and what their ends mean for their devices.

use std::io;
use std::time::{Duration, Instant};

use ring_proto::DomId;
use tracing::Level;
use xenbus::{BackendPath, Event};

use crate::device::{Device, Hold};
use crate::driver::Driver;
use crate::message::{Blame, FromWorker};
use crate::supervisor::Supervisor;

/// How long a worker that has said Failed may owe the answer to a Disconnect.
const OWED_LIMIT: Duration = Duration::from_secs(2);

impl<D: Driver> Supervisor<D> {
    /// Takes everything a guest's worker has reported.
    pub(crate) fn take_reports(&mut self, guest: DomId) -> io::Result<()> {
        loop {
            let now = Instant::now();
            let Some(report) = self.fleet.report(guest, now)? else {
                return Ok(());
            };
            self.heed(guest, report, now);
        }
    }

    fn heed(&mut self, guest: DomId, report: FromWorker, now: Instant) {
        let devid = match &report {
            FromWorker::Hello { version, pid } => {
                tracing::debug!(domid = %guest, pid, version, "worker is up");
                return;
            }
            FromWorker::Connected { device }
            | FromWorker::Adjusted { device }
            | FromWorker::Failed { device, .. }
            | FromWorker::Disconnected { device }
            | FromWorker::Alert { device, .. }
            | FromWorker::Fault { device, .. } => *device,
        };
        let path = self.path_of(guest, devid);
        let Some(device) = self.devices.get_mut(&path) else {
            tracing::debug!(domid = %guest, device = devid, "report of a device that is gone");
            self.fleet.released(guest, devid);
            return;
        };
        match report {
            FromWorker::Connected { .. } => {
                if matches!(device.hold, Hold::Connecting { .. }) {
                    device.hold = Hold::Serving;
                    self.inbox.push_back((path, Event::Connected));
                }
            }
            FromWorker::Adjusted { .. } => {
                device.changes = device.changes.saturating_sub(1);
                if device.changes == 0 {
                    // Its frontend may wait for that.
                    self.changed.insert(path);
                }
            }
            FromWorker::Failed { blame, message, .. } => self.failed(path, blame, message, now),
            FromWorker::Fault { blame, message, .. } => self.faulted(path, blame, message, now),
            FromWorker::Disconnected { .. } => self.disconnected(path, now),
            FromWorker::Alert { message, .. } => {
                device.fail(&mut self.store, now, Blame::Host, &message);
            }
            FromWorker::Hello { .. } => {}
        }
    }

    fn failed(&mut self, path: BackendPath, blame: Blame, message: String, now: Instant) {
        let Some(device) = self.devices.get_mut(&path) else {
            return;
        };
        match &mut device.hold {
            Hold::Connecting { .. } => {
                self.fleet.released(path.frontend, path.devid);
                self.lost(path, blame, message, now);
            }
            // The two crossed: the answer to our order is still to come.
            Hold::Ending { until, failed } => {
                *failed = true;
                *until = now + OWED_LIMIT;
                device.wake_at(now + OWED_LIMIT);
            }
            _ => {}
        }
    }

    fn faulted(&mut self, path: BackendPath, blame: Blame, message: String, now: Instant) {
        let Some(device) = self.devices.get_mut(&path) else {
            return;
        };
        if matches!(device.hold, Hold::Serving | Hold::Connecting { .. }) {
            device.failure = Some((blame, message));
            device.backoff.note_fault(now);
            self.inbox.push_back((path, Event::Faulted));
        }
    }

    fn disconnected(&mut self, path: BackendPath, now: Instant) {
        let Some(device) = self.devices.get_mut(&path) else {
            return;
        };
        if matches!(device.hold, Hold::Ending { .. }) {
            device.hold = Hold::Nothing;
            device.say(now, Level::INFO, "disconnected");
            self.fleet.released(path.frontend, path.devid);
            self.inbox.push_back((path, Event::Disconnected));
        }
    }

    /// A worker has ended: its devices are lost, nobody else's.
    pub(crate) fn take_exit(&mut self, guest: DomId) -> io::Result<()> {
        let Some(ended) = self.fleet.reap(guest)? else {
            return Ok(());
        };
        let (pid, exit) = (ended.pid, ended.exit);
        if ended.ordered && exit.is_orderly() && ended.devices.is_empty() {
            tracing::debug!(domid = %guest, pid, "worker ended");
        } else {
            let devices = ended.devices.len();
            tracing::error!(domid = %guest, pid, devices, %exit, "worker died");
        }
        let now = Instant::now();
        let held: Vec<BackendPath> = self
            .of_guest(guest)
            .filter(|device| ended.devices.contains(&device.path.devid))
            .map(|device| device.path)
            .collect();
        for path in held {
            let why = format!("its worker died ({exit}); requests under way are lost");
            self.lost(path, Blame::Host, why, now);
        }
        // Those that waited for its end.
        let waiting: Vec<BackendPath> = self
            .of_guest(guest)
            .filter(|device| matches!(device.hold, Hold::Wanted { .. }))
            .map(|device| device.path)
            .collect();
        self.changed.extend(waiting);
        Ok(())
    }

    /// The last worker that an earlier broker had for a guest has ended.
    pub(crate) fn foreign_ended(&mut self, guest: DomId) {
        let now = Instant::now();
        let paths: Vec<BackendPath> = self.of_guest(guest).map(|device| device.path).collect();
        for path in paths {
            match self.devices.get_mut(&path) {
                Some(device) if device.hold == Hold::ForeignEnding => {
                    device.hold = Hold::Nothing;
                    self.inbox.push_back((path, Event::Disconnected));
                }
                Some(device) if device.hold == Hold::Foreign => {
                    let why = "the worker of an earlier broker has ended".to_owned();
                    self.lost(path, Blame::Host, why, now);
                }
                _ => {}
            }
        }
    }

    pub(crate) fn of_guest(&self, guest: DomId) -> impl Iterator<Item = &Device> {
        let first = self.path_of(guest, 0);
        let last = self.path_of(guest, u32::MAX);
        self.devices.range(first..=last).map(|(_, device)| device)
    }

    pub(crate) fn path_of(&self, guest: DomId, devid: u32) -> BackendPath {
        BackendPath {
            backend: self.own_domain,
            class: self.driver.class(),
            frontend: guest,
            devid,
        }
    }
}
