//! One rule.

use std::fmt;

use super::Request;
use super::object::Kind;
use crate::glob::Glob;

/// A rule is about the guests that all of its keys about guests describe, and about the objects that
/// one of its patterns describes. A key that is not there describes everything.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Rule {
    /// The line of its `[[acl]]`.
    pub(super) line: usize,
    pub(super) domains: Vec<Glob>,
    pub(super) uuids: Vec<String>,
    pub(super) domids: Vec<u16>,
    pub(super) objects: Vec<(Kind, Glob)>,
    pub(super) effect: Effect,
}

/// What it does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Effect {
    Deny,
    ReadOnly,
    Writable,
    /// Where there is nothing to tell reading from writing.
    Grant,
}

/// Is a rule about a request?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Meets {
    Yes,
    /// Not, because of this key.
    Not(&'static str),
    /// It would depend on this, which is not known.
    Perhaps(&'static str),
}

impl Rule {
    /// Does it depend on more of a guest than its number?
    pub(super) const fn asks_who(&self) -> bool {
        !self.domains.is_empty() || !self.uuids.is_empty()
    }

    pub(super) fn meets(&self, request: &Request<'_>) -> Meets {
        let all = [
            self.meets_domid(request),
            self.meets_uuid(request),
            self.meets_name(request),
            self.meets_object(request),
        ];
        // One that is certainly not met decides, whatever else is not known.
        let decides = |meets: &Meets| matches!(meets, Meets::Not(_));
        let doubtful = |meets: &Meets| matches!(meets, Meets::Perhaps(_));
        let found = all.iter().copied();
        let found = found.clone().find(decides).or(found.clone().find(doubtful));
        found.unwrap_or(Meets::Yes)
    }

    fn meets_domid(&self, request: &Request<'_>) -> Meets {
        let domid = request.owner.domid.raw();
        met(
            self.domids.is_empty() || self.domids.contains(&domid),
            "domid",
        )
    }

    fn meets_uuid(&self, request: &Request<'_>) -> Meets {
        match &request.owner.uuid {
            _ if self.uuids.is_empty() => Meets::Yes,
            Some(uuid) => met(self.uuids.contains(uuid), "uuid"),
            None => Meets::Perhaps("the guest's UUID is not known"),
        }
    }

    fn meets_name(&self, request: &Request<'_>) -> Meets {
        match &request.owner.name {
            _ if self.domains.is_empty() => Meets::Yes,
            Some(name) => {
                let name = name.as_bytes();
                met(self.domains.iter().any(|glob| glob.matches(name)), "domain")
            }
            None => Meets::Perhaps("the guest's name is not known"),
        }
    }

    fn meets_object(&self, request: &Request<'_>) -> Meets {
        let Some((kind, _)) = self.objects.first() else {
            return Meets::Yes;
        };
        if request.object.names().next().is_none() {
            // Only an interface can be nameless: its script chooses a bridge then.
            return Meets::Perhaps("no bridge is named: set bridge= in the vif line");
        }
        let called = |(kind, glob): &(Kind, Glob)| {
            let mut names = request.object.names();
            names.any(|(named, name)| named == *kind && glob.matches(name))
        };
        met(self.objects.iter().any(called), kind.key())
    }
}

const fn met(is: bool, key: &'static str) -> Meets {
    if is { Meets::Yes } else { Meets::Not(key) }
}

impl Effect {
    /// The key that says it.
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Deny => "deny = true",
            Self::ReadOnly => "access = \"read-only\"",
            Self::Writable => "access = \"writable\"",
            Self::Grant => "deny = false",
        }
    }
}

/// The keys of its table.
impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let quoted = |texts: &[&str]| {
            let quoted: Vec<_> = texts.iter().map(|text| format!("{text:?}")).collect();
            format!("[{}]", quoted.join(", "))
        };
        if !self.domains.is_empty() {
            let names: Vec<_> = self.domains.iter().map(Glob::as_str).collect();
            writeln!(f, "domain = {}", quoted(&names))?;
        }
        if !self.uuids.is_empty() {
            let uuids: Vec<_> = self.uuids.iter().map(String::as_str).collect();
            writeln!(f, "uuid = {}", quoted(&uuids))?;
        }
        if !self.domids.is_empty() {
            writeln!(f, "domid = {:?}", self.domids)?;
        }
        for kind in [Kind::Path, Kind::Volume, Kind::Bridge] {
            let of_kind = self.objects.iter().filter(|(of, _)| *of == kind);
            let globs: Vec<_> = of_kind.map(|(_, glob)| glob.as_str()).collect();
            if !globs.is_empty() {
                writeln!(f, "{} = {}", kind.key(), quoted(&globs))?;
            }
        }
        f.write_str(self.effect.as_str())
    }
}
