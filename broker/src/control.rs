//! The control socket: what a running broker can be asked and told.
//!
//! A Unix socket beside the lock file, `NAME.sock`, of root and its group. A client writes a line of
//! JSON ([`Request`]) and reads one ([`Reply`]), as often as it likes:
//!
//! ```text
//! {"command":"status"}
//! {"ok":{"daemon":"blkback", ...}}
//! ```
//!
//! Whoever may open the socket may ask; what changes something is for root and the members of the
//! socket's group. It is served by the broker's one thread, which never waits for a client: there are
//! few at a time, each has little room and little time, and all together may not ask too often.
//!
//! - [`Request`], [`Reply`]: a line each way
//! - [`Command`]: what a daemon's [`Driver`](crate::Driver) adds to `status`
//! - [`Status`]: the answer to `status`
//! - [`ask()`]: the client

mod ask;
mod client;
mod peer;
mod serve;
mod socket;
mod status;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::Value;

pub use self::ask::{AskError, ask};
pub use self::socket::ControlError;
pub(crate) use self::socket::{CONTROL_TOKENS, Control};
pub use self::status::{DeviceStatus, Status};

/// The longest line of a client, in bytes.
pub const LINE_MAX: usize = 64 * 1024;

/// The command that every daemon knows.
pub const STATUS: &str = "status";

/// What a client wants.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Request {
    /// One of those that the daemon knows.
    pub command: String,
    /// As the command wants them.
    #[serde(default, skip_serializing_if = "Value::is_null")]
    pub arguments: Value,
}

/// What it gets.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reply {
    /// Done, or told: as the command has it.
    Ok(Value),
    /// Not done, and why.
    Error(String),
}

/// A command of a daemon's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Command {
    /// As clients call it.
    pub name: &'static str,
    /// Who may.
    pub right: Right,
    /// It changes something: it is logged, and if it fails, all devices are looked at again.
    pub changes: bool,
}

/// Who may give a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Right {
    /// Whoever may open the socket: it tells nothing secret, and changes nothing.
    Anyone,
    /// Root and members of the socket's group.
    Operator,
}

/// What a driver answers.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    /// For the client.
    pub value: Value,
    /// Have the supervisor look at all devices again, as if each had changed: those that are served
    /// are adjusted ([`Driver::adjust`](crate::Driver::adjust)), soon after the answer.
    pub look_again: bool,
}

impl Request {
    /// A request without arguments.
    #[must_use]
    pub fn new(command: &str) -> Self {
        Self::with(command, Value::Null)
    }

    /// A request.
    #[must_use]
    pub fn with(command: &str, arguments: Value) -> Self {
        Self {
            command: command.to_owned(),
            arguments,
        }
    }
}

impl From<Value> for Answer {
    fn from(value: Value) -> Self {
        Self {
            value,
            look_again: false,
        }
    }
}

impl Answer {
    /// And all devices are to be looked at again.
    #[must_use]
    pub const fn and_look_again(mut self) -> Self {
        self.look_again = true;
        self
    }
}

/// Where the socket of the daemon called `name` is (`blkback`, `netback`).
#[must_use]
pub fn socket(run_dir: &Path, name: &str) -> PathBuf {
    run_dir.join(format!("{name}.sock"))
}
