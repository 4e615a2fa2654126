//! Which interfaces a policy is for.

use std::fmt;

use broker::config::ConfigError;
use broker::glob::Glob;
use broker::owner::parse_uuid;

use super::section::{Item, Section};
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

/// A guest's, in lower case.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Uuid(String);

/// Is a policy for an interface?
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Fit {
    /// These keys say so.
    Yes(Vec<Matched>),
    /// Some key says no.
    No,
    /// It depends on this, which is not known.
    Perhaps(&'static str),
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
                Glob::whole(&text(item)?).map_err(|error| item.wrong(&error.to_string()))
            })?,
            uuid: list(section, "uuid", |item| {
                const REMEDY: &str =
                    "is no UUID: write it as xl list -v shows it, 8-4-4-4-12 hexadecimal digits";
                let uuid = item.text().and_then(parse_uuid);
                uuid.map(Uuid).ok_or_else(|| item.wrong(REMEDY))
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

    /// Does it ask for more of a guest than its number?
    pub(super) const fn asks_who(&self) -> bool {
        !self.domain.is_empty() || !self.uuid.is_empty()
    }

    /// Is the policy for this interface?
    pub(super) fn of(&self, vif: &Vif) -> Fit {
        let owner = &vif.owner;
        let (domid, bridge) = (owner.domid.raw(), vif.bridge.as_deref());
        // No toolstack leaves a guest without name and UUID.
        let known = |has: Option<&str>, what| has.map(str::to_owned).ok_or(what);
        let name = known(owner.name.as_deref(), "its guest's name is not known");
        let uuid = known(owner.uuid.as_deref(), "its guest's UUID is not known");
        let keys = [
            fit(KEYS[0], &self.domain, name, |glob, name| {
                glob.matches(name.as_bytes())
            }),
            fit(KEYS[1], &self.uuid, uuid, |uuid, has| uuid.0 == *has),
            fit(KEYS[2], &self.domid, Ok(domid), PartialEq::eq),
            fit(KEYS[3], &self.mac, Ok(vif.mac), PartialEq::eq),
            // One that is not bridged is on none.
            fit(
                KEYS[4],
                &self.bridge,
                Ok(bridge.unwrap_or_default()),
                |name, has| name == has,
            ),
            fit(KEYS[5], &self.handle, Ok(vif.handle), PartialEq::eq),
        ];
        // A key that says no decides, whatever is not known.
        let mut matched = Vec::new();
        let mut unknown = None;
        for key in keys {
            match key {
                Key::Absent => {}
                Key::Fits(fits) => matched.push(fits),
                Key::Fails => return Fit::No,
                Key::Unknown(what) => unknown = unknown.or(Some(what)),
            }
        }
        unknown.map_or(Fit::Yes(matched), Fit::Perhaps)
    }
}

/// What one key says.
enum Key {
    /// It is not there.
    Absent,
    Fits(Matched),
    Fails,
    Unknown(&'static str),
}

fn fit<T: Shown, H: fmt::Display>(
    key: &'static str,
    wanted: &[T],
    has: Result<H, &'static str>,
    fits: impl Fn(&T, &H) -> bool,
) -> Key {
    if wanted.is_empty() {
        return Key::Absent;
    }
    let has = match has {
        Ok(has) => has,
        Err(what) => return Key::Unknown(what),
    };
    let found = wanted.iter().find(|wanted| fits(wanted, &has));
    found.map_or(Key::Fails, |found| {
        Key::Fits(Matched {
            key,
            has: has.to_string(),
            wanted: found.shown(),
        })
    })
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
        format!("\"{}\"", self.0)
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
