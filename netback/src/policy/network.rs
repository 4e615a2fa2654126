//! How the host connects an interface to its networks, which the hotplug script does.
//!
//! The broker writes it into the interface's directory in xenstore before the script runs.

mod forward;

use std::fmt;
use std::net::IpAddr;

pub use forward::{BadForward, Forward};
use serde::{Deserialize, Serialize};

use crate::tap::TapName;

/// How an interface is connected.
///
/// Having one tells you that its parts go together: a bridge port has no gateway, only a guest behind
/// NAT has forwards, and no two of those take the same port of the host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Written", into = "Written")]
pub struct Network {
    mode: Mode,
    gateways: Vec<IpAddr>,
    uplink: Option<String>,
    forwards: Vec<Forward>,
}

/// The three ways.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// A port of the bridge that the `vif=` line names.
    Bridge,
    /// Host routes to the guest's addresses, for which the host answers in the uplink's network.
    Route,
    /// Host routes; the guest sends under the host's address.
    Nat,
}

/// What cannot be a [`Network`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadNetwork {
    /// A key for which the mode has no use.
    #[error("network: {key} is not for mode = \"{mode}\": {remedy}")]
    Useless {
        /// The key.
        key: &'static str,
        /// The mode.
        mode: Mode,
        /// What to write instead.
        remedy: &'static str,
    },
    /// The name of no interface.
    #[error(
        "network: uplink = {name:?} is no interface's name: use 1 to 15 letters, digits, dots, underscores or dashes"
    )]
    Uplink {
        /// What was written.
        name: String,
    },
    /// An address that no router has.
    #[error("network: gateway = {address} is not the address of one host: write one like 10.0.0.1")]
    Gateway {
        /// What was written.
        address: IpAddr,
    },
    /// Two gateways of one IP version.
    #[error(
        "network: gateway = {second} is one too many beside {first}: write one for IPv4, and one for IPv6"
    )]
    Gateways {
        /// The first.
        first: IpAddr,
        /// The second.
        second: IpAddr,
    },
    /// Two forwards of one port.
    #[error(
        "network: \"{first}\" and \"{second}\" are for the same port of the host: remove one of them"
    )]
    Twice {
        /// The first.
        first: Forward,
        /// The second.
        second: Forward,
    },
}

/// The table as it is written.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Written {
    mode: Mode,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    gateway: Vec<IpAddr>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    uplink: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    forwards: Vec<Forward>,
}

impl Network {
    /// These parts, if they go together.
    ///
    /// # Errors
    /// [`BadNetwork`].
    pub fn new(
        mode: Mode,
        gateways: Vec<IpAddr>,
        uplink: Option<String>,
        forwards: Vec<Forward>,
    ) -> Result<Self, BadNetwork> {
        let useless = |key, remedy| Err(BadNetwork::Useless { key, mode, remedy });
        match mode {
            Mode::Bridge if !gateways.is_empty() => {
                return useless("gateway", "remove it, the bridge has the host's addresses");
            }
            Mode::Bridge if uplink.is_some() => {
                return useless(
                    "uplink",
                    "remove it, and make the uplink a port of the bridge",
                );
            }
            Mode::Bridge | Mode::Route if !forwards.is_empty() => {
                return useless("forwards", "remove it, the guest has addresses of its own");
            }
            _ => {}
        }
        if let Some(name) = uplink
            .as_deref()
            .filter(|name| TapName::parse(name).is_err())
        {
            let name = name.chars().take(64).collect();
            return Err(BadNetwork::Uplink { name });
        }
        for (at, &second) in gateways.iter().enumerate() {
            if !is_of_one_host(second) {
                return Err(BadNetwork::Gateway { address: second });
            }
            let same = |first: &&IpAddr| first.is_ipv4() == second.is_ipv4();
            if let Some(&first) = gateways.iter().take(at).find(same) {
                return Err(BadNetwork::Gateways { first, second });
            }
        }
        for (at, &second) in forwards.iter().enumerate() {
            let taken = |first: &&Forward| first.takes_port_of(&second);
            if let Some(&first) = forwards.iter().take(at).find(taken) {
                return Err(BadNetwork::Twice { first, second });
            }
        }
        Ok(Self {
            mode,
            gateways,
            uplink,
            forwards,
        })
    }

    /// The way.
    #[must_use]
    pub const fn mode(&self) -> Mode {
        self.mode
    }

    /// The host's addresses on the interface, one for each IP version at most; without one the
    /// uplink's address (IPv4), or `fe80::1`.
    #[must_use]
    pub fn gateways(&self) -> &[IpAddr] {
        &self.gateways
    }

    /// Where the rest of the world is; `None`: where the default route leads.
    #[must_use]
    pub fn uplink(&self) -> Option<&str> {
        self.uplink.as_deref()
    }

    /// Ports of the host that lead to the guest.
    #[must_use]
    pub fn forwards(&self) -> &[Forward] {
        &self.forwards
    }

    /// The keys and values in the interface's directory that tell the hotplug script. The script looks
    /// for all of [`Self::KEYS`]; those that are not among these must be empty, or not there.
    #[must_use]
    pub fn keys(&self) -> Vec<(&'static str, String)> {
        let joined = |parts: Vec<String>, between| parts.join(between);
        let gateways = self.gateways.iter().map(ToString::to_string).collect();
        let forwards = self.forwards.iter().map(Forward::key).collect();
        let values = [
            self.mode.to_string(),
            joined(gateways, " "),
            self.uplink.clone().unwrap_or_default(),
            joined(forwards, "; "),
        ];
        let keys = Self::KEYS.into_iter().zip(values);
        keys.filter(|(_, value)| !value.is_empty()).collect()
    }

    /// All keys that there may be.
    pub const KEYS: [&'static str; 4] = [
        "network/mode",
        "network/gateway",
        "network/uplink",
        "network/forwards",
    ];
}

impl TryFrom<Written> for Network {
    type Error = BadNetwork;

    fn try_from(written: Written) -> Result<Self, BadNetwork> {
        let Written {
            mode,
            gateway,
            uplink,
            forwards,
        } = written;
        Self::new(mode, gateway, uplink, forwards)
    }
}

impl From<Network> for Written {
    fn from(network: Network) -> Self {
        Self {
            mode: network.mode,
            gateway: network.gateways,
            uplink: network.uplink,
            forwards: network.forwards,
        }
    }
}

fn is_of_one_host(address: IpAddr) -> bool {
    let broadcast = matches!(address, IpAddr::V4(v4) if v4.is_broadcast());
    !(address.is_unspecified() || address.is_multicast() || address.is_loopback() || broadcast)
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Bridge => "bridge",
            Self::Route => "route",
            Self::Nat => "nat",
        })
    }
}

#[cfg(test)]
mod tests;
