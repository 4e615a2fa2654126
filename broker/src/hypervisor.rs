//! Which hypervisor a daemon serves, and how its devices are opened for a worker.

use std::os::fd::OwnedFd;
#[cfg(feature = "sim")]
use std::path::PathBuf;
use std::str::FromStr;

use evtchn::{Evtchn, EvtchnError, Kind};
use gntdev::{Gntdev, GrantError};
use ring_proto::DomId;
use xenbus::{Endpoint, StoreError};

/// The hypervisor below us.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Hypervisor {
    /// Xen, by `/dev/xen` and xenstored.
    Xen,
    /// The simulated machine that serves this directory.
    #[cfg(feature = "sim")]
    Sim(PathBuf),
}

/// A text that names no hypervisor.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no hypervisor: say `xen`{SIM_HINT}")]
pub struct UnknownHypervisor(String);

#[cfg(feature = "sim")]
const SIM_HINT: &str = " or `sim:DIRECTORY`";
#[cfg(not(feature = "sim"))]
const SIM_HINT: &str = " (this binary is built without the simulated one)";

impl Hypervisor {
    /// How to reach its xenstore.
    ///
    /// # Errors
    /// There is none on this machine.
    pub fn store_endpoint(&self) -> Result<Endpoint, StoreError> {
        match self {
            Self::Xen => Endpoint::discover(),
            #[cfg(feature = "sim")]
            Self::Sim(directory) => Ok(Endpoint::Socket(directory.join("xenstored.sock"))),
        }
    }

    /// An event channel device for one ring that can bind ports of `guest` and of nobody else.
    ///
    /// # Errors
    /// The host's: no device, or no descriptors left.
    pub fn event_channels(&self, guest: DomId) -> Result<OwnedFd, EvtchnError> {
        let evtchn = match self {
            Self::Xen => Evtchn::open()?,
            #[cfg(feature = "sim")]
            Self::Sim(directory) => Evtchn::open_sim(directory)?,
        };
        // Domain 0 as a guest of itself: Xen knows no such restriction, and there is nobody to
        // be protected.
        if guest != DomId::new(0) {
            evtchn.restrict(guest)?;
        }
        Ok(evtchn.into_fd())
    }

    /// A grant device for one ring.
    ///
    /// # Errors
    /// The host's: no device, or no descriptors left.
    pub fn grants(&self) -> Result<OwnedFd, GrantError> {
        let gntdev = match self {
            Self::Xen => Gntdev::open()?,
            #[cfg(feature = "sim")]
            Self::Sim(directory) => Gntdev::open_sim(directory)?,
        };
        gntdev.into_fd()
    }

    /// What a worker is told: which kind of descriptors it gets.
    #[must_use]
    pub const fn kind_name(&self) -> &'static str {
        match self {
            Self::Xen => "xen",
            #[cfg(feature = "sim")]
            Self::Sim(_) => "sim",
        }
    }
}

/// Reads [`Hypervisor::kind_name`] back.
///
/// # Errors
/// Anything else.
pub fn parse_kind(name: &str) -> Result<Kind, UnknownHypervisor> {
    match name {
        "xen" => Ok(Kind::Xen),
        #[cfg(feature = "sim")]
        "sim" => Ok(Kind::Sim),
        _ => Err(UnknownHypervisor(name.to_owned())),
    }
}

impl FromStr for Hypervisor {
    type Err = UnknownHypervisor;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.split_once(':') {
            None if text == "xen" => Ok(Self::Xen),
            #[cfg(feature = "sim")]
            Some(("sim", directory)) if !directory.is_empty() => Ok(Self::Sim(directory.into())),
            _ => Err(UnknownHypervisor(text.to_owned())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hypervisor_is_named_on_the_command_line() {
        assert_eq!("xen".parse(), Ok(Hypervisor::Xen));
        for nonsense in ["", "Xen", "sim", "sim:", "kvm:/x"] {
            let error = nonsense.parse::<Hypervisor>().unwrap_err().to_string();
            assert!(error.contains("say `xen`"), "{error}");
        }
    }

    #[test]
    #[cfg(feature = "sim")]
    fn the_simulated_one_is_a_directory() {
        let sim: Hypervisor = "sim:/tmp/a:b".parse().unwrap();
        assert_eq!(sim, Hypervisor::Sim("/tmp/a:b".into()));
        assert_eq!(parse_kind(sim.kind_name()), Ok(Kind::Sim));
        assert_eq!(
            sim.store_endpoint(),
            Ok(Endpoint::Socket("/tmp/a:b/xenstored.sock".into()))
        );
    }
}
