//! Configuration files: how they are found, and how their mistakes are told.
//!
//! Every daemon has keys of its own; that a mistake names its line and column, and what to write
//! instead, is the same for all.

use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};

use serde::de::Error as _;
use serde::{Deserialize, Deserializer};

/// Why a file is no configuration: where, what, and what to write instead.
#[derive(Debug)]
pub struct ConfigError {
    file: PathBuf,
    place: Option<Place>,
    text: String,
}

/// Where something stands in a text, as editors count: from 1, columns in characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// The line.
    pub line: usize,
    /// The character in it.
    pub column: usize,
}

/// The text of `file`; without one, of the default file if that exists: `None` if it does not.
///
/// # Errors
/// A file that was named, or exists, cannot be read.
pub fn read(file: Option<&Path>, default: &Path) -> Result<Option<String>, ConfigError> {
    let path = file.unwrap_or(default);
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound && file.is_none() => Ok(None),
        Err(error) => Err(ConfigError::unreadable(path, &error)),
    }
}

impl ConfigError {
    /// The file cannot be read.
    #[must_use]
    pub fn unreadable(file: &Path, error: &std::io::Error) -> Self {
        Self {
            file: file.to_owned(),
            place: None,
            text: format!("cannot be read: {error}"),
        }
    }

    /// A value of the right type that makes no sense.
    #[must_use]
    pub fn at(
        file: &Path,
        source: &str,
        span: &Range<usize>,
        what: &(impl fmt::Display + ?Sized),
    ) -> Self {
        Self {
            file: file.to_owned(),
            place: Some(Place::of(source, span)),
            text: what.to_string(),
        }
    }

    /// What the parser found. `keys` are those that there are, for the one that was meant.
    #[must_use]
    pub fn of_toml(file: &Path, source: &str, error: &toml::de::Error, keys: &[&str]) -> Self {
        let written = error
            .span()
            .and_then(|span| source.get(span))
            .unwrap_or_default();
        let message = error.message().trim_end().replace('\n', ", ");
        let text = match written.trim_matches(['"', '\'']) {
            key if message.starts_with("unknown field") => unknown(key, keys),
            // What spans lines is not shown again: its first line is named.
            value if value.is_empty() || value.contains('\n') || message.contains(value) => message,
            value => format!("{message} (found {value})"),
        };
        Self {
            file: file.to_owned(),
            place: error.span().map(|span| Place::of(source, &span)),
            text,
        }
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.file.display())?;
        if let Some(Place { line, column }) = self.place {
            write!(f, ":{line}:{column}")?;
        }
        write!(f, ": {}", self.text)
    }
}

impl std::error::Error for ConfigError {}

/// Deserialises one of some words.
///
/// # Errors
/// It is none of them; the text names `key` and the words that there are.
pub fn choice<'de, D: Deserializer<'de>, T: Copy>(
    value: D,
    key: &str,
    choices: &[(&'static str, T)],
) -> Result<T, D::Error> {
    let text = String::deserialize(value)?;
    let found = choices.iter().find(|(name, _)| *name == text);
    found.map(|(_, value)| *value).ok_or_else(|| {
        let names: Vec<_> = choices
            .iter()
            .map(|(name, _)| format!("{name:?}"))
            .collect();
        D::Error::custom(format!(
            "{key} = {text:?}: write one of {}",
            names.join(", ")
        ))
    })
}

/// The word that [`choice`] reads as `value`: the first one if it is none of them.
#[must_use]
pub fn name<T: Copy + PartialEq>(choices: &[(&'static str, T)], value: T) -> &'static str {
    let found = choices.iter().find(|(_, choice)| *choice == value);
    found.or(choices.first()).map_or("", |(name, _)| name)
}

/// Deserialises a number from `least` to `most`.
///
/// # Errors
/// It is another; the text names `key` and the bounds.
pub fn bounded<'de, D: Deserializer<'de>, T: TryFrom<i64>>(
    value: D,
    key: &str,
    least: i64,
    most: i64,
) -> Result<T, D::Error> {
    let number = i64::deserialize(value)?;
    let fits = (least..=most)
        .contains(&number)
        .then(|| T::try_from(number).ok())
        .flatten();
    fits.ok_or_else(|| {
        D::Error::custom(format!(
            "{key} = {number}: write a number from {least} to {most}"
        ))
    })
}

impl Place {
    /// Where `span`, in bytes of `text`, begins.
    #[must_use]
    pub fn of(text: &str, span: &Range<usize>) -> Self {
        let before = text.get(..span.start).unwrap_or(text);
        let of_line = before.rsplit('\n').next().unwrap_or_default();
        Self {
            line: 1 + before.matches('\n').count(),
            column: 1 + of_line.chars().count(),
        }
    }
}

/// That there is no such key: with the one that was probably meant, or with all there are.
#[must_use]
pub fn unknown(key: &str, keys: &[&str]) -> String {
    let near = keys
        .iter()
        .map(|known| (distance(key, known), *known))
        .min();
    match near {
        Some((edits, known)) if edits <= 3 && edits < known.len() / 2 + 1 => {
            format!("there is no key {key:?}; did you mean {known:?}?")
        }
        _ => format!("there is no key {key:?}; the keys are {}", keys.join(", ")),
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
