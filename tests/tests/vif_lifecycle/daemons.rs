//! The daemon and its workers end, are killed, and start again.

use anyhow::{Context, ensure};
use pv_tests::daemon::signal;
use pv_tests::frontend::netfront::NetShape;
use pv_tests::scene::Scene;
use rustix::process::Signal;
use xenbus::State;

use super::{Busy, Nic};

#[test]
fn guests_go_on_while_the_daemon_is_restarted() -> anyhow::Result<()> {
    let mut scene = Scene::networked("")?;
    let nic = Nic::connect(&mut scene, 1, NetShape::LINUX)?;
    let (domid, device) = (nic.guest.domid(), nic.line.device());
    let busy = Busy::start(nic);
    let orphans = scene.take_daemon()?.stop()?;
    scene.start_daemon()?;
    let state = scene.toolstack().backend_state(domid, device)?;
    ensure!(
        state == Some(State::Connected),
        "the new daemon has touched it"
    );
    // New interfaces are served by the new daemon.
    let mut late = Nic::connect(&mut scene, 2, NetShape::LINUX)?;
    late.use_it()?;
    late.detach(&mut scene)?;
    let (mut nic, frames) = busy.finish().with_context(|| scene.told())?;
    ensure!(frames > 0, "nothing has passed");
    nic.use_it()?;
    // The new daemon can only end the old one's worker.
    scene.toolstack().ask_to_close(domid, device, false)?;
    nic.wire
        .front
        .follow_closing_after(|| scene.wait_unmapped(domid))?;
    scene.detach_nic(&nic.guest, &nic.line)?;
    drop(orphans);
    scene.no_wrong_done()
}

#[test]
fn guests_go_on_when_the_daemon_is_killed() -> anyhow::Result<()> {
    let mut scene = Scene::networked("")?;
    let nic = Nic::connect(&mut scene, 1, NetShape::LINUX)?;
    let guest = nic.guest.clone();
    let busy = Busy::start(nic);
    let orphans = scene.take_daemon()?.kill()?;
    scene.start_daemon()?;
    let (mut nic, _) = busy.finish().with_context(|| scene.told())?;
    nic.use_it()?;
    scene.destroy(&guest)?;
    drop(orphans);
    scene.no_wrong_done()
}

/// Whether a broker was there when it began or not.
#[test]
fn the_carrier_goes_with_the_worker_of_an_earlier_daemon() -> anyhow::Result<()> {
    for killed_while_none_runs in [false, true] {
        let mut scene = Scene::networked("")?;
        let mut nic = Nic::connect(&mut scene, 1, NetShape::LINUX)?;
        nic.use_it()?;
        let workers = scene.daemon()?.workers(nic.guest.domid());
        let kill = || {
            workers
                .iter()
                .for_each(|&pid| signal(Some(pid), Signal::KILL));
        };
        let orphans = scene.take_daemon()?.kill()?;
        scene.wait_carrier(&nic.interface(), true)?;
        if killed_while_none_runs {
            kill();
            scene.wait_carrier(&nic.interface(), false)?;
        }
        scene.start_daemon()?;
        if !killed_while_none_runs {
            scene.wait_carrier(&nic.interface(), true)?;
            kill();
        }
        scene.wait_carrier(&nic.interface(), false)?;
        drop(orphans);
        scene.destroy(&nic.guest)?;
        scene.wait_no_interface(&nic.interface())?;
        scene.no_wrong_done()?;
    }
    Ok(())
}

/// What an earlier daemon has left of guests that are gone by now is removed.
#[test]
fn a_new_daemon_removes_the_interfaces_of_guests_that_are_gone() -> anyhow::Result<()> {
    let mut scene = Scene::networked("")?;
    let nic = Nic::connect(&mut scene, 1, NetShape::LINUX)?;
    let (guest, interface) = (nic.guest.clone(), nic.interface());
    let orphans = scene.take_daemon()?.kill()?;
    drop(orphans);
    guest.domain.destroy()?;
    scene.machine().xenstored()?.release(guest.domid())?;
    let backend = pv_tests::toolstack::backend_path(guest.domid(), nic.line.device());
    scene.toolstack().store().remove(&backend)?;
    scene.toolstack().forget_domain(guest.domid())?;
    ensure!(scene.network()?.has(&interface)?, "it did not outlive them");
    scene.start_daemon()?;
    scene.wait_no_interface(&interface)?;
    Nic::connect(&mut scene, 2, NetShape::LINUX)?.use_it()?;
    scene.no_wrong_done()
}

#[test]
fn a_killed_worker_closes_its_guests_interfaces_and_no_others() -> anyhow::Result<()> {
    let mut scene = Scene::networked("")?;
    let mut victim = Nic::connect(&mut scene, 1, NetShape::LINUX)?;
    victim.use_it()?;
    let (domid, device) = (victim.guest.domid(), victim.line.device());
    let busy = Busy::start(Nic::connect(&mut scene, 2, NetShape::LINUX)?);

    let workers = scene.daemon()?.workers(domid);
    assert_eq!(workers.len(), 1, "one worker per guest");
    victim.fill()?;
    signal(workers.first().copied(), Signal::KILL);

    let told = scene.toolstack().wait_error(domid, device)?;
    assert!(
        told.contains("signal 9") || told.contains("worker"),
        "{told}"
    );
    scene.daemon()?.wait_log("signal 9")?;
    let closed = [State::Closing, State::Closed];
    scene.toolstack().wait_backend(domid, device, &closed)?;
    scene.wait_unmapped(domid)?;
    // Nobody waits for a guest that is not connected any more.
    scene.wait_carrier(&victim.interface(), false)?;

    let (mut other, _) = busy.finish().with_context(|| scene.told())?;
    other.use_it()?;
    other.detach(&mut scene)?;

    // And the toolstack can put things right.
    let interface = victim.interface();
    let _given_up = victim.wire.front.vanish();
    scene.destroy(&victim.guest)?;
    scene.wait_no_interface(&interface)?;
    scene.no_wrong_done()
}

#[test]
fn con_07_interfaces_survive_a_lost_and_a_stalled_xenstored() -> anyhow::Result<()> {
    let mut scene = Scene::networked("")?;
    let mut nic = Nic::connect(&mut scene, 1, NetShape::LINUX)?;
    scene.machine().xenstored()?.hang_up()?;
    scene.toolstack().store().reconnect()?;
    nic.use_it()?;
    let mut late = Nic::connect(&mut scene, 2, NetShape::LINUX)?;
    late.use_it()?;
    late.detach(&mut scene)?;
    scene
        .machine()
        .xenstored()?
        .stall(std::time::Duration::from_secs(2))?;
    nic.use_it()?;
    scene.no_wrong_done()
}
