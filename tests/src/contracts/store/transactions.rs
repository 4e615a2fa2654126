//! All or nothing; and writes that never bring a removed directory back.

use anyhow::ensure;
use xenbus::{Endpoint, State, Store, StoreError, Switched, TRIES};
use xenbus::{announce, switch_state, switch_state_with};

use super::{DEVICE, QUIET, ROOT, SOON, connect, same};

pub(super) fn a_transaction_is_seen_as_a_whole_or_not_at_all(
    endpoint: &Endpoint,
) -> anyhow::Result<()> {
    let (mut store, mut other) = (connect(endpoint)?, connect(endpoint)?);
    let (a, b) = (format!("{ROOT}/a"), format!("{ROOT}/b"));
    let inside: Result<_, anyhow::Error> = store.transaction(|tx| {
        tx.write_many(&[(&a, b"1"), (&b, b"2")])?;
        same!(
            tx.read_many(&[&a, &b])?,
            [Some(b"1".to_vec()), Some(b"2".to_vec())]
        );
        same!(other.read_many(&[&a, &b])?, [None, None]);
        Ok(())
    });
    inside?;
    same!(
        other.read_many(&[&a, &b])?,
        [Some(b"1".to_vec()), Some(b"2".to_vec())]
    );
    Ok(())
}

pub(super) fn a_failed_or_cancelled_transaction_writes_nothing(
    endpoint: &Endpoint,
) -> anyhow::Result<()> {
    let mut store = connect(endpoint)?;
    let path = format!("{ROOT}/a");
    let failed: anyhow::Result<()> = store.transaction(|tx| {
        tx.write(&path, "1")?;
        anyhow::bail!("changed my mind")
    });
    ensure!(
        failed.is_err_and(|error| error.to_string() == "changed my mind"),
        "another error"
    );
    same!(store.read(&path)?, None);
    store.transaction(|tx| {
        tx.write(&path, "1")?;
        tx.cancel();
        Ok::<_, StoreError>(())
    })?;
    same!(store.read(&path)?, None);
    Ok(())
}

pub(super) fn sto_02_a_conflict_is_done_again(endpoint: &Endpoint) -> anyhow::Result<()> {
    let (mut store, mut other) = (connect(endpoint)?, connect(endpoint)?);
    let (count, copy) = (format!("{ROOT}/count"), format!("{ROOT}/copy"));
    store.write(&count, "old")?;
    let mut tries = 0;
    store.transaction(|tx| {
        tries += 1;
        let seen = tx.read(&count)?.unwrap_or_default();
        if tries == 1 {
            other.write(&count, "new")?;
        }
        tx.write(&copy, seen)
    })?;
    same!(tries, 2);
    same!(store.read(&copy)?.as_deref(), Some(&b"new"[..]));
    Ok(())
}

pub(super) fn sto_02_endless_conflicts_end(endpoint: &Endpoint) -> anyhow::Result<()> {
    let (mut store, mut other) = (connect(endpoint)?, connect(endpoint)?);
    let (count, copy) = (format!("{ROOT}/count"), format!("{ROOT}/copy"));
    let mut tries = 0_u32;
    let outcome = store.transaction(|tx| {
        tries += 1;
        tx.read(&count)?;
        other.write(&count, tries.to_string())?;
        tx.write(&copy, "")
    });
    same!(outcome, Err(StoreError::Contended(TRIES)));
    same!(tries, TRIES);
    same!(store.read(&copy)?, None);
    Ok(())
}

pub(super) fn a_stranger_elsewhere_is_no_conflict(endpoint: &Endpoint) -> anyhow::Result<()> {
    let (mut store, mut other) = (connect(endpoint)?, connect(endpoint)?);
    store.write(&format!("{ROOT}/mine/a"), "")?;
    store.write(&format!("{ROOT}/theirs/a"), "")?;
    let mut tries = 0;
    store.transaction(|tx| {
        tries += 1;
        tx.read(&format!("{ROOT}/mine/a"))?;
        other.write(&format!("{ROOT}/theirs/a"), "changed")?;
        tx.write(&format!("{ROOT}/mine/a"), "changed")
    })?;
    same!(tries, 1);
    Ok(())
}

pub(super) fn a_node_that_appears_is_a_conflict(endpoint: &Endpoint) -> anyhow::Result<()> {
    let (mut store, mut other) = (connect(endpoint)?, connect(endpoint)?);
    let (new, found) = (format!("{ROOT}/new"), format!("{ROOT}/found"));
    store.mkdir(ROOT)?;
    let mut tries = 0;
    store.transaction(|tx| {
        tries += 1;
        let seen = tx.read(&new)?.is_some();
        if tries == 1 {
            other.write(&new, "")?;
        }
        tx.write(&found, seen.to_string())
    })?;
    same!(tries, 2);
    same!(store.read(&found)?.as_deref(), Some(&b"true"[..]));
    Ok(())
}

fn device(store: &mut Store, state: State) -> anyhow::Result<()> {
    store.transaction(|tx| {
        tx.write(&DEVICE.key("frontend"), DEVICE.frontend_path())?;
        tx.write(&DEVICE.key("state"), state.value())
    })?;
    Ok(())
}

pub(super) fn a_state_is_switched_once(endpoint: &Endpoint) -> anyhow::Result<()> {
    let (mut store, mut other) = (connect(endpoint)?, connect(endpoint)?);
    device(&mut store, State::InitWait)?;
    other.watch(&DEVICE.key("state"), "t")?;
    ensure!(other.wait_event(SOON)?.is_some(), "watch does not fire");
    same!(
        switch_state(&mut store, &DEVICE, State::Closing)?,
        Switched::Written
    );
    same!(
        store.read(&DEVICE.key("state"))?.as_deref(),
        Some(&b"5"[..])
    );
    ensure!(
        other.wait_event(SOON)?.is_some(),
        "written without an event"
    );
    same!(
        switch_state(&mut store, &DEVICE, State::Closing)?,
        Switched::Already
    );
    same!(other.wait_event(QUIET)?, None);
    Ok(())
}

pub(super) fn keys_come_with_the_state(endpoint: &Endpoint) -> anyhow::Result<()> {
    let mut store = connect(endpoint)?;
    device(&mut store, State::InitWait)?;
    let keys = [("sectors", "2048".to_owned()), ("info", "0".to_owned())];
    same!(
        switch_state_with(&mut store, &DEVICE, &keys, State::Connected)?,
        Switched::Written
    );
    let paths = ["state", "sectors", "info"].map(|key| DEVICE.key(key));
    let values = [b"4".to_vec(), b"2048".to_vec(), b"0".to_vec()].map(Some);
    same!(store.read_many(&paths)?, values);
    let keys = [("sectors", "4096".to_owned())];
    same!(
        switch_state_with(&mut store, &DEVICE, &keys, State::Connected)?,
        Switched::Already
    );
    same!(
        store.read(&DEVICE.key("sectors"))?.as_deref(),
        Some(&b"4096"[..])
    );
    Ok(())
}

pub(super) fn a_removed_directory_stays_removed(endpoint: &Endpoint) -> anyhow::Result<()> {
    let mut store = connect(endpoint)?;
    device(&mut store, State::InitWait)?;
    store.remove(&DEVICE.to_string())?;
    let keys = [("sectors", "2048".to_owned())];
    same!(
        switch_state(&mut store, &DEVICE, State::Closed)?,
        Switched::Gone
    );
    same!(
        switch_state_with(&mut store, &DEVICE, &keys, State::Closed)?,
        Switched::Gone
    );
    same!(announce(&mut store, &DEVICE, &keys)?, Switched::Gone);
    same!(store.read(&DEVICE.to_string())?, None);
    Ok(())
}

pub(super) fn an_announced_key_fires_the_state(endpoint: &Endpoint) -> anyhow::Result<()> {
    let (mut store, mut other) = (connect(endpoint)?, connect(endpoint)?);
    device(&mut store, State::InitWait)?;
    other.watch(&DEVICE.key("state"), "t")?;
    ensure!(other.wait_event(SOON)?.is_some(), "watch does not fire");
    let keys = [("sectors", "4096".to_owned())];
    same!(announce(&mut store, &DEVICE, &keys)?, Switched::Written);
    ensure!(
        other.wait_event(SOON)?.is_some(),
        "the frontend would not look again"
    );
    same!(
        store.read(&DEVICE.key("state"))?.as_deref(),
        Some(&b"2"[..])
    );
    Ok(())
}
