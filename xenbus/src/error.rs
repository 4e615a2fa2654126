//! What can go wrong between us and xenstored.

use std::path::PathBuf;
use std::time::Duration;

use crate::errno::Errno;
use crate::wire::{Garbled, Op, Oversize};

/// A failed store operation. All of it is a fault of the host or of our own request, never of a
/// guest.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// No connection could be made.
    #[error("cannot open {path:?}: {errno}; is xenstored running?")]
    Open {
        /// What was opened.
        path: PathBuf,
        /// The system's answer.
        errno: rustix::io::Errno,
    },
    /// No xenstore is to be found on this machine.
    #[error("found neither {0}; set XENSTORED_PATH if xenstored listens elsewhere")]
    NotFound(String),
    /// xenstored said no.
    #[error("{op:?} {path}: {errno}")]
    Refused {
        /// What was asked.
        op: Op,
        /// Of which node; empty where the operation has none.
        path: String,
        /// Why not.
        errno: Errno,
    },
    /// The connection has ended. Watches and open transactions went with it;
    /// [`crate::Store::reconnect`] makes a new one and registers the watches again. Whether the
    /// last request was executed is unknown.
    #[error("connection to xenstored lost")]
    Lost,
    /// No answer in time. The connection was given up, as after [`StoreError::Lost`].
    #[error("no answer from xenstored within {0:?}; the connection is given up")]
    Timeout(Duration),
    /// The peer does not speak the protocol. The connection was given up, as after
    /// [`StoreError::Lost`].
    #[error("xenstored sent nonsense: {0}")]
    Protocol(String),
    /// The request is longer than a message may be. Nothing was sent.
    #[error("request too long: {0}")]
    TooLong(#[from] Oversize),
    /// Not an absolute path of the store, or too long. Nothing was sent.
    #[error("not an absolute xenstore path: {0:?}")]
    BadPath(String),
    /// Others kept changing the nodes of the transaction. Nothing was written; try again later.
    #[error("transaction met a conflict {0} times in a row; try again later")]
    Contended(u32),
    /// The children of a node kept changing, or are too many to be real.
    #[error("list of the children of {0} is too long or never stands still")]
    Unlistable(String),
}

impl StoreError {
    /// Whether the connection is gone and [`crate::Store::reconnect`] is the way on.
    #[must_use]
    pub fn is_disconnect(&self) -> bool {
        matches!(
            self,
            Self::Lost | Self::Timeout(_) | Self::Protocol(_) | Self::Open { .. }
        )
    }

    /// The store's own error name, if this was a refusal.
    #[must_use]
    pub fn errno(&self) -> Option<&Errno> {
        match self {
            Self::Refused { errno, .. } => Some(errno),
            _ => None,
        }
    }
}

impl From<Garbled> for StoreError {
    fn from(garbled: Garbled) -> Self {
        Self::Protocol(garbled.to_string())
    }
}
