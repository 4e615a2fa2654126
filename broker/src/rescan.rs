//! What events do not tell: whole directories, and domains that have died.

use std::collections::BTreeSet;
use std::time::Instant;

use ring_proto::DomId;
use xenbus::BackendPath;

use crate::attend::STORE_PAUSE;
use crate::driver::Driver;
use crate::supervisor::Supervisor;

/// What has to be listed again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Rescan {
    Guests(BTreeSet<DomId>),
    Everything,
}

impl Rescan {
    pub(crate) fn add(&mut self, guest: Option<DomId>) {
        match (guest, &mut *self) {
            (Some(guest), Self::Guests(guests)) => {
                guests.insert(guest);
            }
            (Some(_), Self::Everything) => {}
            (None, all) => *all = Self::Everything,
        }
    }

    pub(crate) fn take(&mut self) -> Self {
        std::mem::replace(self, Self::Guests(BTreeSet::new()))
    }
}

/// The guest whose directory of devices this is (`/local/domain/0/backend/vbd/7`).
pub(crate) fn guest_of(path: &str) -> Option<DomId> {
    // Any device number will do to have the path read.
    let (device, _) = BackendPath::containing(&format!("{path}/0"))?;
    Some(device.frontend)
}

impl<D: Driver> Supervisor<D> {
    /// Lists what events do not tell, and looks at the devices of domains that have died.
    pub(crate) fn take_rescan(&mut self, now: Instant) {
        if self.rescan_after.is_some_and(|after| now < after) {
            return;
        }
        self.rescan_after = None;
        match self.rescan.take() {
            Rescan::Everything => {
                self.changed.extend(self.devices.keys());
                self.released = false;
                self.scan_everything(now);
            }
            Rescan::Guests(guests) => {
                for guest in guests {
                    self.scan(guest, now);
                }
            }
        }
        if std::mem::take(&mut self.released) {
            self.look_for_the_dead(now);
        }
    }

    /// Ends the workers of an earlier broker whose guests have no devices any more. They went while no
    /// broker ran, so nobody else will, and what such a worker has mapped keeps a domain that is dead.
    pub(crate) fn end_forgotten(&mut self) {
        let directory = self.driver.class().directory(self.own_domain);
        for guest in self.incumbents.guests() {
            match self.store.list(&format!("{directory}/{guest}")) {
                Ok(devices) if devices.as_ref().is_none_or(Vec::is_empty) => {
                    let pids = self.incumbents.pids(guest);
                    tracing::info!(domid = %guest, ?pids, "its devices are gone: its worker is ended");
                    if let Err(error) = self.incumbents.kill(guest) {
                        tracing::error!(domid = %guest, ?pids, %error, "cannot end it: kill it");
                    }
                }
                Ok(_) => {}
                Err(error) => self.store_failed(&error),
            }
        }
    }

    /// Lists a guest's devices, or all, again in a while: now it was refused.
    pub(crate) fn rescan_later(&mut self, guest: Option<DomId>, now: Instant) {
        self.rescan.add(guest);
        self.rescan_after = Some(now + STORE_PAUSE);
    }

    fn scan_everything(&mut self, now: Instant) {
        let directory = self.driver.class().directory(self.own_domain);
        match self.store.list(&directory) {
            Ok(guests) => {
                for guest in guests.unwrap_or_default() {
                    if let Ok(domid) = guest.parse() {
                        self.scan(DomId::new(domid), now);
                    }
                }
            }
            Err(error) => {
                self.store_failed(&error);
                self.rescan_later(None, now);
            }
        }
    }

    fn scan(&mut self, guest: DomId, now: Instant) {
        let directory = self.driver.class().directory(self.own_domain);
        let directory = format!("{directory}/{guest}");
        match self.store.list(&directory) {
            Ok(devices) => {
                let found = devices.unwrap_or_default();
                let found = found
                    .iter()
                    .filter_map(|devid| BackendPath::parse(&format!("{directory}/{devid}")));
                self.changed.extend(found);
                let known: Vec<BackendPath> =
                    self.of_guest(guest).map(|known| known.path).collect();
                self.changed.extend(known);
            }
            Err(error) => {
                self.store_failed(&error);
                self.rescan_later(Some(guest), now);
            }
        }
    }

    /// One question per guest, not per device.
    fn look_for_the_dead(&mut self, now: Instant) {
        let mut guests: Vec<DomId> = self.devices.keys().map(|path| path.frontend).collect();
        guests.dedup();
        for guest in guests {
            match self.store.is_introduced(guest) {
                Ok(true) => {}
                Ok(false) => {
                    let theirs: Vec<_> = self.of_guest(guest).map(|device| device.path).collect();
                    self.changed.extend(theirs);
                }
                Err(error) => {
                    self.released = true;
                    self.rescan_after = Some(now + STORE_PAUSE);
                    return self.store_failed(&error);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guests_directory_is_told_from_the_whole_tree() {
        assert_eq!(
            guest_of("/local/domain/0/backend/vbd/7"),
            Some(DomId::new(7))
        );
        assert_eq!(guest_of("/local/domain/0/backend/vbd"), None);
        assert_eq!(guest_of("/local/domain/0/backend"), None);
        assert_eq!(guest_of("@releaseDomain"), None);
    }

    #[test]
    fn a_rescan_of_everything_swallows_the_others() {
        let mut rescan = Rescan::Guests(BTreeSet::new());
        rescan.add(Some(DomId::new(7)));
        assert_eq!(rescan, Rescan::Guests([DomId::new(7)].into()));
        rescan.add(None);
        rescan.add(Some(DomId::new(8)));
        assert_eq!(rescan.take(), Rescan::Everything);
        assert_eq!(rescan, Rescan::Guests(BTreeSet::new()));
    }
}
