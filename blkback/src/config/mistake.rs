//! Mistakes in a configuration: where, what, and what to write instead.

use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};

use crate::image::GlobError;

/// Why a file is no configuration: where, what, and what to write instead.
#[derive(Debug)]
pub struct ConfigError {
    file: PathBuf,
    line: Option<usize>,
    text: String,
}

/// The keys there are.
pub(super) const KEYS: [&str; 8] = [
    "images",
    "shared",
    "direct-io",
    "engine",
    "max-queues",
    "max-ring-page-order",
    "max-indirect-segments",
    "persistent-grants",
];

impl ConfigError {
    pub(super) fn unreadable(file: &Path, error: &std::io::Error) -> Self {
        Self {
            file: file.to_owned(),
            line: None,
            text: format!("cannot be read: {error}"),
        }
    }

    /// A value of the right type that makes no sense.
    pub(super) fn at(file: &Path, source: &str, span: &Range<usize>, what: &GlobError) -> Self {
        Self {
            file: file.to_owned(),
            line: Some(line(source, span)),
            text: what.to_string(),
        }
    }

    pub(super) fn of_toml(file: &Path, source: &str, error: &toml::de::Error) -> Self {
        let written = error
            .span()
            .and_then(|span| source.get(span))
            .unwrap_or_default();
        let message = error.message().trim_end().replace('\n', ", ");
        let text = match written.trim_matches(['"', '\'']) {
            key if message.starts_with("unknown field") => unknown(key),
            // What spans lines is not shown again: its first line is named.
            value if value.is_empty() || value.contains('\n') || message.contains(value) => message,
            value => format!("{message} (found {value})"),
        };
        Self {
            file: file.to_owned(),
            line: error.span().map(|span| line(source, &span)),
            text,
        }
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.file.display())?;
        if let Some(line) = self.line {
            write!(f, ":{line}")?;
        }
        write!(f, ": {}", self.text)
    }
}

impl std::error::Error for ConfigError {}

fn line(text: &str, span: &Range<usize>) -> usize {
    let before = text.get(..span.start).unwrap_or(text);
    1 + before.matches('\n').count()
}

fn unknown(key: &str) -> String {
    let near = KEYS.iter().map(|known| (distance(key, known), known)).min();
    match near {
        Some((edits, known)) if edits <= 3 && edits < known.len() / 2 + 1 => {
            format!("there is no key {key:?}; did you mean {known:?}?")
        }
        _ => format!("there is no key {key:?}; the keys are {}", KEYS.join(", ")),
    }
}

/// How many letters have to be inserted, removed or replaced (Levenshtein).
fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.chars().count()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = i;
        row[0] = i + 1;
        for (j, y) in b.chars().enumerate() {
            let replaced = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row.last().copied().unwrap_or_default()
}
