//! The text of a table, as nft reads it.

use std::collections::BTreeSet;
use std::fmt::{self, Write as _};

use crate::policy::VifPolicy;

/// Which of the kernel's tables, and so what can be said in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Family {
    /// Hooks of one device.
    Netdev,
    /// Hooks of bridges.
    Bridge,
    /// Hooks of IPv4 and IPv6, where frames are routed.
    Inet,
}

/// What one interface has in a table. Only names and numbers of ours get into the text.
#[derive(Debug)]
pub(super) struct Table {
    family: Family,
    /// In front of all names: empty in a table of its own.
    prefix: String,
    counters: BTreeSet<String>,
    sets: Vec<String>,
    chains: Vec<(String, Vec<String>)>,
}

impl Family {
    pub(super) const fn word(self) -> &'static str {
        match self {
            Self::Netdev => "netdev",
            Self::Bridge => "bridge",
            Self::Inet => "inet",
        }
    }
}

impl Table {
    pub(super) fn new(family: Family, prefix: String) -> Self {
        Self {
            family,
            prefix,
            counters: BTreeSet::new(),
            sets: Vec::new(),
            chains: Vec::new(),
        }
    }

    pub(super) const fn family(&self) -> Family {
        self.family
    }

    /// The name that `what` has here.
    pub(super) fn name(&self, what: &str) -> String {
        format!("{}{what}", self.prefix)
    }

    /// The statement that counts under `what`.
    pub(super) fn count(&mut self, what: &str) -> String {
        let name = self.name(what);
        let statement = format!("counter name \"{name}\"");
        self.counters.insert(name);
        statement
    }

    /// The statement that counts under `what` and drops.
    pub(super) fn drop(&mut self, what: &str) -> String {
        self.count(what) + " drop"
    }

    /// Adds a set; its elements are counted one by one.
    pub(super) fn set(&mut self, what: &str, kind: &str, interval: bool, elements: &[String]) {
        let name = self.name(what);
        let flags = if interval { "flags interval; " } else { "" };
        let elements = elements.join(",\n\t\t\t");
        self.sets.push(format!(
            "\tset {name} {{\n\t\ttype {kind}; {flags}counter;\n\t\telements = {{\n\t\t\t{elements}\n\t\t}}\n\t}}\n"
        ));
    }

    /// Adds a chain, unless it is there already.
    pub(super) fn chain(&mut self, what: &str, lines: Vec<String>) {
        let name = self.name(what);
        if !self.chains.iter().any(|(other, _)| *other == name) {
            self.chains.push((name, lines));
        }
    }

    /// How many chains hang at a hook.
    pub(super) fn hooks(&self) -> usize {
        let lines = self.chains.iter().flat_map(|(_, lines)| lines);
        lines.filter(|line| line.contains(" hook ")).count()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.chains.is_empty()
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for counter in &self.counters {
            writeln!(f, "\tcounter {counter} {{ }}")?;
        }
        for set in &self.sets {
            f.write_str(set)?;
        }
        for (name, lines) in &self.chains {
            writeln!(f, "\tchain {name} {{")?;
            for line in lines {
                writeln!(f, "\t\t{line}")?;
            }
            f.write_str("\t}\n")?;
        }
        Ok(())
    }
}

/// `{ a, b }`, of what nft can print as it is.
pub(super) fn braces<T: fmt::Display>(items: impl IntoIterator<Item = T>) -> String {
    let mut text = String::from("{ ");
    for (at, item) in items.into_iter().enumerate() {
        let comma = if at == 0 { "" } else { ", " };
        // Writing into a string does not fail.
        let _infallible = write!(text, "{comma}{item}");
    }
    text + " }"
}

/// Sixty-four bits that tell one text from another (FNV-1a). Nobody gains from making two alike: both
/// come from the administrator.
pub(super) fn fingerprint(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

/// The number of a policy, by which flows are told that were allowed by it: never 0, as flows that
/// nobody has allowed have.
pub(super) fn generation(policy: &VifPolicy) -> u16 {
    let text = format!("{policy:?}");
    let folded = fingerprint(&text) % u64::from(u16::MAX);
    u16::try_from(folded).unwrap_or(0).saturating_add(1)
}
