//! The configuration file: what an administrator decides for all interfaces of this host.

use std::fmt;
use std::num::NonZero;
use std::path::Path;

pub use broker::config::ConfigError;
use broker::config::bounded;
use serde::{Deserialize, Deserializer};

use crate::features::QUEUES_MAX;
use crate::vnet::{GSO_FLOOR, LEAST_GSO_FLOOR};

/// Where the configuration is looked for when none is named.
pub const DEFAULT_FILE: &str = "/etc/xen-backends/netback.toml";

/// Queues of an interface, unless the configuration says otherwise.
const QUEUES: usize = 4;

/// The keys there are.
const KEYS: [&str; 3] = ["max-queues", "gso-floor", "queue-length"];

/// What an administrator decides.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct Config {
    /// `multi-queue-max-queues`.
    #[serde(deserialize_with = "max_queues")]
    pub max_queues: u16,
    /// Fewest bytes in the pieces that a guest may have a packet cut into.
    #[serde(deserialize_with = "gso_floor")]
    pub gso_floor: u16,
    /// Frames that wait for a guest before they are dropped.
    #[serde(deserialize_with = "queue_length")]
    pub queue_length: u32,
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
        toml::from_str(text).map_err(|error| ConfigError::of_toml(file, text, &error, &KEYS))
    }
}

impl Default for Config {
    fn default() -> Self {
        let cpus = std::thread::available_parallelism().map_or(1, NonZero::get);
        Self {
            max_queues: u16::try_from(cpus.min(QUEUES)).unwrap_or(1),
            gso_floor: GSO_FLOOR,
            queue_length: 1000,
        }
    }
}

impl fmt::Display for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "max-queues = {}", self.max_queues)?;
        writeln!(f, "gso-floor = {}", self.gso_floor)?;
        write!(f, "queue-length = {}", self.queue_length)
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

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Config, ConfigError> {
        Config::parse(Path::new("/etc/test.toml"), text)
    }

    #[test]
    fn nothing_is_needed_and_what_is_printed_is_what_was_read() {
        assert_eq!(parse("").unwrap(), Config::default());
        let text = "max-queues = 16\ngso-floor = 512\nqueue-length = 16";
        assert_eq!(parse(text).unwrap().to_string(), text);
    }

    #[test]
    fn the_example_is_a_configuration_and_shows_the_defaults() {
        let text = include_str!("../../systemd/netback.toml");
        assert_eq!(parse(text).unwrap(), Config::default());
        for key in KEYS {
            assert!(
                text.contains(&format!("\n#{key} = ")),
                "{key} is not explained"
            );
        }
    }

    #[test]
    fn every_mistake_is_named_with_its_line_and_its_remedy() {
        for (text, expected) in [
            (
                "max_queues = 2",
                ":1: there is no key \"max_queues\"; did you mean \"max-queues\"?",
            ),
            (
                "\nmax-queues = 17",
                ":2: max-queues = 17: write a number from 1 to 16",
            ),
            ("gso-floor = 1", "from 88 to 1448"),
            ("queue-length = 0", "from 16 to 100000"),
            ("max-queues = \"2\"", "expected i64"),
        ] {
            let error = parse(text).unwrap_err().to_string();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }
}
