//! Waiting for the other side.

use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use xenbus::{State, Store};

use crate::sim::hypervisor::GuestPort;

/// How long a state may take: as long as libxl waits.
pub const PATIENCE: Duration = Duration::from_secs(10);

/// Sleeps until one of `ports` is signalled, or `deadline`; false if that was over before.
///
/// # Errors
/// The system has no memory left.
pub fn wait_ports<'a>(
    ports: impl Iterator<Item = &'a GuestPort>,
    deadline: Instant,
) -> anyhow::Result<bool> {
    let left = deadline.saturating_duration_since(Instant::now());
    if left.is_zero() {
        return Ok(false);
    }
    let mut polled: Vec<_> = ports.map(|port| PollFd::new(port, PollFlags::IN)).collect();
    match poll(&mut polled, Timespec::try_from(left).ok().as_ref()) {
        Ok(_) | Err(Errno::INTR) => Ok(true),
        Err(errno) => Err(errno).context("cannot wait for events"),
    }
}

/// Waits until the value of `path` is as wanted; returns it. A missing node is `None`.
///
/// # Errors
/// It is not so within `limit`; the text has the last value. Or the store is lost.
pub fn wait_value(
    store: &mut Store,
    path: &str,
    limit: Duration,
    wanted: impl Fn(Option<&[u8]>) -> bool,
) -> anyhow::Result<Option<Vec<u8>>> {
    let deadline = Instant::now() + limit;
    store.watch(path, "wait_value")?;
    let found = loop {
        let value = store.read(path)?;
        if wanted(value.as_deref()) {
            break Ok(value);
        }
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            break Err(value);
        }
        store.wait_event(left)?;
    };
    store.unwatch(path, "wait_value")?;
    match found {
        Ok(value) => Ok(value),
        Err(value) => {
            let value = value.as_deref().map(String::from_utf8_lossy);
            bail!("{path} is still {value:?} after {limit:?}")
        }
    }
}

/// Waits until the state at `directory` is one of `wanted`; which one it is.
///
/// # Errors
/// As [`wait_value`].
pub fn wait_state(store: &mut Store, directory: &str, wanted: &[State]) -> anyhow::Result<State> {
    let path = format!("{directory}/state");
    let state = |value: Option<&[u8]>| value.map(read_state);
    let found = wait_value(store, &path, PATIENCE, |value| {
        state(value).is_some_and(|state| wanted.contains(&state))
    })?;
    Ok(state(found.as_deref()).unwrap_or(State::Unknown))
}

/// Waits until `path` is gone.
///
/// # Errors
/// As [`wait_value`].
pub fn wait_gone(store: &mut Store, path: &str) -> anyhow::Result<()> {
    wait_value(store, path, PATIENCE, |value| value.is_none()).map(drop)
}

fn read_state(value: &[u8]) -> State {
    State::parse(value).unwrap_or(State::Unknown)
}
