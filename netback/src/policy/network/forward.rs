//! Ports of the host that lead to guests behind NAT.

use std::fmt;
use std::net::IpAddr;
use std::num::NonZeroU16;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::is_of_one_host;

/// A port of the host that leads to the guest: `tcp 8080 -> 80`, `udp 192.0.2.1:53 -> 10.0.0.5:53`,
/// `tcp [2001:db8::1]:22 -> 22`.
///
/// Having one tells you that both addresses, if both are there, are of one IP version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Forward {
    protocol: Protocol,
    host: Port,
    guest: Port,
}

/// What has ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Protocol {
    Tcp,
    Udp,
}

/// A port at an address; without one, of the host: at any of its own, of the guest: at its first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Port {
    address: Option<IpAddr>,
    port: NonZeroU16,
}

/// A text that is no forward.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is no port forward: {fault}")]
pub struct BadForward {
    text: String,
    fault: &'static str,
}

impl Forward {
    /// Would packets be for both?
    pub(super) fn takes_port_of(&self, other: &Self) -> bool {
        let addresses = match (self.host.address, other.host.address) {
            (Some(one), Some(two)) => one == two,
            _ => self
                .version()
                .zip(other.version())
                .is_none_or(|(one, two)| one == two),
        };
        self.protocol == other.protocol && self.host.port == other.host.port && addresses
    }

    /// Is it IPv4 (`true`), IPv6, or both?
    fn version(&self) -> Option<bool> {
        let address = self.host.address.or(self.guest.address);
        address.map(|address| address.is_ipv4())
    }

    /// As the hotplug script reads it: five words.
    pub(super) fn key(&self) -> String {
        let port = |Port { address, port }, anywhere: &str| match address {
            Some(address) => format!("{address} {port}"),
            None => format!("{anywhere} {port}"),
        };
        let (host, guest) = (port(self.host, "any"), port(self.guest, "guest"));
        format!("{} {host} {guest}", self.protocol.name())
    }
}

impl Protocol {
    const fn name(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        }
    }
}

impl FromStr for Forward {
    type Err = BadForward;

    fn from_str(text: &str) -> Result<Self, BadForward> {
        let bad = |fault| BadForward {
            text: text.chars().take(64).collect(),
            fault,
        };
        let shape = "write \"tcp 8080 -> 80\", or \"udp 192.0.2.1:53 -> 10.0.0.5:53\"";
        let (protocol, ports) = text.trim().split_once(' ').ok_or_else(|| bad(shape))?;
        let protocol = match protocol {
            "tcp" => Protocol::Tcp,
            "udp" => Protocol::Udp,
            _ => return Err(bad("the protocols are tcp and udp")),
        };
        let (host, guest) = ports.split_once("->").ok_or_else(|| bad(shape))?;
        let port = |text: &str| {
            let fault = "write ports from 1 to 65535, behind an address and a colon if it is to be that \
                         one only; an IPv6 address in brackets";
            Port::parse(text.trim()).ok_or_else(|| bad(fault))
        };
        let (host, guest) = (port(host)?, port(guest)?);
        let addresses = host.address.zip(guest.address);
        if addresses.is_some_and(|(host, guest)| host.is_ipv4() != guest.is_ipv4()) {
            return Err(bad(
                "one address is IPv4, the other IPv6: write two of one version",
            ));
        }
        Ok(Self {
            protocol,
            host,
            guest,
        })
    }
}

impl Port {
    fn parse(text: &str) -> Option<Self> {
        let (address, port) = match text.rsplit_once(':') {
            Some((address, port)) => (Some(address), port),
            None => (None, text),
        };
        let address = match address {
            None => None,
            Some(text) => match text
                .strip_prefix('[')
                .and_then(|text| text.strip_suffix(']'))
            {
                Some(v6) => Some(IpAddr::V6(v6.parse().ok()?)),
                None => Some(IpAddr::V4(text.parse().ok()?)),
            },
        };
        if address.is_some_and(|address| !is_of_one_host(address)) {
            return None;
        }
        let digits = port.bytes().all(|byte| byte.is_ascii_digit());
        let port = port.parse().ok().filter(|_| digits)?;
        Some(Self { address, port })
    }
}

impl fmt::Display for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.address {
            Some(IpAddr::V4(v4)) => write!(f, "{v4}:{}", self.port),
            Some(IpAddr::V6(v6)) => write!(f, "[{v6}]:{}", self.port),
            None => write!(f, "{}", self.port),
        }
    }
}

impl fmt::Display for Forward {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} {} -> {}",
            self.protocol.name(),
            self.host,
            self.guest
        )
    }
}

impl TryFrom<String> for Forward {
    type Error = BadForward;

    fn try_from(text: String) -> Result<Self, BadForward> {
        text.parse()
    }
}

impl From<Forward> for String {
    fn from(forward: Forward) -> Self {
        forward.to_string()
    }
}
