//! The client of the control socket.

use std::io::{self, BufRead, BufReader, ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;

use super::{Reply, Request};

/// How long a broker may take. One that waits for xenstore, or for a disk that hangs, takes a while.
const PATIENCE: Duration = Duration::from_secs(30);
/// The longest answer, in bytes.
const ANSWER_MAX: u64 = 64 << 20;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AskError {
    /// Nobody listens.
    #[error(
        "no daemon answers at {path:?} ({error}): is it running, and is this its run directory (see \
         --run-dir)?"
    )]
    NotRunning {
        /// The socket.
        path: PathBuf,
        /// The system's word.
        error: io::Error,
    },
    /// The socket is not for everybody.
    #[error("{path:?} may not be opened: ask as root, or as a member of its group")]
    Closed {
        /// The socket.
        path: PathBuf,
    },
    /// The daemon says no.
    #[error("{0}")]
    Refused(String),
    /// The connection broke, or took too long.
    #[error("the daemon at {path:?} did not answer: {error}")]
    Broken {
        /// The socket.
        path: PathBuf,
        /// The system's word.
        error: io::Error,
    },
}

/// Asks the broker at `path` (see [`socket`](super::socket())) and waits for what it says.
///
/// # Errors
/// There is no answer, or it is no.
pub fn ask(path: &Path, request: &Request) -> Result<Value, AskError> {
    let stream = UnixStream::connect(path).map_err(|error| match error.kind() {
        ErrorKind::PermissionDenied => AskError::Closed {
            path: path.to_owned(),
        },
        _ => AskError::NotRunning {
            path: path.to_owned(),
            error,
        },
    })?;
    let reply = exchange(stream, request).map_err(|error| AskError::Broken {
        path: path.to_owned(),
        error,
    })?;
    match reply {
        Reply::Ok(value) => Ok(value),
        Reply::Error(why) => Err(AskError::Refused(why)),
    }
}

fn exchange(mut stream: UnixStream, request: &Request) -> io::Result<Reply> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let mut line = serde_json::to_vec(request)?;
    line.push(b'\n');
    stream.write_all(&line)?;
    let mut answer = Vec::new();
    let mut limited = BufReader::new(stream).take(ANSWER_MAX);
    limited.read_until(b'\n', &mut answer)?;
    if answer.last() != Some(&b'\n') {
        return Err(ErrorKind::UnexpectedEof.into());
    }
    Ok(serde_json::from_slice(&answer)?)
}
