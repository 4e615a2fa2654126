//! Which interfaces a policy is for.

use std::fmt;

use broker::config::ConfigError;

use super::glob::Glob;
use super::section::{Item, Section};
use super::uuid::Uuid;
use super::vif::Vif;
use crate::policy::Mac;

/// What an interface must be like. Without any key, every interface fits.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Matching {
    domain: Vec<Glob>,
    uuid: Vec<Uuid>,
    domid: Vec<u16>,
    mac: Vec<Mac>,
    bridge: Vec<String>,
    handle: Vec<u32>,
}

/// A key of `match` that an interface fits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Matched {
    /// The key.
    pub key: &'static str,
    /// What the interface has.
    pub has: String,
    /// What the policy says.
    pub wanted: String,
}

/// The keys there are.
const KEYS: [&str; 6] = ["domain", "uuid", "domid", "mac", "bridge", "handle"];

/// Domains have numbers below (`DOMID_FIRST_RESERVED`).
const DOMID_MAX: i64 = 0x7fef;

impl Matching {
    /// The value of `match`.
    pub(super) fn read(item: Item<'_>) -> Result<Self, ConfigError> {
        let form = "write a table like { domain = \"web-*\", bridge = \"xenbr0\" }";
        let section = item.table(&KEYS, form)?;
        let found = Self {
            domain: list(section, "domain", |item| {
                text(item).map(|text| Glob::new(&text))
            })?,
            uuid: list(section, "uuid", |item| {
                item.parsed("write a UUID in quotes, as xl list -v shows it")
            })?,
            domid: list(section, "domid", |item| item.number(0, DOMID_MAX))?,
            mac: list(section, "mac", |item| {
                item.parsed("write an address like \"00:16:3e:01:02:03\"")
            })?,
            bridge: list(section, "bridge", text)?,
            handle: list(section, "handle", |item| item.number(0, u32::MAX.into()))?,
        };
        if found.is_any() {
            return Err(item.wrong("there is no key in it: leave match out to match everything"));
        }
        Ok(found)
    }

    /// Does every interface fit?
    pub(super) fn is_any(&self) -> bool {
        *self == Self::default()
    }

    /// The keys that make an interface fit; `None` if it does not.
    pub(super) fn of(&self, vif: &Vif) -> Option<Vec<Matched>> {
        let (name, bridge) = (vif.domain.as_deref(), vif.bridge.as_deref());
        let verdicts = [
            fit(KEYS[0], &self.domain, name, |glob| {
                glob.matches(name.unwrap_or_default())
            }),
            fit(KEYS[1], &self.uuid, vif.uuid, |uuid| {
                Some(*uuid) == vif.uuid
            }),
            fit(KEYS[2], &self.domid, Some(vif.domid), |domid| {
                *domid == vif.domid
            }),
            fit(KEYS[3], &self.mac, Some(vif.mac), |mac| *mac == vif.mac),
            fit(KEYS[4], &self.bridge, bridge, |name| {
                Some(name.as_str()) == bridge
            }),
            fit(KEYS[5], &self.handle, Some(vif.handle), |handle| {
                *handle == vif.handle
            }),
        ];
        let verdicts: Option<Vec<_>> = verdicts.into_iter().collect();
        Some(verdicts?.into_iter().flatten().collect())
    }
}

/// `None`: it does not fit. `Some(None)`: the key is not there.
///
/// What the interface does not have, or what is not known of it, fits nothing, not even `*`.
fn fit<T: Shown, H: fmt::Display>(
    key: &'static str,
    wanted: &[T],
    has: Option<H>,
    fits: impl Fn(&T) -> bool,
) -> Option<Option<Matched>> {
    if wanted.is_empty() {
        return Some(None);
    }
    let has = has?;
    let found = wanted.iter().find(|wanted| fits(wanted))?;
    Some(Some(Matched {
        key,
        has: has.to_string(),
        wanted: found.shown(),
    }))
}

fn list<T>(
    section: Section<'_>,
    key: &'static str,
    read: impl Fn(Item<'_>) -> Result<T, ConfigError>,
) -> Result<Vec<T>, ConfigError> {
    match section.get(key) {
        None => Ok(Vec::new()),
        Some(item) => item.some()?.map(read).collect(),
    }
}

fn text(item: Item<'_>) -> Result<String, ConfigError> {
    let text = item.text().filter(|text| !text.is_empty());
    text.map(str::to_owned)
        .ok_or_else(|| item.wrong("write a name in quotes"))
}

/// As it is written in the file.
trait Shown {
    fn shown(&self) -> String;
}

impl Shown for Glob {
    fn shown(&self) -> String {
        super::print::quoted(self.as_str())
    }
}

impl Shown for String {
    fn shown(&self) -> String {
        super::print::quoted(self)
    }
}

impl Shown for Uuid {
    fn shown(&self) -> String {
        format!("\"{self}\"")
    }
}

impl Shown for Mac {
    fn shown(&self) -> String {
        format!("\"{self}\"")
    }
}

impl Shown for u16 {
    fn shown(&self) -> String {
        self.to_string()
    }
}

impl Shown for u32 {
    fn shown(&self) -> String {
        self.to_string()
    }
}

/// The value of `match`, or nothing.
impl fmt::Display for Matching {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts = [
            part(KEYS[0], &self.domain),
            part(KEYS[1], &self.uuid),
            part(KEYS[2], &self.domid),
            part(KEYS[3], &self.mac),
            part(KEYS[4], &self.bridge),
            part(KEYS[5], &self.handle),
        ];
        let parts: Vec<_> = parts.into_iter().flatten().collect();
        write!(f, "{}", parts.join(", "))
    }
}

fn part<T: Shown>(key: &str, values: &[T]) -> Option<String> {
    let shown: Vec<_> = values.iter().map(Shown::shown).collect();
    match shown.as_slice() {
        [] => None,
        [one] => Some(format!("{key} = {one}")),
        many => Some(format!("{key} = [{}]", many.join(", "))),
    }
}

impl fmt::Display for Matched {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} fits {}", self.key, self.has, self.wanted)
    }
}
