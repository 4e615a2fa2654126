//! A file with policies, and how its mistakes and doubts are told.

use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};

use broker::config::{ConfigError, Place};

/// The text of a file.
#[derive(Debug)]
pub(super) struct Source {
    pub(super) file: PathBuf,
    pub(super) text: String,
    /// It may hold nothing but policies.
    pub(super) only_policies: bool,
}

/// Something that is allowed, but is probably not what was meant.
#[derive(Debug)]
pub struct Warning(ConfigError);

/// Where a policy begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    /// The file.
    pub file: PathBuf,
    /// The line, from 1.
    pub line: usize,
}

/// The name of the folder of files that hold only policies.
pub(super) const FRAGMENTS: &str = "policy.d";

impl Source {
    /// The text of `file`; what it may hold goes by its folder.
    pub(super) fn new(file: &Path, text: String) -> Self {
        let folder = file.parent().and_then(Path::file_name);
        Self {
            file: file.to_owned(),
            text,
            only_policies: folder.is_some_and(|name| name == FRAGMENTS),
        }
    }

    /// Reads `file`.
    pub(super) fn read(file: &Path) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(file);
        let text = text.map_err(|error| ConfigError::unreadable(file, &error))?;
        Ok(Self::new(file, text))
    }

    pub(super) fn error(&self, span: &Range<usize>, what: &str) -> ConfigError {
        ConfigError::at(&self.file, &self.text, span, what)
    }

    pub(super) fn warning(&self, span: &Range<usize>, what: &str) -> Warning {
        Warning(self.error(span, what))
    }

    pub(super) fn origin(&self, span: &Range<usize>) -> Origin {
        Origin {
            file: self.file.clone(),
            line: Place::of(&self.text, span).line,
        }
    }

    /// What is written there, short enough for one line.
    pub(super) fn shown(&self, span: Range<usize>) -> String {
        let written = self.text.get(span).unwrap_or_default();
        let mut words = written.split_whitespace();
        let mut shown = words.next().unwrap_or_default().to_owned();
        for word in words {
            shown.push(' ');
            shown.push_str(word);
            if shown.len() > SHOWN {
                break;
            }
        }
        match shown.char_indices().nth(SHOWN) {
            Some((end, _)) => format!("{}..", &shown[..end]),
            None => shown,
        }
    }
}

/// Most characters of a value in an error.
const SHOWN: usize = 64;

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.file.display(), self.line)
    }
}
