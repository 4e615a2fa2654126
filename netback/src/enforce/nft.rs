//! Running nft.

use std::path::{Path, PathBuf};

use serde_json::Value;

use super::program;

/// Why there are no rules: this host's doing.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NftError {
    /// It is not there.
    #[error(
        "the policy of {name} needs nftables, and there is no nft: install the package nftables"
    )]
    Missing {
        /// The interface.
        name: String,
    },
    /// It could not be started.
    #[error("{}: {error}", path.display())]
    NotRun {
        /// The program.
        path: PathBuf,
        /// Why not.
        error: std::io::Error,
    },
    /// It refuses.
    #[error("rules of {name}: nft says {message:?}{}", at(line.as_deref()))]
    Refused {
        /// The interface.
        name: String,
        /// Its first message.
        message: String,
        /// The line that it is about.
        line: Option<String>,
    },
    /// It says something that is no JSON.
    #[error("nft -j: {0}; is this nftables 1.0.6 or later, built with JSON?")]
    Unreadable(serde_json::Error),
}

fn at(line: Option<&str>) -> String {
    line.map_or_else(String::new, |line| {
        format!(
            " of the line `{line}`: does this kernel lack a feature? Linux 6.1 with nf_tables has all"
        )
    })
}

/// The program, if there is one.
pub(super) fn find() -> Option<PathBuf> {
    program::find("nft")
}

/// Does all of `script`, or nothing.
pub(super) fn apply(nft: &Path, name: &str, script: &str) -> Result<(), NftError> {
    run(nft, name, &["-f", "-"], script).map(drop)
}

/// What `list` has to say.
pub(super) fn list(nft: &Path, what: &[&str]) -> Result<Vec<Value>, NftError> {
    let arguments: Vec<&str> = ["-j", "list"].iter().chain(what).copied().collect();
    let said = run(nft, &what.join(" "), &arguments, "")?;
    let mut said: Value = serde_json::from_slice(&said).map_err(NftError::Unreadable)?;
    Ok(match said.get_mut("nftables").map(Value::take) {
        Some(Value::Array(objects)) => objects,
        _ => Vec::new(),
    })
}

fn run(nft: &Path, name: &str, arguments: &[&str], input: &str) -> Result<Vec<u8>, NftError> {
    let said = program::run(nft, arguments, input).map_err(|error| NftError::NotRun {
        path: nft.to_path_buf(),
        error,
    })?;
    said.map_err(|message| NftError::Refused {
        name: name.to_owned(),
        line: line_of(&message, input),
        message,
    })
}

/// Messages begin with `/dev/stdin:LINE:`.
fn line_of(message: &str, script: &str) -> Option<String> {
    let number: usize = message.split(':').nth(1)?.parse().ok()?;
    let line = script.lines().nth(number.checked_sub(1)?)?;
    Some(line.trim().to_owned())
}
