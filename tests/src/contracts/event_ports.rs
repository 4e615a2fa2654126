//! What binding, closing and restricting promise.

use anyhow::{bail, ensure};
use evtchn::{Evtchn, EvtchnError, LocalPort, RemotePort};
use ring_proto::DomId;

use super::Peer;
use super::events::{LIMIT, bind, fired_within};

/// A domain that does not exist, in either world.
const NOBODY: DomId = DomId::new(0x7ee0);

/// A port that no guest here has open.
const UNUSED_PORT: RemotePort = RemotePort(1000);

/// `VIRQ_TIMER`, as good as any other.
const VIRQ: u32 = 0;

fn ensure_denied<T: std::fmt::Debug>(outcome: Result<T, EvtchnError>) -> anyhow::Result<()> {
    match outcome {
        Err(EvtchnError::Denied { .. }) => Ok(()),
        other => bail!("not denied, but {other:?}"),
    }
}

fn ensure_stale(outcome: &Result<LocalPort, EvtchnError>) -> anyhow::Result<()> {
    ensure!(
        matches!(outcome, Err(EvtchnError::Stale { .. })),
        "not stale, but {outcome:?}"
    );
    Ok(())
}

/// Binds a port whose last owner is gone, and finds both directions working.
fn carry_on(peer: &mut dyn Peer, events: &mut Evtchn, remote: RemotePort) -> anyhow::Result<()> {
    // What the guest signals while nobody is there is not its problem.
    peer.notify(remote)?;
    let local = events.bind(peer.domid(), remote)?;
    let fired = fired_within(events, LIMIT)?;
    ensure!(fired == [local], "the successor was not told to look");
    events.unmask(&[local])?;
    peer.notify(remote)?;
    ensure!(fired_within(events, LIMIT)? == [local], "event lost");
    events.notify(local)?;
    ensure!(peer.signalled(remote, LIMIT)?, "event to the guest lost");
    Ok(())
}

pub(super) fn a_port_is_bound_again_after_the_backend_died(
    peer: &mut dyn Peer,
) -> anyhow::Result<()> {
    let mut events = peer.open_events()?;
    let (remote, _) = bind(peer, &mut events)?;
    for _ in 0..3 {
        drop(events);
        events = peer.open_events()?;
        carry_on(peer, &mut events, remote)?;
    }
    Ok(())
}

pub(super) fn a_port_is_bound_again_after_unbind(peer: &mut dyn Peer) -> anyhow::Result<()> {
    let mut events = peer.open_events()?;
    let (remote, local) = bind(peer, &mut events)?;
    events.unbind(local)?;
    carry_on(peer, &mut events, remote)
}

pub(super) fn a_bound_port_is_bound_by_nobody_else(peer: &mut dyn Peer) -> anyhow::Result<()> {
    let mut events = peer.open_events()?;
    let (remote, local) = bind(peer, &mut events)?;
    ensure_stale(&events.bind(peer.domid(), remote))?;
    ensure_stale(&peer.open_events()?.bind(peer.domid(), remote))?;
    // And the attempt did the owner no harm.
    peer.notify(remote)?;
    ensure!(fired_within(&mut events, LIMIT)? == [local], "event lost");
    Ok(())
}

pub(super) fn an_unknown_port_is_stale(peer: &mut dyn Peer) -> anyhow::Result<()> {
    let mut events = peer.open_events()?;
    for port in [UNUSED_PORT, RemotePort(0), RemotePort(u32::MAX)] {
        ensure_stale(&events.bind(peer.domid(), port))?;
    }
    Ok(())
}

pub(super) fn a_closed_port_is_stale(peer: &mut dyn Peer) -> anyhow::Result<()> {
    let mut events = peer.open_events()?;
    let remote = peer.open_port()?;
    peer.close_port(remote)?;
    ensure_stale(&events.bind(peer.domid(), remote))
}

pub(super) fn an_unknown_domain_has_no_ports(peer: &mut dyn Peer) -> anyhow::Result<()> {
    let mut events = peer.open_events()?;
    let outcome = events.bind(NOBODY, RemotePort(1));
    ensure!(
        outcome == Err(EvtchnError::NoDomain { domid: NOBODY }),
        "{outcome:?}"
    );
    Ok(())
}

pub(super) fn an_unbound_port_takes_no_orders(peer: &mut dyn Peer) -> anyhow::Result<()> {
    let mut events = peer.open_events()?;
    let (_, port) = bind(peer, &mut events)?;
    events.unbind(port)?;
    let gone = Err(EvtchnError::NotBound { port });
    ensure!(events.notify(port) == gone, "notify of a closed port");
    ensure!(
        fired_within(&mut events, super::events::SILENCE)?.is_empty(),
        "it fired"
    );
    Ok(())
}

pub(super) fn notifying_a_guest_that_closed_is_no_error(peer: &mut dyn Peer) -> anyhow::Result<()> {
    let mut events = peer.open_events()?;
    let (remote, local) = bind(peer, &mut events)?;
    peer.close_port(remote)?;
    events.notify(local)?;
    events.unbind(local)?;
    Ok(())
}

pub(super) fn a_restricted_handle_binds_no_other_guest(peer: &mut dyn Peer) -> anyhow::Result<()> {
    let mut events = peer.open_events()?;
    events.restrict(NOBODY)?;
    let remote = peer.open_port()?;
    ensure_denied(events.bind(peer.domid(), remote))?;
    ensure_denied(events.bind_unbound(peer.domid()))?;
    ensure_denied(events.bind_virq(VIRQ))?;
    ensure_denied(events.restrict(NOBODY))?;
    // Nor does whoever gets the descriptor.
    let kind = events.kind();
    let mut events = Evtchn::adopt(kind, events.into_fd())?;
    ensure_denied(events.bind(peer.domid(), remote))?;
    // Another handle is not restricted by it.
    peer.open_events()?.bind(peer.domid(), remote)?;
    Ok(())
}

pub(super) fn a_restricted_handle_binds_its_own_guest(peer: &mut dyn Peer) -> anyhow::Result<()> {
    if peer.domid() == DomId::new(0) {
        // Domain 0 playing its own guest cannot be restricted to: see the next case.
        return Ok(());
    }
    let mut events = peer.open_events()?;
    events.restrict(peer.domid())?;
    let (remote, local) = bind(peer, &mut events)?;
    events.notify(local)?;
    ensure!(peer.signalled(remote, LIMIT)?, "event lost");
    Ok(())
}

pub(super) fn domain_0_is_no_restriction(peer: &mut dyn Peer) -> anyhow::Result<()> {
    let mut events = peer.open_events()?;
    let outcome = events.restrict(DomId::new(0));
    ensure!(outcome.is_err(), "restricted to domain 0");
    bind(peer, &mut events)?;
    Ok(())
}

pub(super) fn a_handle_passed_on_keeps_its_ports(peer: &mut dyn Peer) -> anyhow::Result<()> {
    let mut events = peer.open_events()?;
    let (remote, local) = bind(peer, &mut events)?;
    let kind = events.kind();
    let mut events = Evtchn::adopt(kind, events.into_fd())?;
    // An event that nobody sent may come with a change of hands; one that was sent must come.
    peer.notify(remote)?;
    ensure!(fired_within(&mut events, LIMIT)? == [local], "event lost");
    events.unmask(&[local])?;
    events.notify(local)?;
    ensure!(peer.signalled(remote, LIMIT)?, "event to the guest lost");
    ensure_stale(&peer.open_events()?.bind(peer.domid(), remote))
}
