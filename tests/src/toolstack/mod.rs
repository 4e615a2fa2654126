//! The toolstack's part: what an unmodified libxl writes, waits for and removes, in its order.
//!
//! Paths, keys and steps are those of Xen `tools/libs/light/libxl_{disk,nic,device}.c`, 4.17 to 4.20.
//! The hotplug scripts are played, too.
//!
//! - here: what all devices have in common
//! - [`disk`]: `disk=` lines and `block-image`
//! - [`nic`]: `vif=` lines and `vif-bridge`
//!
//! A device is named by its [`DeviceId`]; a bare number is that of a disk.

pub mod disk;
pub mod nic;

use std::time::Duration;

use anyhow::Context;
use ring_proto::DomId;
use xenbus::{Class, Permissions, State, Store, StoreError};

use crate::frontend::walk::{PATIENCE, wait_gone, wait_state, wait_value};

pub use disk::{DiskLine, REFUSAL, XVDA};
pub use nic::NicLine;

/// Where backends run.
const DOM0: DomId = DomId::new(0);

/// Which of a guest's devices.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeviceId {
    /// What it is.
    pub class: Class,
    /// Its number among those of its class.
    pub number: u32,
}

impl From<u32> for DeviceId {
    /// A disk, by its virtual device.
    fn from(number: u32) -> Self {
        let class = Class::Vbd;
        Self { class, number }
    }
}

/// A network interface of a guest.
#[must_use]
pub const fn vif(handle: u32) -> DeviceId {
    DeviceId {
        class: Class::Vif,
        number: handle,
    }
}

/// The frontend's directory of a device.
#[must_use]
pub fn frontend_path(domid: DomId, device: impl Into<DeviceId>) -> String {
    let DeviceId { class, number } = device.into();
    let class = class.frontend_str();
    format!("/local/domain/{domid}/device/{class}/{number}")
}

/// The backend's directory of a device.
#[must_use]
pub fn backend_path(domid: DomId, device: impl Into<DeviceId>) -> String {
    let DeviceId { class, number } = device.into();
    format!("{}/{number}", guest_path(domid, class))
}

/// Where the backend says what is wrong with a device.
#[must_use]
pub fn error_path(domid: DomId, device: impl Into<DeviceId>) -> String {
    let DeviceId { class, number } = device.into();
    let class = class.as_str();
    format!("/local/domain/0/error/backend/{class}/{domid}/{number}/error")
}

/// Where libxl keeps what it has to know of a device.
fn copy_path(domid: DomId, device: DeviceId) -> String {
    format!(
        "/libxl/{domid}/device/{}/{}",
        device.class.as_str(),
        device.number
    )
}

/// The directory that holds those of all of a guest's devices of one class.
fn guest_path(domid: DomId, class: Class) -> String {
    format!("/local/domain/0/backend/{}/{domid}", class.as_str())
}

/// Plays libxl over a connection of domain 0.
#[derive(Debug)]
pub struct Toolstack {
    store: Store,
}

impl Toolstack {
    /// Takes a connection of domain 0.
    #[must_use]
    pub const fn new(store: Store) -> Self {
        Self { store }
    }

    /// The connection, for looking around.
    #[must_use]
    pub const fn store(&mut self) -> &mut Store {
        &mut self.store
    }

    /// Makes the directory of a new guest, as far as devices need it.
    ///
    /// # Errors
    /// The store refuses.
    pub fn create_domain(&mut self, domid: DomId) -> anyhow::Result<()> {
        let home = format!("/local/domain/{domid}");
        let readable = Permissions::private(DOM0).readable_by(domid);
        self.store.mkdir(&home)?;
        self.store.set_permissions(&home, &readable)?;
        self.store
            .write(&format!("{home}/domid"), domid.to_string())?;
        self.store
            .write(&format!("{home}/name"), format!("guest{domid}"))?;
        Ok(())
    }

    /// Writes the keys of a new device, complete in one transaction.
    fn write_device(
        &mut self,
        domid: DomId,
        device: DeviceId,
        back: &[(&str, String)],
        front: &[(&str, String)],
    ) -> anyhow::Result<()> {
        let (backend, frontend) = (backend_path(domid, device), frontend_path(domid, device));
        self.make(&backend, &Permissions::private(DOM0).readable_by(domid))?;
        self.make(&frontend, &Permissions::private(domid).readable_by(DOM0))?;
        let copy = copy_path(domid, device);
        let ours = [("frontend", frontend.clone()), ("backend", backend.clone())];
        let under = |directory: &str, keys: &[(&str, String)]| -> Vec<(String, String)> {
            let join =
                |(key, value): &(&str, String)| (format!("{directory}/{key}"), value.clone());
            keys.iter().map(join).collect()
        };
        let mut nodes = under(&frontend, front);
        nodes.extend(under(&backend, back));
        nodes.extend(under(&copy, &ours));
        nodes.extend(under(&copy, back));
        let nodes: Vec<(&str, &[u8])> = nodes
            .iter()
            .map(|(path, value)| (path.as_str(), value.as_bytes()))
            .collect();
        Ok(self.store.transaction(|tx| tx.write_many(&nodes))?)
    }

    /// `xl block-detach` or `xl network-detach`: asks the backend to close, waits, removes everything.
    ///
    /// # Errors
    /// The backend does not reach Closed in libxl's ten seconds; everything was removed all the same.
    pub fn detach(&mut self, domid: DomId, device: impl Into<DeviceId>) -> anyhow::Result<()> {
        let device = device.into();
        self.ask_to_close(domid, device, false)?;
        self.finish_removal(domid, device)
    }

    /// `online` = 0 and state Closing on the backend's node; with `force` the frontend's directory
    /// goes at the same time.
    ///
    /// # Errors
    /// The store refuses.
    pub fn ask_to_close(
        &mut self,
        domid: DomId,
        device: impl Into<DeviceId>,
        force: bool,
    ) -> anyhow::Result<()> {
        let device = device.into();
        let (backend, frontend) = (backend_path(domid, device), frontend_path(domid, device));
        let state = format!("{backend}/state");
        let asked = self.store.transaction(|tx| {
            if force {
                tx.remove(&frontend)?;
            }
            let Some(now) = tx.read(&state)? else {
                return Ok(());
            };
            tx.write(&format!("{backend}/online"), "0")?;
            if State::parse(&now) != Some(State::Closed) {
                tx.write(&state, State::Closing.value())?;
            }
            Ok::<(), StoreError>(())
        });
        Ok(asked?)
    }

    /// Waits for the backend to be Closed and removes the device's nodes.
    ///
    /// # Errors
    /// As [`detach`](Self::detach).
    pub fn finish_removal(
        &mut self,
        domid: DomId,
        device: impl Into<DeviceId>,
    ) -> anyhow::Result<()> {
        let device = device.into();
        let waited = self.wait_removable(domid, device);
        self.remove_nodes(domid, device)?;
        waited
    }

    /// Waits for the backend to be Closed, as long as libxl does.
    fn wait_removable(&mut self, domid: DomId, device: DeviceId) -> anyhow::Result<()> {
        let path = format!("{}/state", backend_path(domid, device));
        let closed = |value: Option<&[u8]>| {
            value.is_none_or(|value| State::parse(value) == Some(State::Closed))
        };
        wait_value(&mut self.store, &path, PATIENCE, closed).map(drop)
    }

    /// Removes everything about a device.
    fn remove_nodes(&mut self, domid: DomId, device: DeviceId) -> anyhow::Result<()> {
        self.store.remove(&frontend_path(domid, device))?;
        self.store.remove(&backend_path(domid, device))?;
        self.store.remove(&copy_path(domid, device))?;
        // The guest's directory goes with its last device.
        let parent = guest_path(domid, device.class);
        if self
            .store
            .list(&parent)?
            .is_some_and(|left| left.is_empty())
        {
            self.store.remove(&parent)?;
        }
        Ok(())
    }

    /// The devices' part of `xl destroy`: all of the guest's are closed by force.
    ///
    /// # Errors
    /// A backend does not close in time.
    pub fn remove_devices(&mut self, domid: DomId) -> anyhow::Result<()> {
        let mut devices = Vec::new();
        for class in [Class::Vbd, Class::Vif] {
            let names = self.store.list(&guest_path(domid, class))?;
            let names = names.unwrap_or_default();
            let numbers = names.iter().filter_map(|name| name.parse().ok());
            devices.extend(numbers.map(|number| DeviceId { class, number }));
        }
        for &device in &devices {
            self.ask_to_close(domid, device, true)?;
        }
        for &device in &devices {
            self.finish_removal(domid, device)?;
        }
        Ok(())
    }

    /// The rest of `xl destroy`, after the hypervisor has ended the guest: its directories go.
    ///
    /// # Errors
    /// The store refuses.
    pub fn forget_domain(&mut self, domid: DomId) -> anyhow::Result<()> {
        self.store.remove(&format!("/local/domain/{domid}"))?;
        self.store.remove(&format!("/libxl/{domid}"))?;
        Ok(())
    }

    /// The state of a device's backend; `None` if it has none.
    ///
    /// # Errors
    /// The store is lost.
    pub fn backend_state(
        &mut self,
        domid: DomId,
        device: impl Into<DeviceId>,
    ) -> anyhow::Result<Option<State>> {
        let value = self
            .store
            .read(&format!("{}/state", backend_path(domid, device)))?;
        Ok(value.and_then(|value| State::parse(&value)))
    }

    /// Waits for the backend of a device to be in one of `wanted`; in which.
    ///
    /// # Errors
    /// It is in none of them within ten seconds.
    pub fn wait_backend(
        &mut self,
        domid: DomId,
        device: impl Into<DeviceId>,
        wanted: &[State],
    ) -> anyhow::Result<State> {
        wait_state(&mut self.store, &backend_path(domid, device), wanted)
    }

    /// Waits for the text of the backend's error node.
    ///
    /// # Errors
    /// There is none within ten seconds.
    pub fn wait_error(
        &mut self,
        domid: DomId,
        device: impl Into<DeviceId>,
    ) -> anyhow::Result<String> {
        let path = error_path(domid, device);
        let limit = Duration::from_secs(10);
        let value = wait_value(&mut self.store, &path, limit, |value| value.is_some())?;
        String::from_utf8(value.unwrap_or_default()).context("the error is no text")
    }

    /// Waits until the backend of a device has no directory any more.
    ///
    /// # Errors
    /// It has one still after ten seconds.
    pub fn wait_gone(&mut self, domid: DomId, device: impl Into<DeviceId>) -> anyhow::Result<()> {
        wait_gone(&mut self.store, &backend_path(domid, device))
    }

    fn make(&mut self, path: &str, permissions: &Permissions) -> anyhow::Result<()> {
        self.store.mkdir(path)?;
        Ok(self.store.set_permissions(path, permissions)?)
    }
}
