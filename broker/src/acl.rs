//! Which guests may have which devices of this host.
//!
//! Rules of the configuration, in order; the first that is about a guest and an object decides:
//!
//! ```toml
//! acl-default = "deny"
//!
//! [[acl]]
//! domain = "web-*"
//! paths = ["/srv/images/web/**"]
//! volumes = "vg0/web-*"
//! access = "writable"
//! ```
//!
//! - [`Object`]: what a guest wants, by all names that the kernel has for what was found. What a
//!   toolstack calls it does not count: a link would get around a rule otherwise.
//! - [`Owner`]: the guest.
//! - [`Acl::judge`]: the decision, with the rule that made it.
//!
//! A rule that would decide if more were known (a guest whose name cannot be read) refuses.

mod ask;
mod object;
mod read;
mod rule;
#[cfg(test)]
mod tests;

use std::fmt;
use std::path::PathBuf;

use ring_proto::DomId;
use xenbus::{Store, StoreError};

pub use self::ask::{Ask, Command};
pub use self::object::{Dialect, Kind, Object};
pub use self::read::{Entry, Fallback};
use self::rule::{Effect, Meets, Rule};
use crate::owner::Owner;

/// All rules of a configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Acl {
    /// Where they stand; empty without rules.
    file: PathBuf,
    rules: Vec<Rule>,
    fallback: Fallback,
}

/// A guest wants a device.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// Who.
    pub owner: &'a Owner,
    /// What.
    pub object: &'a Object,
    /// Wants to change it, too.
    pub writable: bool,
}

/// Why a guest does not get a device: the rule, who, what, and the remedy.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Denied(String);

impl Acl {
    /// Is everything allowed, whoever asks?
    #[must_use]
    pub const fn is_open(&self) -> bool {
        self.rules.is_empty() && matches!(self.fallback, Fallback::Allow)
    }

    /// As much of a guest as rules ask for.
    ///
    /// # Errors
    /// The store's.
    pub fn owner(&self, store: &mut Store, guest: DomId) -> Result<Owner, StoreError> {
        if self.rules.iter().any(Rule::asks_who) {
            return Owner::read(store, guest);
        }
        Ok(Owner::numbered(guest))
    }

    /// Decides. The first rule that is about this guest and this object does, or that may be about
    /// them; without one the default.
    ///
    /// # Errors
    /// [`Denied`], for the toolstack and the log.
    pub fn judge(&self, request: Request<'_>) -> Result<(), Denied> {
        for rule in &self.rules {
            match rule.meets(&request) {
                Meets::Not(_) => {}
                Meets::Perhaps(unknown) => return Err(self.unknown(rule, request, unknown)),
                Meets::Yes => return self.apply(rule, request),
            }
        }
        match self.fallback {
            Fallback::Allow => Ok(()),
            Fallback::Deny => Err(Denied(format!(
                "acl-default = \"deny\" in {}, and no [[acl]] rule there grants {} {}: add one",
                self.file.display(),
                request.owner,
                request.object,
            ))),
        }
    }

    fn apply(&self, rule: &Rule, request: Request<'_>) -> Result<(), Denied> {
        let (place, owner, object) = (self.place(rule), request.owner, request.object);
        match rule.effect {
            Effect::Deny => Err(Denied(format!(
                "the [[acl]] rule at {place} denies {owner} {object}"
            ))),
            Effect::ReadOnly if request.writable => Err(Denied(format!(
                "the [[acl]] rule at {place} grants {owner} {object} for reading only: attach it \
                 read-only (access=ro), or say access = \"writable\" there"
            ))),
            Effect::ReadOnly | Effect::Writable | Effect::Grant => Ok(()),
        }
    }

    fn unknown(&self, rule: &Rule, request: Request<'_>, what: &str) -> Denied {
        Denied(format!(
            "the [[acl]] rule at {} may be about {} and {}, but {what}",
            self.place(rule),
            request.owner,
            request.object,
        ))
    }

    fn place(&self, rule: &Rule) -> String {
        format!("{}:{}", self.file.display(), rule.line)
    }
}

/// As it may stand in a configuration, after everything that belongs to no table.
impl fmt::Display for Acl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "acl-default = {}", self.fallback)?;
        self.rules
            .iter()
            .try_for_each(|rule| write!(f, "\n\n[[acl]]\n{rule}"))
    }
}
