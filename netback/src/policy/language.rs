//! The language that policies are written in: from TOML to
//! [`VifPolicy`](super::VifPolicy).
//!
//! Policies stand in `netback.toml`, beside its other keys, and in the files `policy.d/*.toml` beside
//! it, which hold nothing else and are read after it, by name. They are one ordered list: the first
//! that an interface fits governs it, alone. `systemd/policy.d/example.toml` shows all of it.
//!
//! Keys of a `[[policy]]`, and what holds without them in the profiles `open` and `locked`;
//! `isolated` is `locked` with `isolated = true` and `host = []`:
//!
//! | key | value | open | locked | meaning |
//! |---|---|---|---|---|
//! | `name` | `a-z0-9-` | | | must be there, once |
//! | `match` | table | | | what an interface must be like: all keys must fit, of a list one; without it every interface is. `domain` (pattern: `*` any text, `?` one character), `uuid`, `domid`, `mac`, `bridge`, `handle` |
//! | `profile` | word | | | `open`, `locked` (if not said) or `isolated` |
//! | `network` | `{ mode = "nat", gateway = "10.0.0.1", uplink = "eth0", forwards = ["tcp 8080 -> 80"] }` | | | how `vif-xen-backends` connects it, from the next time that the script runs for it: [`Network`](crate::policy::network::Network); without it, as the `vif=` line says |
//! | `mac-guard` | bool | false | true | [`mac_guard`](super::VifPolicy::mac_guard) |
//! | `ip-guard` | bool | false | true | [`addresses`](super::VifPolicy::addresses): checks addresses in IP, ARP and ND |
//! | `ipv4`, `ipv6` | address, prefix, list | none | none | the guest's own, with those of the toolstack's `ip` key; no effect without `ip-guard` |
//! | `ipv6-link-local` | `own`, `any` | `own` | `own` | [`Addresses::any_link_local`](crate::policy::Addresses::any_link_local) |
//! | `ra-guard` | bool | false | true | [`ra_guard`](super::VifPolicy::ra_guard) |
//! | `dhcp` | `client`, `server`, `off`, `any` | `any` | `client` | [`Dhcp`](crate::policy::Dhcp) |
//! | `dhcp-servers` | list of addresses | anyone | anyone | [`dhcp_servers`](super::VifPolicy::dhcp_servers) |
//! | `l2` | `ip-only`, `any` | `any` | `ip-only` | [`ip_only`](super::VifPolicy::ip_only) |
//! | `bpdu` | bool | true | false | [`bpdu`](super::VifPolicy::bpdu) |
//! | `rarp` | bool | true | false | [`rarp`](super::VifPolicy::rarp) |
//! | `vlan` | `off`, `any`, `{ access = 5 }`, `{ trunk = [10, "20-29"], native = 5 }` | `any` | `off` | [`Vlan`](crate::policy::Vlan); what the toolstack's `vlan` key says goes before the profile, but not before this key |
//! | `isolated` | bool | false | false | [`isolated`](super::VifPolicy::isolated) |
//! | `host` | `all`, list of `dhcp`, `dns`, `ping`, `http` | `all` | `all` | [`host`](super::VifPolicy::host) |
//! | `rate-out`, `rate-in` | `"100Mbit/s"`, `"12MB/s"` | any | any | bytes of frames; of `rate-out` and the toolstack's `rate` key the slower one holds |
//! | `packets-out`, `packets-in` | number | any | any | packets a second |
//! | `burst-out`, `burst-in` | `"256KiB"` | 128 KiB | 128 KiB | what passes at once at that rate |
//! | `storm` | number, `off` | `off` | 200 | [`storm`](super::VifPolicy::storm) |
//! | `multicast-flood` | bool | true | true | [`multicast_flood`](super::VifPolicy::multicast_flood) |
//! | `default-out` | action | `accept` | `accept` | what no rule matches, out |
//! | `default-in` | action | | | what no rule matches, in: `drop` if a rule accepts something in, else `accept` |
//! | `stateful` | bool | false | true | whether its rules that accept are, unless they say so themselves; needs `mac-guard` |
//! | `flows` | number | 16384 | 16384 | [`flows`](super::VifPolicy::flows) |
//!
//! Keys of a `[[policy.rule]]`, of which the first that matches decides; see
//! [`Rule`](crate::policy::Rule):
//!
//! | key | value | without it |
//! |---|---|---|
//! | `direction` | `in`, `out` | an error |
//! | `action` | `accept`, `drop`, `reject` | an error |
//! | `protocol` | `any`, `tcp`, `udp`, `icmp`, `icmp6`, number | `any` |
//! | `remote` | address, prefix, list | anyone |
//! | `ports`, `source-ports` | `"80,443,8000-8010"`, number, list; with `tcp` and `udp` only | any |
//! | `stateful` | bool | what the policy says |
//! | `limit` | packets, or new flows of a stateful rule, a second | any |
//! | `log` | bool | false |
//!
//! An interface that no policy fits is `open`; if the toolstack has given it addresses (`ip`), it is
//! `locked` to them.

mod doubts;
mod entry;
mod govern;
mod matching;
mod network;
mod print;
mod profile;
mod quantity;
mod ranges;
mod rules;
mod section;
mod settings;
mod source;
mod vif;
mod vlan;

#[cfg(test)]
mod tests;

use std::fmt;
use std::path::{Path, PathBuf};

use broker::config::ConfigError;
use toml::de::DeTable;

pub use entry::Policy;
pub use govern::{Doubt, Governed, Why};
pub use matching::Matched;
pub use profile::Profile;
pub use source::{Origin, Warning};
pub use vif::Vif;

use crate::config::DEFAULT_FILE;
use section::Section;
use source::{FRAGMENTS, Source};

/// All policies of this host, in order.
///
/// Having them tells you that each makes sense, and that no two have the same name.
#[derive(Clone, Debug, Default)]
pub struct Policies(Vec<Policy>);

impl Policies {
    /// Reads those in `file`, or in the default file, and in the files beside it.
    ///
    /// # Errors
    /// A file cannot be read, or something in it makes no sense.
    pub fn load(file: Option<&Path>) -> Result<(Self, Vec<Warning>), ConfigError> {
        let default = Path::new(DEFAULT_FILE);
        let text = broker::config::read(file, default)?;
        let file = file.unwrap_or(default);
        let main = text.map(|text| Source::new(file, text));
        let mut sources: Vec<_> = main.into_iter().collect();
        for fragment in fragments(&file.with_file_name(FRAGMENTS))? {
            sources.push(Source::read(&fragment)?);
        }
        Self::of(&sources)
    }

    /// Reads those in `files` and no others, in this order.
    ///
    /// # Errors
    /// As [`Self::load`].
    pub fn read(files: &[PathBuf]) -> Result<(Self, Vec<Warning>), ConfigError> {
        let sources = files.iter().map(|file| Source::read(file));
        Self::of(&sources.collect::<Result<Vec<_>, _>>()?)
    }

    /// Reads those in the text of `file`, which is only named in errors.
    ///
    /// # Errors
    /// Something in it makes no sense.
    pub fn parse(file: &Path, text: &str) -> Result<(Self, Vec<Warning>), ConfigError> {
        Self::of(&[Source::new(file, text.to_owned())])
    }

    fn of(sources: &[Source]) -> Result<(Self, Vec<Warning>), ConfigError> {
        let mut policies: Vec<Policy> = Vec::new();
        let mut warnings = Vec::new();
        for source in sources {
            read_source(source, &mut policies, &mut warnings)?;
        }
        Ok((Self(policies), warnings))
    }

    /// What governs an interface.
    ///
    /// # Errors
    /// It depends on something that is not known.
    pub fn govern(&self, vif: &Vif) -> Result<Governed, Doubt> {
        govern::govern(&self.0, vif)
    }

    /// Does any ask for more of a guest than its number?
    #[must_use]
    pub fn ask_who(&self) -> bool {
        self.0.iter().any(|policy| policy.matching.asks_who())
    }

    /// In order.
    pub fn iter(&self) -> impl Iterator<Item = &Policy> {
        self.0.iter()
    }
}

/// As they are read, with all keys.
impl fmt::Display for Policies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, policy) in self.0.iter().enumerate() {
            let between = if at > 0 { "\n" } else { "" };
            write!(f, "{between}{policy}")?;
        }
        Ok(())
    }
}

fn read_source(
    source: &Source,
    policies: &mut Vec<Policy>,
    warnings: &mut Vec<Warning>,
) -> Result<(), ConfigError> {
    const ARRAY: &str = "write [[policy]], with two brackets";
    let table = DeTable::parse(&source.text)
        .map_err(|error| ConfigError::of_toml(&source.file, &source.text, &error, &[]))?;
    let Some(item) = Section::file(source, &table, &["policy"])?.get("policy") else {
        return Ok(());
    };
    for section in item.tables(Policy::keys(), ARRAY)? {
        let section = section?;
        let policy = Policy::read(section, warnings)?;
        let namesake = policies.iter().find(|p| p.name() == policy.name());
        if let (Some(namesake), Some(item)) = (namesake, section.get("name")) {
            let place = &namesake.origin;
            return Err(item.wrong(&format!(
                "the policy of {place} is called so: choose another"
            )));
        }
        if let Some(all) = policies.iter().find(|earlier| earlier.matching.is_any()) {
            let (name, place) = (all.name(), &all.origin);
            warnings.push(section.warning(&format!(
                "this policy never governs: {name:?} of {place} is for every interface"
            )));
        }
        policies.push(policy);
    }
    Ok(())
}

/// The files of a folder that may not be there, by name.
fn fragments(folder: &Path) -> Result<Vec<PathBuf>, ConfigError> {
    let unreadable = |error: &std::io::Error| ConfigError::unreadable(folder, error);
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(unreadable(&error)),
    };
    let mut files = Vec::new();
    for entry in entries {
        let path = entry.map_err(|error| unreadable(&error))?.path();
        let hidden = path
            .file_name()
            .is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
        if !hidden
            && path
                .extension()
                .is_some_and(|extension| extension == "toml")
        {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}
