//! Rules as a configuration file has them.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;
use std::path::Path;

use serde::{Deserialize, Deserializer};
use toml::{Spanned, Value};
use xenbus::DOMID_MAX;

use super::Acl;
use super::object::{Dialect, Kind};
use super::rule::{Effect, Rule};
use crate::config::{self, ConfigError, Place, choice};
use crate::glob::{Glob, GlobError};
use crate::owner::parse_uuid;

/// One `[[acl]]`, its keys not looked at yet: which there are depends on the daemon.
pub type Entry = Spanned<BTreeMap<Spanned<String>, Spanned<Value>>>;

/// What happens to requests that no rule is about: `acl-default`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Fallback {
    /// They are granted.
    #[default]
    Allow,
    /// They are not.
    Deny,
}

const FALLBACKS: &[(&str, Fallback)] = &[("allow", Fallback::Allow), ("deny", Fallback::Deny)];

impl<'de> Deserialize<'de> for Fallback {
    fn deserialize<D: Deserializer<'de>>(value: D) -> Result<Self, D::Error> {
        choice(value, "acl-default", FALLBACKS)
    }
}

impl fmt::Display for Fallback {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", config::name(FALLBACKS, *self))
    }
}

impl Acl {
    /// Reads the rules of `file`, whose text is `text`.
    ///
    /// # Errors
    /// Something in them makes no sense.
    pub fn parse(
        file: &Path,
        text: &str,
        dialect: Dialect,
        entries: &[Entry],
        fallback: Fallback,
    ) -> Result<Self, ConfigError> {
        let rule = |entry| {
            read_rule(entry, dialect, text)
                .map_err(|bad| ConfigError::at(file, text, &bad.span, &bad.what))
        };
        let rules = entries.iter().map(rule).collect::<Result<Vec<_>, _>>()?;
        let acl = Self {
            file: file.to_owned(),
            rules,
            fallback,
        };
        Ok(if acl.is_open() { Self::default() } else { acl })
    }
}

/// What makes no sense, and where.
struct Bad {
    span: Range<usize>,
    what: String,
}

/// The keys of one rule that were understood so far.
#[derive(Default)]
struct Keys {
    domains: Vec<Glob>,
    uuids: Vec<String>,
    domids: Vec<u16>,
    objects: Vec<(Kind, Glob)>,
    access: Option<Effect>,
    deny: bool,
}

fn read_rule(entry: &Entry, dialect: Dialect, text: &str) -> Result<Rule, Bad> {
    let mut keys = Keys::default();
    for (key, value) in entry.get_ref() {
        keys.read(key, value, dialect)?;
    }
    let effect = match (keys.deny, keys.access) {
        (true, None) => Effect::Deny,
        (true, Some(_)) => {
            let what = "deny = true and access in one rule: leave one of them out".to_owned();
            let span = entry.span();
            return Err(Bad { span, what });
        }
        (false, Some(access)) => access,
        (false, None) if dialect.access => Effect::Writable,
        (false, None) => Effect::Grant,
    };
    Ok(Rule {
        line: Place::of(text, &entry.span()).line,
        domains: keys.domains,
        uuids: keys.uuids,
        domids: keys.domids,
        objects: keys.objects,
        effect,
    })
}

impl Keys {
    fn read(
        &mut self,
        key: &Spanned<String>,
        value: &Spanned<Value>,
        dialect: Dialect,
    ) -> Result<(), Bad> {
        let name = key.get_ref().as_str();
        let at = |what| Bad {
            span: value.span(),
            what,
        };
        let kind = dialect.kinds.iter().find(|kind| kind.key() == name);
        match name {
            "domain" => {
                let glob = |text: &str| Glob::whole(text).map_err(|error| error.to_string());
                self.domains = texts(name, value, glob).map_err(at)?;
            }
            "uuid" => self.uuids = texts(name, value, uuid).map_err(at)?,
            "domid" => self.domids = list(name, value, domid).map_err(at)?,
            "access" if dialect.access => self.access = Some(access(value).map_err(at)?),
            "deny" => {
                let flag = value.get_ref().as_bool();
                self.deny = flag.ok_or_else(|| {
                    at(format!(
                        "deny = {}: write true or false",
                        shown(value.get_ref())
                    ))
                })?;
            }
            _ if let Some(&kind) = kind => {
                let globs = texts(name, value, |text| object(kind, text)).map_err(at)?;
                self.objects
                    .extend(globs.into_iter().map(|glob| (kind, glob)));
            }
            _ => {
                let what = format!("in [[acl]], {}", config::unknown(name, &known(dialect)));
                let span = key.span();
                return Err(Bad { span, what });
            }
        }
        Ok(())
    }
}

fn known(dialect: Dialect) -> Vec<&'static str> {
    let mut keys = vec!["domain", "uuid", "domid"];
    keys.extend(dialect.kinds.iter().map(|kind| kind.key()));
    if dialect.access {
        keys.push("access");
    }
    keys.push("deny");
    keys
}

/// A value, or a list of some.
fn list<T>(
    key: &str,
    value: &Spanned<Value>,
    parse: impl Fn(&Value) -> Result<T, String>,
) -> Result<Vec<T>, String> {
    let value = value.get_ref();
    let values = match value {
        Value::Array(values) if values.is_empty() => {
            return Err(format!(
                "{key} = [] is about nothing: leave it out to mean everything, or name something"
            ));
        }
        Value::Array(values) => values.as_slice(),
        one => std::slice::from_ref(one),
    };
    let parsed = values
        .iter()
        .map(|value| parse(value).map_err(|why| format!("{key}: {why}")));
    parsed.collect()
}

fn texts<T>(
    key: &str,
    value: &Spanned<Value>,
    parse: impl Fn(&str) -> Result<T, String>,
) -> Result<Vec<T>, String> {
    list(key, value, |value| match value.as_str() {
        Some(text) => parse(text),
        None => Err(format!(
            "{} is no text: write \"...\", or a list of such",
            shown(value)
        )),
    })
}

fn uuid(text: &str) -> Result<String, String> {
    parse_uuid(text)
        .ok_or_else(|| format!("{text:?} is no UUID like \"01234567-89ab-cdef-0123-456789abcdef\""))
}

fn domid(value: &Value) -> Result<u16, String> {
    let number = value
        .as_integer()
        .and_then(|number| u16::try_from(number).ok());
    number
        .filter(|number| *number <= DOMID_MAX)
        .ok_or_else(|| format!("{} is not a number from 0 to {DOMID_MAX}", shown(value)))
}

fn access(value: &Spanned<Value>) -> Result<Effect, String> {
    match value.get_ref().as_str() {
        Some("read-only") => Ok(Effect::ReadOnly),
        Some("writable") => Ok(Effect::Writable),
        _ => Err(format!(
            "access = {}: write one of \"read-only\", \"writable\"",
            shown(value.get_ref())
        )),
    }
}

fn object(kind: Kind, text: &str) -> Result<Glob, String> {
    let glob = |parsed: Result<Glob, GlobError>| parsed.map_err(|error| error.to_string());
    match kind {
        Kind::Path => glob(Glob::path(text)),
        Kind::Volume if text.split('/').count() != 2 || text.starts_with('/') => Err(format!(
            "{text:?} is no logical volume: write \"GROUP/VOLUME\", without /dev"
        )),
        Kind::Bridge if text.contains('/') => Err(format!("{text:?} is no name of a bridge")),
        Kind::Volume | Kind::Bridge => glob(Glob::name(text)),
    }
}

/// A value in a text about it.
fn shown(value: &Value) -> String {
    match value {
        Value::String(text) => format!("{text:?}"),
        Value::Integer(number) => number.to_string(),
        Value::Boolean(flag) => flag.to_string(),
        other => format!("(a value of type {})", other.type_str()),
    }
}
