//! Watches.

use anyhow::ensure;
use xenbus::{Endpoint, Errno, Store, StoreError, WatchEvent};

use super::{QUIET, ROOT, SOON, connect, same};

fn event(path: &str, token: &str) -> WatchEvent {
    WatchEvent {
        path: path.to_owned(),
        token: token.to_owned(),
    }
}

/// A store with one watch whose first event was taken.
fn watching(endpoint: &Endpoint, path: &str) -> anyhow::Result<Store> {
    let mut store = connect(endpoint)?;
    store.watch(path, "token")?;
    same!(store.wait_event(SOON)?, Some(event(path, "token")));
    Ok(store)
}

pub(super) fn a_watch_fires_once_at_once(endpoint: &Endpoint) -> anyhow::Result<()> {
    let absent = format!("{ROOT}/absent");
    let mut store = watching(endpoint, &absent)?;
    same!(store.wait_event(QUIET)?, None);
    Ok(())
}

pub(super) fn a_watch_covers_what_is_below_and_nothing_beside(
    endpoint: &Endpoint,
) -> anyhow::Result<()> {
    let mut other = connect(endpoint)?;
    let mut store = watching(endpoint, &format!("{ROOT}/a"))?;
    other.write(&format!("{ROOT}/ab"), "")?;
    other.write(&format!("{ROOT}/b/a"), "")?;
    other.write(&format!("{ROOT}/a/deep/below"), "")?;
    let first = store.wait_event(SOON)?;
    same!(first, Some(event(&format!("{ROOT}/a/deep/below"), "token")));
    other.write(&format!("{ROOT}/a"), "")?;
    same!(
        store.wait_event(SOON)?,
        Some(event(&format!("{ROOT}/a"), "token"))
    );
    same!(store.wait_event(QUIET)?, None);
    Ok(())
}

pub(super) fn a_removed_watch_is_silent(endpoint: &Endpoint) -> anyhow::Result<()> {
    let path = format!("{ROOT}/a");
    let mut store = watching(endpoint, &path)?;
    store.write(&path, "waiting")?;
    store.unwatch(&path, "token")?;
    store.write(&path, "late")?;
    same!(store.wait_event(QUIET)?, None);
    let again = store.unwatch(&path, "token");
    same!(
        again.as_ref().err().and_then(StoreError::errno),
        Some(&Errno::NoEntry)
    );
    Ok(())
}

pub(super) fn a_refused_watch_ends_nothing(endpoint: &Endpoint) -> anyhow::Result<()> {
    let path = format!("{ROOT}/a");
    let mut store = watching(endpoint, &path)?;
    let nowhere = format!("{ROOT}//a");
    let refused = store.watch(&nowhere, "token");
    let errno = refused.as_ref().err().and_then(StoreError::errno);
    ensure!(errno == Some(&Errno::Invalid), "refused with {refused:?}");
    ensure!(store.is_connected(), "the connection ended with it");
    store.write(&path, "")?;
    same!(store.wait_event(SOON)?, Some(event(&path, "token")));
    let unknown = store.unwatch(&nowhere, "token");
    same!(
        unknown.as_ref().err().and_then(StoreError::errno),
        Some(&Errno::NoEntry)
    );
    Ok(())
}

pub(super) fn two_tokens_are_two_watches(endpoint: &Endpoint) -> anyhow::Result<()> {
    let path = format!("{ROOT}/a");
    let mut store = watching(endpoint, &path)?;
    store.watch(&path, "second")?;
    same!(store.wait_event(SOON)?, Some(event(&path, "second")));
    let twice = store.watch(&path, "second");
    same!(
        twice.as_ref().err().and_then(StoreError::errno),
        Some(&Errno::Exists)
    );
    store.write(&path, "")?;
    let mut tokens = vec![];
    while let Some(event) = store.wait_event(QUIET)? {
        tokens.push(event.token);
    }
    tokens.sort();
    same!(tokens, ["second", "token"]);
    Ok(())
}

pub(super) fn removal_of_what_is_above_fires(endpoint: &Endpoint) -> anyhow::Result<()> {
    let mut other = connect(endpoint)?;
    other.write(&format!("{ROOT}/a/b/state"), "4")?;
    let mut store = watching(endpoint, &format!("{ROOT}/a/b/state"))?;
    other.remove(&format!("{ROOT}/a"))?;
    ensure!(
        store.wait_event(SOON)?.is_some(),
        "a removed frontend would go unnoticed"
    );
    Ok(())
}

pub(super) fn a_transaction_fires_when_it_commits(endpoint: &Endpoint) -> anyhow::Result<()> {
    let mut other = connect(endpoint)?;
    let path = format!("{ROOT}/a");
    let mut store = watching(endpoint, &path)?;
    let mut early = None;
    other.transaction(|tx| {
        tx.write(&path, "")?;
        early = store.wait_event(QUIET)?;
        Ok::<_, StoreError>(())
    })?;
    same!(early, None);
    same!(store.wait_event(SOON)?, Some(event(&path, "token")));
    Ok(())
}

pub(super) fn special_watches_fire_once_at_once(endpoint: &Endpoint) -> anyhow::Result<()> {
    for special in ["@introduceDomain", "@releaseDomain"] {
        watching(endpoint, special)?.unwatch(special, "token")?;
    }
    Ok(())
}

/// Events that nobody takes are folded while other calls go on.
pub(super) fn con_05_a_flood_is_one_event(endpoint: &Endpoint) -> anyhow::Result<()> {
    let path = format!("{ROOT}/state");
    let mut store = watching(endpoint, ROOT)?;
    for _ in 0..2000 {
        store.write(&path, "4")?;
    }
    same!(store.wait_event(SOON)?, Some(event(&path, "token")));
    same!(store.wait_event(QUIET)?, None);
    Ok(())
}
