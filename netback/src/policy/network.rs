//! How the host connects an interface to its networks, which the hotplug script does.
//!
//! The broker writes it into the interface's directory in xenstore before the script runs.

use std::fmt;
use std::net::IpAddr;
use std::num::NonZeroU16;
use std::str::FromStr;

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

/// A text that is no forward.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is no port forward: {fault}")]
pub struct BadForward {
    text: String,
    fault: &'static str,
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

impl Forward {
    /// Would packets be for both?
    fn takes_port_of(&self, other: &Self) -> bool {
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
    fn key(&self) -> String {
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
mod tests {
    use super::*;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Policy {
        network: Network,
    }

    fn parse(table: &str) -> Result<Network, String> {
        let text = format!("network = {{ {table} }}");
        let policy = toml::from_str::<Policy>(&text);
        policy
            .map(|policy| policy.network)
            .map_err(|error| error.message().to_owned())
    }

    #[test]
    fn what_was_written_comes_to_the_script() {
        let network = parse(
            "mode = \"nat\", gateway = [\"10.0.0.1\", \"fe80::1\"], uplink = \"eth0\", forwards = \
             [\"tcp 8080 -> 80\", \"udp 192.0.2.1:53  ->  10.0.0.5:5353\", \
             \"tcp [2001:db8::1]:22 -> [fd00::5]:22\"]",
        )
        .unwrap();
        let forwards = "tcp any 8080 guest 80; udp 192.0.2.1 53 10.0.0.5 5353; \
                        tcp 2001:db8::1 22 fd00::5 22";
        let expected = [
            ("network/mode", "nat"),
            ("network/gateway", "10.0.0.1 fe80::1"),
            ("network/uplink", "eth0"),
            ("network/forwards", forwards),
        ];
        let expected = expected.map(|(key, value)| (key, value.to_owned()));
        assert_eq!(network.keys(), expected);
        assert_eq!(network.mode(), Mode::Nat);
        assert_eq!(network.gateways().len(), 2);
        assert_eq!(network.uplink(), Some("eth0"));
        assert_eq!(
            network.forwards()[1].to_string(),
            "udp 192.0.2.1:53 -> 10.0.0.5:5353"
        );
        let policy = Policy { network };
        let again = serde_json::to_string(&policy).unwrap();
        assert_eq!(serde_json::from_str::<Policy>(&again).unwrap(), policy);
    }

    #[test]
    fn nothing_is_written_but_what_was_said() {
        for mode in ["bridge", "route", "nat"] {
            let network = parse(&format!("mode = \"{mode}\"")).unwrap();
            assert_eq!(network.keys(), [("network/mode", mode.to_owned())]);
        }
    }

    #[test]
    fn one_port_of_the_host_leads_to_one_place() {
        for (one, other, both) in [
            ("tcp 80 -> 80", "tcp 80 -> 81", false),
            ("tcp 80 -> 80", "udp 80 -> 80", true),
            ("tcp 80 -> 80", "tcp 81 -> 80", true),
            ("tcp 80 -> 80", "tcp 192.0.2.1:80 -> 80", false),
            ("tcp 192.0.2.2:80 -> 80", "tcp 192.0.2.1:80 -> 80", true),
            ("tcp 192.0.2.2:80 -> 80", "tcp [2001:db8::1]:80 -> 80", true),
            ("tcp 80 -> 10.0.0.5:80", "tcp 80 -> [fd00::5]:80", true),
            ("tcp 80 -> 10.0.0.5:80", "tcp 80 -> 10.0.0.6:80", false),
            ("tcp 80 -> 10.0.0.5:80", "tcp 80 -> 80", false),
        ] {
            let parsed = parse(&format!(
                "mode = \"nat\", forwards = [\"{one}\", \"{other}\"]"
            ));
            assert_eq!(parsed.is_ok(), both, "{one} and {other}: {parsed:?}");
        }
    }

    #[test]
    fn what_makes_no_sense_is_named_with_its_remedy() {
        for (table, expected) in [
            ("", "missing field `mode`"),
            (
                "mode = \"hub\"",
                "unknown variant `hub`, expected one of `bridge`, `route`, `nat`",
            ),
            ("mode = \"nat\", gatway = []", "unknown field `gatway`"),
            (
                "mode = \"nat\", gateway = [\"10.0.0\"]",
                "invalid IP address syntax",
            ),
            (
                "mode = \"nat\", gateway = [\"224.0.0.1\"]",
                "gateway = 224.0.0.1 is not the address of one host",
            ),
            (
                "mode = \"nat\", gateway = [\"10.0.0.1\", \"10.0.0.2\"]",
                "gateway = 10.0.0.2 is one too many beside 10.0.0.1: write one for IPv4",
            ),
            (
                "mode = \"route\", uplink = \"eth0;id\"",
                "uplink = \"eth0;id\" is no interface's name: use",
            ),
            (
                "mode = \"bridge\", uplink = \"eth0\"",
                "uplink is not for mode = \"bridge\": remove it",
            ),
            (
                "mode = \"bridge\", gateway = [\"10.0.0.1\"]",
                "gateway is not for mode = \"bridge\"",
            ),
            (
                "mode = \"route\", forwards = [\"tcp 1 -> 1\"]",
                "forwards is not for mode = \"route\": remove it, the guest has addresses",
            ),
            (
                "mode = \"nat\", forwards = [\"tcp 1 -> 1\", \"tcp 1 -> 2\"]",
                "\"tcp 1 -> 1\" and \"tcp 1 -> 2\" are for the same port of the host",
            ),
            (
                "mode = \"nat\", forwards = [\"tcp 1\"]",
                "\"tcp 1\" is no port forward: write \"tcp 8080 -> 80\"",
            ),
            (
                "mode = \"nat\", forwards = [\"8080\"]",
                "no port forward: write",
            ),
            (
                "mode = \"nat\", forwards = [\"icmp 1 -> 1\"]",
                "the protocols are tcp and udp",
            ),
        ] {
            let error = parse(table).unwrap_err();
            assert!(error.contains(expected), "{table}: {error}");
        }
        for ports in [
            "0 -> 1",
            "1 -> 65536",
            "+1 -> 1",
            "-> 1",
            "1.2.3.4 -> 1",
            "::1:80 -> 1",
            "[1.2.3.4]:1 -> 1",
            "127.0.0.1:80 -> 80",
            "80 -> 0.0.0.0:80",
            "80 80 -> 80",
        ] {
            let error = format!("tcp {ports}")
                .parse::<Forward>()
                .unwrap_err()
                .to_string();
            assert!(
                error.contains("write ports from 1 to 65535"),
                "{ports}: {error}"
            );
        }
        let error = "tcp 192.0.2.1:80 -> [fd00::5]:80"
            .parse::<Forward>()
            .unwrap_err();
        assert!(error.to_string().contains("write two of one version"));
    }
}
