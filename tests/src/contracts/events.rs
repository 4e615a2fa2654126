//! What firing, masking and waiting promise.

use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use evtchn::{Evtchn, LocalPort, RemotePort};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

use super::{Peer, sys};

/// An event that takes this long is lost. An emulated machine may well take tens of milliseconds.
pub(super) const LIMIT: Duration = Duration::from_secs(5);

/// How long something must stay silent to be believed, where no later event can prove it.
pub(super) const SILENCE: Duration = Duration::from_millis(20);

/// The ports that fired by the time one did; none if none does within `limit`.
pub(super) fn fired_within(events: &mut Evtchn, limit: Duration) -> anyhow::Result<Vec<LocalPort>> {
    let deadline = Instant::now() + limit;
    let mut fired = [LocalPort::default(); 64];
    loop {
        let count = events.pending(&mut fired)?;
        let left = deadline.saturating_duration_since(Instant::now());
        if count > 0 || left.is_zero() {
            return Ok(fired[..count].to_vec());
        }
        readable(events, left)?;
    }
}

fn readable(events: &Evtchn, limit: Duration) -> anyhow::Result<bool> {
    let limit = Timespec::try_from(limit)?;
    let fd = events.wait_fd();
    let mut polled = [PollFd::new(&fd, PollFlags::IN)];
    match poll(&mut polled, Some(&limit)) {
        Ok(count) => Ok(count > 0),
        Err(Errno::INTR) => Ok(false),
        Err(errno) => Err(errno.into()),
    }
}

/// A bound port whose first event has been taken, unmasked: everything from here on is news.
pub(super) fn bind(
    peer: &mut dyn Peer,
    events: &mut Evtchn,
) -> anyhow::Result<(RemotePort, LocalPort)> {
    let remote = peer.open_port()?;
    let local = events.bind(peer.domid(), remote)?;
    let fired = fired_within(events, LIMIT)?;
    ensure!(fired == [local], "after bind {fired:?} fired, not {local}");
    events.unmask(&[local])?;
    Ok((remote, local))
}

pub(super) fn a_bound_port_is_pending_at_once(peer: &mut dyn Peer) -> anyhow::Result<()> {
    let mut events = peer.open_events()?;
    let (_, local) = bind(peer, &mut events)?;
    ensure!(local.raw() != 0, "port 0 is no port");
    Ok(())
}

pub(super) fn a_notify_reaches_the_backend(peer: &mut dyn Peer) -> anyhow::Result<()> {
    let mut events = peer.open_events()?;
    let (remote, local) = bind(peer, &mut events)?;
    for _ in 0..10 {
        peer.notify(remote)?;
        ensure!(fired_within(&mut events, LIMIT)? == [local], "event lost");
        events.unmask(&[local])?;
    }
    Ok(())
}

pub(super) fn a_notify_reaches_the_guest(peer: &mut dyn Peer) -> anyhow::Result<()> {
    let mut events = peer.open_events()?;
    let (remote, local) = bind(peer, &mut events)?;
    for _ in 0..10 {
        events.notify(local)?;
        ensure!(peer.signalled(remote, LIMIT)?, "event lost");
    }
    ensure!(!peer.signalled(remote, SILENCE)?, "one event too many");
    Ok(())
}

pub(super) fn many_notifies_are_one(peer: &mut dyn Peer) -> anyhow::Result<()> {
    let mut events = peer.open_events()?;
    let (remote, local) = bind(peer, &mut events)?;
    for _ in 0..5 {
        peer.notify(remote)?;
    }
    ensure!(fired_within(&mut events, LIMIT)? == [local], "event lost");
    // Masked now: whatever was counted beyond one must not have become events of its own.
    ensure!(
        fired_within(&mut events, SILENCE)?.is_empty(),
        "a masked port fired"
    );
    Ok(())
}

pub(super) fn a_masked_port_is_silent_and_loses_nothing(peer: &mut dyn Peer) -> anyhow::Result<()> {
    let mut events = peer.open_events()?;
    let (masked, local) = bind(peer, &mut events)?;
    let (other, other_local) = bind(peer, &mut events)?;
    peer.notify(masked)?;
    ensure!(fired_within(&mut events, LIMIT)? == [local], "event lost");
    // While it is masked its next event waits, though a later one of another port comes through.
    peer.notify(masked)?;
    peer.notify(other)?;
    let fired = fired_within(&mut events, LIMIT)?;
    ensure!(fired == [other_local], "{fired:?} fired, not {other_local}");
    events.unmask(&[local])?;
    let fired = fired_within(&mut events, LIMIT)?;
    ensure!(fired == [local], "the event of the masked port was lost");
    Ok(())
}

pub(super) fn unmasking_alone_is_no_event(peer: &mut dyn Peer) -> anyhow::Result<()> {
    let mut events = peer.open_events()?;
    let (remote, local) = bind(peer, &mut events)?;
    peer.notify(remote)?;
    ensure!(fired_within(&mut events, LIMIT)? == [local], "event lost");
    // The second time it is not masked, which changes nothing.
    events.unmask(&[local])?;
    events.unmask(&[local])?;
    ensure!(
        fired_within(&mut events, SILENCE)?.is_empty(),
        "nobody sent that event"
    );
    Ok(())
}

pub(super) fn two_ports_are_told_apart(peer: &mut dyn Peer) -> anyhow::Result<()> {
    let mut events = peer.open_events()?;
    let (first, first_local) = bind(peer, &mut events)?;
    let (second, second_local) = bind(peer, &mut events)?;
    ensure!(first_local != second_local, "two ports have one number");
    for (remote, local) in [(second, second_local), (first, first_local)] {
        peer.notify(remote)?;
        ensure!(fired_within(&mut events, LIMIT)? == [local], "wrong port");
        events.unmask(&[local])?;
    }
    events.notify(second_local)?;
    ensure!(peer.signalled(second, LIMIT)?, "event lost");
    ensure!(!peer.signalled(first, SILENCE)?, "wrong port");
    Ok(())
}

pub(super) fn ports_beyond_the_room_come_later(peer: &mut dyn Peer) -> anyhow::Result<()> {
    let mut events = peer.open_events()?;
    let mut remotes = Vec::new();
    let mut expected = Vec::new();
    for _ in 0..3 {
        let (remote, local) = bind(peer, &mut events)?;
        remotes.push(remote);
        expected.push(local);
    }
    for remote in remotes {
        peer.notify(remote)?;
    }
    ensure!(readable(&events, LIMIT)?, "nothing fired");
    ensure!(events.pending(&mut [])? == 0, "no room, yet a port");
    let mut seen = Vec::new();
    while seen.len() < expected.len() {
        ensure!(
            readable(&events, LIMIT)?,
            "only {seen:?} of {expected:?} fired"
        );
        let mut one = [LocalPort::default()];
        if events.pending(&mut one)? == 1 {
            seen.extend(one);
        }
    }
    seen.sort_unstable();
    expected.sort_unstable();
    ensure!(seen == expected, "{seen:?} fired, not {expected:?}");
    Ok(())
}

pub(super) fn poll_waits_for_a_port(peer: &mut dyn Peer) -> anyhow::Result<()> {
    let mut events = peer.open_events()?;
    let (remote, _) = bind(peer, &mut events)?;
    ensure!(!readable(&events, SILENCE)?, "readable without an event");
    peer.notify(remote)?;
    ensure!(readable(&events, LIMIT)?, "not readable after an event");
    Ok(())
}

pub(super) fn io_uring_waits_for_a_port(peer: &mut dyn Peer) -> anyhow::Result<()> {
    let mut events = peer.open_events()?;
    let (remote, local) = bind(peer, &mut events)?;
    let quiet = sys::uring_poll(events.wait_fd(), SILENCE).context("without an event")?;
    ensure!(!quiet, "readable without an event");
    peer.notify(remote)?;
    let woken = sys::uring_poll(events.wait_fd(), LIMIT).context("after an event")?;
    ensure!(woken, "not readable after an event");
    ensure!(fired_within(&mut events, LIMIT)? == [local], "event lost");
    Ok(())
}
