//! A guest's end of a device of any kind, from Initialising to Closed: its two directories and states.

use std::sync::Arc;

use anyhow::Context;
use xenbus::{State, Store};

use super::walk::{PATIENCE, wait_state, wait_value};
use crate::sim::hypervisor::GuestDomain;
use crate::toolstack::{DeviceId, frontend_path};

/// A device that is not connected.
#[derive(Debug)]
pub struct Device {
    domain: Arc<GuestDomain>,
    store: Store,
    frontend: String,
    backend: String,
}

impl Device {
    /// Finds the device that the toolstack made. `store` must be the guest's own connection.
    ///
    /// # Errors
    /// There is no such device.
    pub fn find(
        domain: &Arc<GuestDomain>,
        mut store: Store,
        device: impl Into<DeviceId>,
    ) -> anyhow::Result<Self> {
        let frontend = frontend_path(domain.domid(), device);
        let backend = store.read(&format!("{frontend}/backend"))?;
        let backend = backend.with_context(|| format!("{frontend} names no backend"))?;
        Ok(Self {
            domain: Arc::clone(domain),
            store,
            frontend,
            backend: String::from_utf8(backend).context("the backend's path is no text")?,
        })
    }

    /// The guest.
    #[must_use]
    pub const fn domain(&self) -> &Arc<GuestDomain> {
        &self.domain
    }

    /// The guest's connection to xenstore.
    #[must_use]
    pub const fn store(&mut self) -> &mut Store {
        &mut self.store
    }

    /// The guest's own directory.
    #[must_use]
    pub fn frontend(&self) -> &str {
        &self.frontend
    }

    /// The backend's directory.
    #[must_use]
    pub fn backend(&self) -> &str {
        &self.backend
    }

    /// Writes our own state.
    ///
    /// # Errors
    /// The store refuses.
    pub fn switch(&mut self, state: State) -> anyhow::Result<()> {
        let path = format!("{}/state", self.frontend);
        Ok(self.store.write(&path, state.value())?)
    }

    /// Waits for the backend to be in one of `wanted`; in which.
    ///
    /// # Errors
    /// It is in none of them in the time that libxl would wait.
    pub fn wait_backend(&mut self, wanted: &[State]) -> anyhow::Result<State> {
        wait_state(&mut self.store, &self.backend, wanted)
    }

    /// Waits for the backend to be closed, or its directory to be gone.
    ///
    /// # Errors
    /// It is neither in the time that libxl would wait.
    pub fn wait_closed(&mut self) -> anyhow::Result<()> {
        let path = format!("{}/state", self.backend);
        let closed = |value: Option<&[u8]>| {
            value.is_none_or(|value| State::parse(value) == Some(State::Closed))
        };
        wait_value(&mut self.store, &path, PATIENCE, closed).map(drop)
    }

    /// Writes keys of our own directory in one transaction.
    ///
    /// # Errors
    /// The store refuses.
    pub fn offer(&mut self, keys: &[(String, String)]) -> anyhow::Result<()> {
        let nodes: Vec<(String, &[u8])> = keys
            .iter()
            .map(|(key, value)| (format!("{}/{key}", self.frontend), value.as_bytes()))
            .collect();
        let nodes: Vec<(&str, &[u8])> = nodes.iter().map(|(k, v)| (k.as_str(), *v)).collect();
        let written = self.store.transaction(|tx| tx.write_many(&nodes));
        Ok(written?)
    }

    /// Removes the keys of an earlier offer, as a frontend does that starts over.
    ///
    /// # Errors
    /// The store refuses.
    pub fn withdraw(&mut self, keys: &[(String, String)]) -> anyhow::Result<()> {
        for (key, _) in keys {
            let first = key.split('/').next().unwrap_or(key);
            self.store.remove(&format!("{}/{first}", self.frontend))?;
        }
        Ok(())
    }

    /// Starts over after Closed, as a frontend that is loaded again does.
    ///
    /// # Errors
    /// The backend does not wait for us in time.
    pub fn start_over(&mut self) -> anyhow::Result<()> {
        self.switch(State::Initialising)?;
        self.wait_backend(&[State::InitWait])?;
        Ok(())
    }

    /// Closes as Linux does when a driver is unloaded.
    ///
    /// # Errors
    /// The backend does not follow in time.
    pub fn close(&mut self) -> anyhow::Result<()> {
        self.switch(State::Closing)?;
        self.follow_closing()
    }

    /// Answers a backend that closes.
    ///
    /// # Errors
    /// It does not close, or not in time.
    pub fn follow_closing(&mut self) -> anyhow::Result<()> {
        self.wait_backend(&[State::Closing, State::Closed])?;
        self.switch(State::Closed)?;
        self.wait_closed()
    }

    /// The walk of a kernel that was started over an old one (kexec, crash kernel): Linux
    /// `xenbus_reset_state`.
    ///
    /// # Errors
    /// The backend does not follow a step.
    pub fn kexec(&mut self) -> anyhow::Result<()> {
        for (ours, theirs) in [
            (State::Closing, State::Closing),
            (State::Closed, State::Closed),
            (State::Initialising, State::InitWait),
        ] {
            self.switch(ours)?;
            self.wait_backend(&[theirs])?;
        }
        Ok(())
    }
}
