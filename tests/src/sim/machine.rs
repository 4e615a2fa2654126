//! The whole simulated machine in one value.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::Context;

use super::hypervisor::{self, Control, GuestDomain, SimError};
use super::xenstored;

/// A simulated machine, hypervisor and xenstored, that is served from threads of this process.
///
/// A daemon on it is started with `--hypervisor sim:DIR`, in any process. Dropping it ends the
/// machine: daemons see their connections lost.
#[derive(Debug)]
pub struct Machine {
    _xenstored: xenstored::Server,
    _hypervisor: hypervisor::Server,
    dir: PathBuf,
    /// Whether the directory is this machine's own, to be removed with it.
    temporary: bool,
}

impl Machine {
    /// Serves a machine in `dir`, which is made if it is not there.
    ///
    /// # Errors
    /// The directory or a socket in it cannot be made.
    pub fn start(dir: &Path) -> anyhow::Result<Self> {
        std::fs::create_dir_all(dir).with_context(|| format!("cannot make {}", dir.display()))?;
        Ok(Self {
            _xenstored: xenstored::Server::start(dir)?,
            _hypervisor: hypervisor::Server::start(dir)?,
            dir: dir.to_path_buf(),
            temporary: false,
        })
    }

    /// Serves a machine in a new directory below the system's temporary one, removed at the end.
    ///
    /// # Errors
    /// As [`start`](Self::start).
    pub fn temporary() -> anyhow::Result<Self> {
        // Several machines may live in one process, several processes on one host.
        static MADE: AtomicU32 = AtomicU32::new(0);
        let (pid, nth) = (std::process::id(), MADE.fetch_add(1, Ordering::Relaxed));
        let mut machine = Self::start(&std::env::temp_dir().join(format!("xen-sim-{pid}-{nth}")))?;
        machine.temporary = true;
        Ok(machine)
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

    /// A connection for looking at xenstored and making it misbehave.
    ///
    /// # Errors
    /// It does not answer.
    pub fn xenstored(&self) -> anyhow::Result<xenstored::Control> {
        xenstored::Control::connect(&self.dir)
    }

    /// A new guest with `pages` pages of memory to use.
    ///
    /// # Errors
    /// As [`GuestDomain::create`].
    pub fn guest(&self, pages: u32) -> Result<Arc<GuestDomain>, SimError> {
        GuestDomain::create(&self.dir, pages)
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        if self.temporary {
            // What is left in /tmp harms nobody, and a destructor has nobody to tell.
            let _removed = std::fs::remove_dir_all(&self.dir);
        }
    }
}
