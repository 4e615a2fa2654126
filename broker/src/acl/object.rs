//! What rules are about.

use std::fmt;

/// How rules name objects: each kind is a key of a rule, whose patterns are compared with the names
/// of that kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The real path of a file or of a device node.
    Path,
    /// A logical volume, as `GROUP/VOLUME`.
    Volume,
    /// A bridge, as the `bridge` key of an interface has it.
    Bridge,
}

/// What the rules of one daemon may say.
#[derive(Clone, Copy, Debug)]
pub struct Dialect {
    /// The kinds of names that its objects have.
    pub kinds: &'static [Kind],
    /// Can an object be had for reading only?
    pub access: bool,
}

impl Dialect {
    /// Disks.
    pub const DISKS: Self = Self {
        kinds: &[Kind::Path, Kind::Volume],
        access: true,
    };
    /// Network interfaces.
    pub const INTERFACES: Self = Self {
        kinds: &[Kind::Bridge],
        access: false,
    };
}

impl Kind {
    /// The key of a rule.
    #[must_use]
    pub const fn key(self) -> &'static str {
        match self {
            Self::Path => "paths",
            Self::Volume => "volumes",
            Self::Bridge => "bridges",
        }
    }
}

/// What a guest wants, by all its names. They are as the kernel has them for the very thing that was
/// found, wherever such a thing can have more than one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Object {
    shown: String,
    names: Vec<(Kind, Vec<u8>)>,
}

impl Object {
    /// An object without names, called `shown` in texts: `image "/srv/a.img"`.
    #[must_use]
    pub const fn new(shown: String) -> Self {
        let names = Vec::new();
        Self { shown, names }
    }

    /// It is called this, too.
    #[must_use]
    pub fn named(mut self, kind: Kind, name: impl Into<Vec<u8>>) -> Self {
        let name = (kind, name.into());
        if !self.names.contains(&name) {
            self.names.push(name);
        }
        self
    }

    /// Its names.
    pub fn names(&self) -> impl Iterator<Item = (Kind, &[u8])> {
        self.names.iter().map(|(kind, name)| (*kind, &name[..]))
    }
}

/// What it is called in texts, and its other names.
impl fmt::Display for Object {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown)?;
        let names = self.names().map(|(_, name)| String::from_utf8_lossy(name));
        let others: Vec<_> = names
            .map(|name| format!("{name:?}"))
            .filter(|name| !self.shown.contains(name.as_str()))
            .collect();
        if !others.is_empty() {
            write!(f, " ({})", others.join(", "))?;
        }
        Ok(())
    }
}
