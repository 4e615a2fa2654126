//! Everything the handshake looks at, read in one go.

use crate::error::StoreError;
use crate::number;
use crate::path::BackendPath;
use crate::request::{Reply, Request};
use crate::state::State;
use crate::store::Store;
use crate::wire::Op;

/// What a `state` node was found to say.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Seen {
    /// There is no such node.
    Gone,
    /// Something that is no state.
    Garbled,
    /// This.
    At(State),
}

/// How far the hotplug script has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Hotplug {
    /// It has not said anything yet.
    Pending,
    /// `hotplug-status` is exactly `connected`, or no script is configured.
    Ready,
    /// `hotplug-status` is `error` or `busy`; `hotplug-error` has the text.
    Failed,
}

/// The keys that decide what a backend has to do next, as they were at about one moment.
///
/// Everything but `frontend` is in nodes that only the backend's domain and the toolstack can
/// write.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Snapshot {
    /// Our own state. Gone: the toolstack has removed the device.
    pub backend: Seen,
    /// False when the toolstack wants the device to end for good.
    pub online: bool,
    /// The hotplug script.
    pub hotplug: Hotplug,
    /// The frontend's state: an allegation.
    pub frontend: Seen,
    /// False when xenstored has seen the guest die.
    pub alive: bool,
    /// False when the `frontend` key does not name the only place this device's frontend can be
    /// (STO-06).
    pub paired: bool,
}

/// The state comes last: a directory that is removed while the others are being read is seen as
/// gone.
const KEYS: [&str; 5] = ["online", "hotplug-status", "script", "frontend", "state"];

impl Snapshot {
    /// Reads it in one round trip.
    ///
    /// # Errors
    /// Refused or disconnected.
    pub fn read(store: &mut Store, device: &BackendPath) -> Result<Self, StoreError> {
        let mut requests = vec![
            Request::is_introduced(device.frontend),
            Request::path(Op::Read, &device.frontend_key("state"))?,
        ];
        for key in KEYS {
            requests.push(Request::path(Op::Read, &device.key(key))?);
        }
        let mut replies = store.exchange(0, &requests)?.into_iter();
        let mut next = || {
            replies
                .next()
                .ok_or(StoreError::Lost)
                .and_then(Reply::present)
        };
        let (introduced, frontend_state) = (next()?, next()?);
        let (online, status, script, frontend, state) =
            (next()?, next()?, next()?, next()?, next()?);
        Ok(Self {
            backend: Seen::of(state.as_deref()),
            online: online.is_some_and(|value| number::flag(&value) == Ok(true)),
            hotplug: Hotplug::of(status.as_deref(), script.is_some()),
            frontend: Seen::of(frontend_state.as_deref()),
            alive: introduced.is_some_and(|answer| answer.starts_with(b"T")),
            paired: frontend.is_some_and(|path| path == device.frontend_path().as_bytes()),
        })
    }
}

impl Seen {
    /// What the value of a `state` node says.
    #[must_use]
    pub fn of(value: Option<&[u8]>) -> Self {
        value.map_or(Self::Gone, |value| {
            State::parse(value).map_or(Self::Garbled, Self::At)
        })
    }

    /// Whether it says `state`.
    #[must_use]
    pub fn is(self, state: State) -> bool {
        self == Self::At(state)
    }
}

impl Hotplug {
    fn of(status: Option<&[u8]>, script: bool) -> Self {
        match status {
            Some(b"connected") => Self::Ready,
            Some(b"error" | b"busy") => Self::Failed,
            None if !script => Self::Ready,
            _ => Self::Pending,
        }
    }
}
