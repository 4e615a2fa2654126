//! Which policy governs each interface, and that the kernel enforces it.
//!
//! The rules of an interface are there before its guest can find it, are exchanged in one step, and
//! go after it: neither a worker nor a broker that dies takes them along. A broker that starts
//! compares what there is with what should be.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::BorrowedFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use broker::Refused;
use broker::config::ConfigError;
use broker::owner::Owner;
use tracing::{error, info, warn};
use xenbus::{BackendPath, Store};

use crate::enforce::{Counters, Kernel, NftError, Watch};
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
    /// Interfaces that have rules in the kernel, and for which policy, if that is known.
    ruled: BTreeMap<TapName, Option<VifPolicy>>,
    /// None where the kernel has no nftables.
    watch: Option<Watch>,
    /// When to see whether all rules are there, as some have changed.
    look_at: Option<Instant>,
    looked: Option<Instant>,
}

/// How long changes to rules may go on before a look is worth it.
const SETTLING: Duration = Duration::from_millis(100);
/// Between two looks, whatever a host's firewall is up to.
const PAUSE: Duration = Duration::from_secs(1);

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
            ruled: BTreeMap::new(),
            watch: Watch::open().inspect_err(untold).ok(),
            look_at: None,
            looked: None,
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
            self.ruled.insert(name.clone(), None);
            if !there.contains(&name) {
                info!("removing the rules of {}, which is gone", name.as_str());
                self.release(&name);
            }
        }
    }

    /// What governs an interface.
    ///
    /// # Errors
    /// The store's; or a policy may be for it, and that is not known.
    pub(crate) fn govern(
        &self,
        store: &mut Store,
        device: &BackendPath,
        wish: &Wish,
    ) -> Result<Governed, Refused> {
        let owner = if self.policies.ask_who() {
            Owner::read(store, device.frontend)?
        } else {
            Owner::numbered(device.frontend)
        };
        let vif = wish.vif(device, owner);
        self.policies.govern(&vif).map_err(Refused::host)
    }

    /// Has the kernel enforce `policy` on the interface `name`, from now on.
    ///
    /// # Errors
    /// It does not: whatever it enforced before, it goes on to enforce.
    pub(crate) fn enforce(&mut self, name: &TapName, policy: &VifPolicy) -> Result<(), Refused> {
        let is_ruled = self.ruled.contains_key(name);
        if policy.is_open() && !is_ruled {
            return Ok(());
        }
        let kept = if is_ruled {
            self.kernel.keep(name, policy).map(drop)
        } else {
            self.kernel.install_first(name, policy)
        };
        // What became of one that was killed is not known.
        let known = kept.is_ok().then(|| policy.clone());
        self.ruled.insert(name.clone(), known);
        kept.map_err(Refused::host)
    }

    /// The interface is gone, or down for good: so are its rules.
    pub(crate) fn release(&mut self, name: &TapName) {
        if !self.ruled.contains_key(name) {
            return;
        }
        match self.kernel.remove(name) {
            Ok(()) => {
                self.ruled.remove(name);
            }
            Err(error) => warn!(%error, "rules of {} are left behind", name.as_str()),
        }
    }

    /// Readable when rules have changed, ours or others.
    pub(crate) fn watched(&self) -> Option<BorrowedFd<'_>> {
        self.watch.as_ref().map(Watch::fd)
    }

    /// It is readable: there is a look to be had, soon.
    pub(crate) fn noticed(&mut self, now: Instant) {
        if !self.watch.as_ref().is_some_and(Watch::has_heard) || self.ruled.is_empty() {
            return;
        }
        let earliest = self.looked.map_or(now, |looked| looked + PAUSE);
        self.look_at.get_or_insert(earliest.max(now + SETTLING));
    }

    /// When to [`mend`](Self::mend) next.
    pub(crate) const fn look_at(&self) -> Option<Instant> {
        self.look_at
    }

    /// Puts rules back that somebody has removed: a host's firewall that is loaded again begins with
    /// `flush ruleset`, as a rule.
    pub(crate) fn mend(&mut self, now: Instant) {
        self.look_at = None;
        self.looked = Some(now);
        let known = self.ruled.iter();
        let known = known.filter_map(|(name, policy)| Some((name, policy.as_ref()?)));
        let missing = match self.kernel.missing(known) {
            Ok(missing) => missing,
            Err(error) => return warn!(%error, "it is not known whether all rules are there"),
        };
        for name in missing {
            let Some(Some(policy)) = self.ruled.get(&name) else {
                continue;
            };
            warn!(
                "{}: its rules were removed, and are put back; is it the host's firewall, with \
                 `flush ruleset`? Let it delete its own tables only",
                name.as_str()
            );
            if let Err(error) = self.kernel.keep(&name, policy) {
                error!(%error, "{} goes without the kernel's rules", name.as_str());
            }
        }
    }

    /// What became of the frames of an interface that has rules.
    ///
    /// # Errors
    /// [`NftError`].
    pub(crate) fn counters(&self, name: &TapName) -> Result<Counters, NftError> {
        if self.ruled.contains_key(name) {
            self.kernel.counters(name)
        } else {
            Ok(Counters::default())
        }
    }
}

fn untold(error: &io::Error) {
    info!(%error, "the kernel does not tell of changes to nftables");
}
