//! Which policy governs each interface, and that the kernel enforces it.
//!
//! The rules of an interface are there before its guest can find it, are exchanged in one step, and
//! go after it: neither a worker nor a broker that dies takes them along. A broker that starts
//! compares what there is with what should be.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use broker::Refused;
use broker::config::ConfigError;
use tracing::{info, warn};
use xenbus::{BackendPath, Store, StoreError};

use crate::enforce::{Counters, Kernel, NftError};
use crate::guest::Guest;
use crate::policy::VifPolicy;
use crate::policy::language::{Governed, Policies, Warning};
use crate::tap::TapName;
use crate::wish::Wish;

/// The policies of this host, and what the kernel was told.
#[derive(Debug)]
pub struct Governor {
    /// Where they were read; the default file, if none was named.
    file: Option<PathBuf>,
    policies: Policies,
    kernel: Kernel,
    /// Interfaces that have rules in the kernel.
    ruled: BTreeSet<String>,
}

impl Governor {
    /// Reads the policies of the configuration `file`, or of the default one.
    ///
    /// # Errors
    /// They cannot be read, or make no sense.
    pub fn load(file: Option<&Path>) -> Result<(Self, Vec<Warning>), ConfigError> {
        let (policies, warnings) = Policies::load(file)?;
        let governor = Self {
            file: file.map(Path::to_path_buf),
            policies,
            kernel: Kernel,
            ruled: BTreeSet::new(),
        };
        Ok((governor, warnings))
    }

    /// Reads them again: all of them, or none.
    ///
    /// # Errors
    /// They cannot be read, or make no sense: those from before go on.
    pub(crate) fn reload(&mut self) -> Result<(usize, Vec<Warning>), ConfigError> {
        let (policies, warnings) = Policies::load(self.file.as_deref())?;
        self.policies = policies;
        Ok((self.policies.iter().count(), warnings))
    }

    /// Takes over what an earlier process has left in the kernel, and removes what belongs to no
    /// interface any more.
    pub(crate) fn take_over(&mut self) {
        let installed = self.kernel.installed().unwrap_or_else(|error| {
            warn!(%error, "rules of interfaces that are gone may be left");
            Vec::new()
        });
        // Of interfaces that cannot be told from those that are gone, all stay.
        let there = TapName::all().unwrap_or_else(|error| {
            warn!(%error, "rules of interfaces that are gone may be left");
            installed.clone()
        });
        for name in installed {
            self.ruled.insert(name.as_str().to_owned());
            if !there.contains(&name) {
                info!("removing the rules of {}, which is gone", name.as_str());
                self.release(&name);
            }
        }
    }

    /// What governs an interface.
    ///
    /// # Errors
    /// The store's.
    pub(crate) fn govern(
        &self,
        store: &mut Store,
        device: &BackendPath,
        wish: &Wish,
    ) -> Result<Governed, StoreError> {
        let guest = Guest::read(store, device.frontend)?;
        Ok(self.policies.govern(&wish.vif(device, guest)))
    }

    /// Has the kernel enforce `policy` on the interface `name`, from now on.
    ///
    /// # Errors
    /// It does not: whatever it enforced before, it goes on to enforce.
    pub(crate) fn enforce(&mut self, name: &TapName, policy: &VifPolicy) -> Result<(), Refused> {
        let is_ruled = self.ruled.contains(name.as_str());
        if policy.is_open() && !is_ruled {
            return Ok(());
        }
        let kept = if is_ruled {
            self.kernel.keep(name, policy).map(drop)
        } else {
            self.kernel.install_first(name, policy)
        };
        // What became of one that was killed is not known.
        self.ruled.insert(name.as_str().to_owned());
        kept.map_err(Refused::host)
    }

    /// The interface is gone, or down for good: so are its rules.
    pub(crate) fn release(&mut self, name: &TapName) {
        if !self.ruled.contains(name.as_str()) {
            return;
        }
        match self.kernel.remove(name) {
            Ok(()) => {
                self.ruled.remove(name.as_str());
            }
            Err(error) => warn!(%error, "rules of {} are left behind", name.as_str()),
        }
    }

    /// What became of the frames of an interface that has rules.
    ///
    /// # Errors
    /// [`NftError`].
    pub(crate) fn counters(&self, name: &TapName) -> Result<Counters, NftError> {
        if self.ruled.contains(name.as_str()) {
            self.kernel.counters(name)
        } else {
            Ok(Counters::default())
        }
    }
}
