//! The whole simulated machine in one value.

use std::path::{Path, PathBuf};

use anyhow::Context;

use super::hypervisor::{self, Control, GuestDomain, SimError};

/// A simulated machine that is served from threads of this process.
///
/// A daemon on it is started with `--hypervisor sim:DIR`, in any process. Dropping it ends the
/// machine: daemons see their connections lost.
#[derive(Debug)]
pub struct Machine {
    dir: PathBuf,
    _hypervisor: hypervisor::Server,
}

impl Machine {
    /// Serves a machine in `dir`, which is made if it is not there.
    ///
    /// # Errors
    /// The directory or a socket in it cannot be made.
    pub fn start(dir: &Path) -> anyhow::Result<Self> {
        std::fs::create_dir_all(dir).with_context(|| format!("cannot make {}", dir.display()))?;
        Ok(Self {
            dir: dir.to_path_buf(),
            _hypervisor: hypervisor::Server::start(dir)?,
        })
    }

    /// Where it is served.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// A connection for looking at the hypervisor and making it misbehave.
    ///
    /// # Errors
    /// [`SimError::Connect`].
    pub fn control(&self) -> Result<Control, SimError> {
        Control::connect(&self.dir)
    }

    /// A new guest with `pages` pages of memory to use.
    ///
    /// # Errors
    /// As [`GuestDomain::create`].
    pub fn guest(&self, pages: u32) -> Result<std::sync::Arc<GuestDomain>, SimError> {
        GuestDomain::create(&self.dir, pages)
    }
}
