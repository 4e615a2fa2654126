//! The configuration file: what an administrator decides for all disks of this host.
//!
//! Everything has a default, and everything unknown is an error: a misspelt `images` must not
//! mean that every image is allowed.

use std::fmt;
use std::num::NonZero;
use std::path::Path;

use serde::{Deserialize, Deserializer};
use toml::Spanned;

use broker::acl::{self, Acl, Dialect};
pub use broker::config::ConfigError;
use broker::config::{bounded, choice, name};
use broker::glob::Glob;

use crate::features::{INDIRECT_SEGMENTS_MAX, Offered, QUEUES_MAX, RING_PAGE_ORDER_MAX};
use crate::image::{Direct, Policy};
use crate::spec::EngineChoice;

/// Where the configuration is looked for when none is named.
pub const DEFAULT_FILE: &str = "/etc/xen-backends/blkback.toml";

/// Queues of a device, unless the configuration says otherwise: more help only guests with more
/// CPUs than this host has to spare.
const QUEUES: usize = 4;

/// The keys there are.
const KEYS: [&str; 10] = [
    "images",
    "shared",
    "direct-io",
    "engine",
    "max-queues",
    "max-ring-page-order",
    "max-indirect-segments",
    "persistent-grants",
    "acl-default",
    "acl",
];

/// What an administrator decides.
#[derive(Clone, Debug)]
pub struct Config {
    /// Which images, and how they are opened.
    pub policy: Policy,
    /// What frontends are offered.
    pub offered: Offered,
    /// What carries I/O to the disks.
    pub engine: EngineChoice,
}

/// The file as it is written. The names of these fields are the keys.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
struct File {
    images: Vec<Spanned<String>>,
    shared: Vec<Spanned<String>>,
    #[serde(deserialize_with = "direct")]
    direct_io: Direct,
    #[serde(deserialize_with = "engine")]
    engine: EngineChoice,
    #[serde(deserialize_with = "queues")]
    max_queues: u16,
    #[serde(deserialize_with = "ring_page_order")]
    max_ring_page_order: u8,
    #[serde(deserialize_with = "indirect_segments")]
    max_indirect_segments: u16,
    persistent_grants: bool,
    acl_default: acl::Fallback,
    acl: Vec<acl::Entry>,
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
        let globs = |texts: &[Spanned<String>]| -> Result<Vec<Glob>, ConfigError> {
            let glob = |written: &Spanned<String>| {
                Glob::path(written.get_ref())
                    .map_err(|error| ConfigError::at(file, text, &written.span(), &error))
            };
            texts.iter().map(glob).collect()
        };
        let (images, shared) = (globs(&parsed.images)?, globs(&parsed.shared)?);
        let fallback = parsed.acl_default;
        let acl = Acl::parse(file, text, Dialect::DISKS, &parsed.acl, fallback)?;
        Ok(parsed.with_rules(images, acl, shared))
    }
}

impl Default for Config {
    fn default() -> Self {
        File::default().with_rules(Vec::new(), Acl::default(), Vec::new())
    }
}

impl fmt::Display for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |globs: &[Glob]| {
            let quoted: Vec<_> = globs
                .iter()
                .map(|glob| format!("{:?}", glob.as_str()))
                .collect();
            format!("[{}]", quoted.join(", "))
        };
        writeln!(f, "images = {}", list(&self.policy.images))?;
        writeln!(f, "shared = {}", list(&self.policy.shared))?;
        writeln!(f, "direct-io = {:?}", name(DIRECT, self.policy.direct))?;
        writeln!(f, "engine = {:?}", name(ENGINES, self.engine))?;
        writeln!(f, "max-queues = {}", self.offered.queues)?;
        writeln!(f, "max-ring-page-order = {}", self.offered.ring_page_order)?;
        writeln!(
            f,
            "max-indirect-segments = {}",
            self.offered.indirect_segments
        )?;
        writeln!(f, "persistent-grants = {}", self.offered.persistent)?;
        write!(f, "{}", self.policy.acl)
    }
}

impl Default for File {
    fn default() -> Self {
        let cpus = std::thread::available_parallelism().map_or(1, NonZero::get);
        Self {
            images: Vec::new(),
            shared: Vec::new(),
            direct_io: Direct::default(),
            engine: EngineChoice::default(),
            max_queues: u16::try_from(cpus.min(QUEUES)).unwrap_or(1),
            max_ring_page_order: RING_PAGE_ORDER_MAX,
            max_indirect_segments: INDIRECT_SEGMENTS_MAX,
            persistent_grants: true,
            acl_default: acl::Fallback::default(),
            acl: Vec::new(),
        }
    }
}

impl File {
    fn with_rules(self, images: Vec<Glob>, acl: Acl, shared: Vec<Glob>) -> Config {
        Config {
            policy: Policy {
                images,
                acl,
                shared,
                direct: self.direct_io,
            },
            offered: Offered {
                queues: self.max_queues,
                ring_page_order: self.max_ring_page_order,
                indirect_segments: self.max_indirect_segments,
                persistent: self.persistent_grants,
            },
            engine: self.engine,
        }
    }
}

const DIRECT: &[(&str, Direct)] = &[
    ("auto", Direct::Auto),
    ("require", Direct::Require),
    ("off", Direct::Off),
];

const ENGINES: &[(&str, EngineChoice)] = &[
    ("auto", EngineChoice::Auto),
    ("io-uring", EngineChoice::IoUring),
    ("threads", EngineChoice::Threads),
];

fn direct<'de, D: Deserializer<'de>>(value: D) -> Result<Direct, D::Error> {
    choice(value, "direct-io", DIRECT)
}

fn engine<'de, D: Deserializer<'de>>(value: D) -> Result<EngineChoice, D::Error> {
    choice(value, "engine", ENGINES)
}

fn queues<'de, D: Deserializer<'de>>(value: D) -> Result<u16, D::Error> {
    bounded(value, "max-queues", 1, QUEUES_MAX.into())
}

fn ring_page_order<'de, D: Deserializer<'de>>(value: D) -> Result<u8, D::Error> {
    bounded(value, "max-ring-page-order", 0, RING_PAGE_ORDER_MAX.into())
}

fn indirect_segments<'de, D: Deserializer<'de>>(value: D) -> Result<u16, D::Error> {
    bounded(
        value,
        "max-indirect-segments",
        0,
        INDIRECT_SEGMENTS_MAX.into(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_needed() {
        let config = parse("").unwrap();
        assert_eq!(config.offered.indirect_segments, 256);
        assert_eq!(config.offered.ring_page_order, 4);
        assert!((1..=4).contains(&config.offered.queues));
        assert!(config.offered.persistent);
        assert!(config.policy.images.is_empty());
    }

    #[test]
    fn what_is_printed_is_what_was_read() {
        let text = "images = [\"/srv/xen/**\", \"/dev/vg0/*\"]\n\
                    shared = [\"/srv/cluster.img\"]\n\
                    direct-io = \"off\"\n\
                    engine = \"threads\"\n\
                    max-queues = 16\n\
                    max-ring-page-order = 0\n\
                    max-indirect-segments = 32\n\
                    persistent-grants = false\n\
                    acl-default = \"deny\"\n\n\
                    [[acl]]\ndomain = [\"web-*\"]\npaths = [\"/srv/web/**\"]\n\
                    access = \"read-only\"";
        assert_eq!(parse(text).unwrap().to_string(), text);
    }

    #[test]
    fn the_example_is_a_configuration_and_shows_the_defaults() {
        let text = include_str!("../../systemd/blkback.toml");
        let shown = parse(text).unwrap();
        assert_eq!(shown.to_string(), Config::default().to_string());
        // And every key is explained in it, commented out.
        for key in KEYS {
            let written = match key {
                "acl" => "\n#   [[acl]]\n".to_owned(),
                key => format!("\n#{key} = "),
            };
            assert!(text.contains(&written), "{key} is not explained");
        }
        let uncommented: String = text
            .lines()
            .map(|l| l.strip_prefix('#').unwrap_or(l))
            .filter(|l| l.contains(" = ") && !l.starts_with(' '))
            .fold(String::new(), |all, l| all + l + "\n");
        parse(&uncommented).unwrap();
        let rules = text.lines().filter_map(|line| line.strip_prefix("#   "));
        let rules: Vec<_> = rules.skip_while(|line| *line != "[[acl]]").collect();
        let rules = parse(&rules.join("\n")).unwrap().policy.acl.to_string();
        assert_eq!(rules.matches("[[acl]]").count(), 2, "{rules}");
    }

    #[test]
    fn every_mistake_is_named_with_its_line_and_its_remedy() {
        for (text, expected) in [
            (
                "image = []",
                ":1:1: there is no key \"image\"; did you mean \"images\"?",
            ),
            (
                "\n\nmax_queues = 2",
                ":3:1: there is no key \"max_queues\"; did you mean \"max-queues\"?",
            ),
            (
                "zzz = 1",
                ":1:1: there is no key \"zzz\"; the keys are images, shared",
            ),
            (
                "engine = \"uring\"",
                ":1:10: engine = \"uring\": write one of \"auto\", \"io-uring\", \"threads\"",
            ),
            (
                "direct-io = \"on\"",
                "write one of \"auto\", \"require\", \"off\"",
            ),
            (
                "#\nmax-queues = 0",
                ":2:14: max-queues = 0: write a number from 1 to 16",
            ),
            ("max-queues = 17", "from 1 to 16"),
            ("max-queues = -1", "from 1 to 16"),
            ("max-queues = 99999999999999", "from 1 to 16"),
            ("max-ring-page-order = 5", "from 0 to 4"),
            ("max-indirect-segments = 257", "from 0 to 256"),
            (
                "max-queues = \"2\"",
                ":1:14: invalid type: string \"2\", expected i64",
            ),
            ("persistent-grants = 1", "expected a boolean"),
            ("images = \"/srv\"", "expected a sequence"),
            (
                "images = [\n \"srv/*\",\n]",
                ":2:2: `srv/*` does not begin with `/`",
            ),
            ("images = [", ":1:11: "),
            ("engine", ":1:7: "),
        ] {
            let error = parse(text).unwrap_err().to_string();
            assert!(error.starts_with("/etc/test.toml:"), "{text}: {error}");
            assert!(error.contains(expected), "{text}: {error}");
            assert!(!error.contains('\n'), "{text}: {error}");
        }
    }

    #[test]
    fn a_named_file_must_exist() {
        let error = Config::load(Some(Path::new("/nowhere/x.toml")))
            .unwrap_err()
            .to_string();
        assert!(
            error.starts_with("/nowhere/x.toml: cannot be read"),
            "{error}"
        );
    }

    fn parse(text: &str) -> Result<Config, ConfigError> {
        Config::parse(Path::new("/etc/test.toml"), text)
    }
}
