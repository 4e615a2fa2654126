//! The configuration file: what an administrator decides for all interfaces of this host.

use std::fmt;
use std::num::NonZero;
use std::path::Path;

use broker::acl::{self, Acl, Dialect};
pub use broker::config::ConfigError;
use broker::config::bounded;
use serde::{Deserialize, Deserializer};

use crate::features::{Offered, QUEUES_MAX};
use crate::vnet::{GSO_FLOOR, LEAST_GSO_FLOOR};

/// Where the configuration is looked for when none is named.
pub const DEFAULT_FILE: &str = "/etc/xen-backends/netback.toml";

/// Queues of an interface, unless the configuration says otherwise.
const QUEUES: usize = 4;

/// The keys there are. Policies have a [language of their own](crate::policy::language).
const KEYS: [&str; 14] = [
    "max-queues",
    "gso-floor",
    "queue-length",
    "packet-rate",
    "scatter-gather",
    "segmentation-offload",
    "checksum-offload",
    "multicast-control",
    "split-event-channels",
    "control-ring",
    "xdp-headroom",
    "acl-default",
    "acl",
    POLICY,
];

const POLICY: &str = "policy";

/// What an administrator decides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// What frontends are offered.
    pub offered: Offered,
    /// Fewest bytes in the pieces that a guest may have a packet cut into.
    pub gso_floor: u16,
    /// Frames that wait for a guest before they are dropped.
    pub queue_length: u32,
    /// Packets that a guest may transmit through one interface in a second; 0: any number.
    pub packet_rate: u32,
    /// Which guest may have an interface on which bridge.
    pub acl: Acl,
}

/// The file as it is written. The names of these fields are the keys.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
#[expect(clippy::struct_excessive_bools, reason = "each is a switch of its own")]
struct File {
    #[serde(deserialize_with = "max_queues")]
    max_queues: u16,
    #[serde(deserialize_with = "gso_floor")]
    gso_floor: u16,
    #[serde(deserialize_with = "queue_length")]
    queue_length: u32,
    #[serde(deserialize_with = "packet_rate")]
    packet_rate: u32,
    scatter_gather: bool,
    segmentation_offload: bool,
    checksum_offload: bool,
    multicast_control: bool,
    split_event_channels: bool,
    control_ring: bool,
    xdp_headroom: bool,
    acl_default: acl::Fallback,
    acl: Vec<acl::Entry>,
    policy: serde::de::IgnoredAny,
}

impl Config {
    /// Reads `file`; without one the default file, and without that the defaults.
    ///
    /// # Errors
    /// The file cannot be read, or something in it makes no sense.
    pub fn load(file: Option<&Path>) -> Result<Self, ConfigError> {
        let default = Path::new(DEFAULT_FILE);
        match broker::config::read(file, default)? {
            Some(text) => Self::parse(file.unwrap_or(default), &text),
            None => Ok(Self::default()),
        }
    }

    /// Reads the text of `file`, which is only named in errors.
    ///
    /// # Errors
    /// Something in it makes no sense.
    pub fn parse(file: &Path, text: &str) -> Result<Self, ConfigError> {
        let parsed: File = toml::from_str(text)
            .map_err(|error| ConfigError::of_toml(file, text, &error, &KEYS))?;
        let fallback = parsed.acl_default;
        let acl = Acl::parse(file, text, Dialect::INTERFACES, &parsed.acl, fallback)?;
        Ok(Self {
            acl,
            ..parsed.into()
        })
    }
}

impl Default for Config {
    fn default() -> Self {
        File::default().into()
    }
}

impl fmt::Display for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let offered = self.offered;
        writeln!(f, "max-queues = {}", offered.queues)?;
        writeln!(f, "gso-floor = {}", self.gso_floor)?;
        writeln!(f, "queue-length = {}", self.queue_length)?;
        writeln!(f, "packet-rate = {}", self.packet_rate)?;
        writeln!(f, "scatter-gather = {}", offered.scatter_gather)?;
        writeln!(f, "segmentation-offload = {}", offered.segmentation)?;
        writeln!(f, "checksum-offload = {}", offered.checksum)?;
        writeln!(f, "multicast-control = {}", offered.multicast_control)?;
        writeln!(f, "split-event-channels = {}", offered.split_event_channels)?;
        writeln!(f, "control-ring = {}", offered.control_ring)?;
        writeln!(f, "xdp-headroom = {}", offered.xdp_headroom)?;
        write!(f, "{}", self.acl)
    }
}

impl Default for File {
    fn default() -> Self {
        let cpus = std::thread::available_parallelism().map_or(1, NonZero::get);
        Self {
            max_queues: u16::try_from(cpus.min(QUEUES)).unwrap_or(1),
            gso_floor: GSO_FLOOR,
            queue_length: 1000,
            packet_rate: 0,
            scatter_gather: true,
            segmentation_offload: true,
            checksum_offload: true,
            multicast_control: true,
            split_event_channels: true,
            control_ring: true,
            xdp_headroom: true,
            acl_default: acl::Fallback::default(),
            acl: Vec::new(),
            policy: serde::de::IgnoredAny,
        }
    }
}

impl From<File> for Config {
    fn from(file: File) -> Self {
        Self {
            offered: Offered {
                queues: file.max_queues,
                scatter_gather: file.scatter_gather,
                segmentation: file.segmentation_offload,
                checksum: file.checksum_offload,
                multicast_control: file.multicast_control,
                split_event_channels: file.split_event_channels,
                control_ring: file.control_ring,
                xdp_headroom: file.xdp_headroom,
            },
            gso_floor: file.gso_floor,
            queue_length: file.queue_length,
            packet_rate: file.packet_rate,
            acl: Acl::default(),
        }
    }
}

fn max_queues<'de, D: Deserializer<'de>>(value: D) -> Result<u16, D::Error> {
    bounded(value, "max-queues", 1, QUEUES_MAX.into())
}

fn gso_floor<'de, D: Deserializer<'de>>(value: D) -> Result<u16, D::Error> {
    bounded(value, "gso-floor", LEAST_GSO_FLOOR.into(), 1448)
}

fn queue_length<'de, D: Deserializer<'de>>(value: D) -> Result<u32, D::Error> {
    bounded(value, "queue-length", 16, 100_000)
}

fn packet_rate<'de, D: Deserializer<'de>>(value: D) -> Result<u32, D::Error> {
    bounded(value, "packet-rate", 0, 10_000_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Config, ConfigError> {
        Config::parse(Path::new("/etc/test.toml"), text)
    }

    #[test]
    fn nothing_is_needed_and_what_is_printed_is_what_was_read() {
        assert_eq!(parse("").unwrap(), Config::default());
        let text = "max-queues = 16\ngso-floor = 512\nqueue-length = 16\npacket-rate = 50\nscatter-gather = false\n\
                    segmentation-offload = false\nchecksum-offload = false\n\
                    multicast-control = false\nsplit-event-channels = false\ncontrol-ring = false\n\
                    xdp-headroom = false\nacl-default = \"deny\"\n\n\
                    [[acl]]\ndomain = [\"web-*\"]\nbridges = [\"xenbr0\"]\ndeny = false";
        assert_eq!(parse(text).unwrap().to_string(), text);
        assert_eq!(Config::default().to_string().matches("= true").count(), 7);
    }

    #[test]
    fn the_example_is_a_configuration_and_shows_the_defaults() {
        let text = include_str!("../../systemd/netback.toml");
        assert_eq!(parse(text).unwrap(), Config::default());
        for key in KEYS.into_iter().filter(|key| *key != POLICY) {
            let written = match key {
                "acl" => "\n#   [[acl]]\n".to_owned(),
                key => format!("\n#{key} = "),
            };
            assert!(text.contains(&written), "{key} is not explained");
        }
        // The number of queues is that of this host's CPUs.
        let shown = text.lines().filter_map(|line| line.strip_prefix('#'));
        let shown: Vec<_> = shown
            .filter(|line| line.starts_with(char::is_lowercase))
            .collect();
        let mut default = Config::default();
        default.offered.queues = 4;
        assert_eq!(shown.join("\n"), default.to_string());
        let rules = text.lines().filter_map(|line| line.strip_prefix("#   "));
        let rules: Vec<_> = rules.skip_while(|line| *line != "[[acl]]").collect();
        let rules = parse(&rules.join("\n")).unwrap().acl.to_string();
        assert_eq!(rules.matches("[[acl]]").count(), 2, "{rules}");
    }

    #[test]
    fn every_mistake_is_named_with_its_line_and_its_remedy() {
        for (text, expected) in [
            (
                "max_queues = 2",
                ":1:1: there is no key \"max_queues\"; did you mean \"max-queues\"?",
            ),
            (
                "\nmax-queues = 17",
                ":2:14: max-queues = 17: write a number from 1 to 16",
            ),
            ("gso-floor = 1", "from 88 to 1448"),
            ("queue-length = 0", "from 16 to 100000"),
            ("packet-rate = -1", "from 0 to 10000000"),
            ("max-queues = \"2\"", "expected i64"),
            ("control-ring = 1", "expected a boolean"),
            (
                "split-event-channel = false",
                "did you mean \"split-event-channels\"?",
            ),
        ] {
            let error = parse(text).unwrap_err().to_string();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }
}
