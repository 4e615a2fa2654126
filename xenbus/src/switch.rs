//! Writing to a backend directory without ever bringing a removed one back.
//!
//! The toolstack removes the directory when a device is gone. xenstored creates missing parents, so
//! a plain write that comes late would make a new, broken directory and block the device number.
//! Every write here reads the `state` node first, in the same transaction, as Linux's
//! `xenbus_switch_state` does.

use crate::error::StoreError;
use crate::path::BackendPath;
use crate::state::State;
use crate::store::Store;

/// A key below the backend directory and its value.
pub type Key<'a> = (&'a str, String);

/// What became of a write to a backend directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Switched {
    /// It was written.
    Written,
    /// The state was that already: it was not written again. Keys given with it were.
    Already,
    /// The directory is gone. Nothing was written.
    Gone,
}

/// Changes the state of a backend.
///
/// # Errors
/// As [`Store::transaction`]; nothing was written then.
pub fn switch_state(
    store: &mut Store,
    backend: &BackendPath,
    to: State,
) -> Result<Switched, StoreError> {
    switch_state_with(store, backend, &[], to)
}

/// Writes `keys` and changes the state, all at once: who sees the state sees the keys.
///
/// # Errors
/// As [`Store::transaction`]; nothing was written then.
pub fn switch_state_with(
    store: &mut Store,
    backend: &BackendPath,
    keys: &[Key<'_>],
    to: State,
) -> Result<Switched, StoreError> {
    amend(store, backend, keys, |now| {
        (State::parse(now) != Some(to)).then_some(to)
    })
}

/// Writes `keys` and the state anew, whatever it is: its watchers are to read the keys again. This
/// is how a new size is told to a connected block frontend.
///
/// # Errors
/// As [`Store::transaction`]; nothing was written then.
pub fn announce(
    store: &mut Store,
    backend: &BackendPath,
    keys: &[Key<'_>],
) -> Result<Switched, StoreError> {
    amend(store, backend, keys, State::parse)
}

fn amend(
    store: &mut Store,
    backend: &BackendPath,
    keys: &[Key<'_>],
    decide: impl Fn(&[u8]) -> Option<State>,
) -> Result<Switched, StoreError> {
    let state_path = backend.key("state");
    let paths: Vec<String> = keys.iter().map(|(name, _)| backend.key(name)).collect();
    store.transaction(|tx| {
        let Some(now) = tx.read(&state_path)? else {
            tx.cancel();
            return Ok(Switched::Gone);
        };
        let state = decide(&now).map(State::value);
        let values = keys.iter().map(|(_, value)| value.as_bytes());
        let mut nodes: Vec<(&str, &[u8])> = paths.iter().map(String::as_str).zip(values).collect();
        nodes.extend(
            state
                .as_deref()
                .map(|value| (state_path.as_str(), value.as_bytes())),
        );
        if nodes.is_empty() {
            tx.cancel();
        } else {
            tx.write_many(&nodes)?;
        }
        Ok(if state.is_some() {
            Switched::Written
        } else {
            Switched::Already
        })
    })
}
