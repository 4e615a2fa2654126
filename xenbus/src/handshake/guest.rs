//! What a frontend says, reduced to what matters to a backend.

use crate::snapshot::{Seen, Snapshot};
use crate::state::State;

/// A frontend's state, by what it means to a backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Guest {
    /// 1
    Starting,
    /// 3 or 4
    Ready,
    /// 5
    Closing,
    /// 6
    Closed,
    /// 7 or 8
    Reconfiguring,
    /// Dead, or its directory is gone.
    Left,
    /// What no frontend may say.
    Illegal,
}

impl Guest {
    pub(super) fn of(seen: &Snapshot) -> Self {
        match seen.frontend {
            _ if !seen.alive => Self::Left,
            Seen::Gone | Seen::At(State::Unknown) => Self::Left,
            Seen::At(State::Initialising) => Self::Starting,
            Seen::At(State::Initialised | State::Connected) => Self::Ready,
            Seen::At(State::Closing) => Self::Closing,
            Seen::At(State::Closed) => Self::Closed,
            Seen::At(State::Reconfiguring | State::Reconfigured) => Self::Reconfiguring,
            Seen::At(State::InitWait) | Seen::Garbled => Self::Illegal,
        }
    }
}
