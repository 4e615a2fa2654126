//! Interfaces are attached, detached and taken from under a running guest; guests start over and die.

use anyhow::{Context, ensure};
use pv_tests::frontend::netfront::{NetShape, Netfront, Wire};
use pv_tests::scene::Scene;
use pv_tests::toolstack::backend_path;
use xenbus::State;

use super::{Busy, Nic, nic};

#[test]
fn attach_and_detach_again_and_again() -> anyhow::Result<()> {
    let mut scene = Scene::networked("")?;
    let guest = scene.guest()?;
    let line = nic(1);
    for round in 0..20 {
        let device = scene.attach_nic(&guest, &line)?;
        // Every other time nobody connects, as with a guest that has no driver.
        if round % 2 == 0 {
            let peer = scene.peer(&guest, &line)?;
            let front = Netfront::connect(device, NetShape::LINUX)?;
            let mut wire = Wire::new(front, peer, line.mac)?;
            wire.run(&super::SOME)?;
            let (domid, device) = (guest.domid(), line.device());
            scene.toolstack().ask_to_close(domid, device, false)?;
            wire.front.follow_closing()?;
        }
        scene.detach_nic(&guest, &line)?;
        let state = scene.toolstack();
        let state = state.backend_state(guest.domid(), line.device())?;
        ensure!(state.is_none(), "the backend's directory is back");
        scene.wait_no_interface(&line.interface(guest.domid()))?;
    }
    scene.wait_unmapped(guest.domid())?;
    scene.no_wrong_done()
}

/// The tap is there, down, before the toolstack's script looks for it, and nothing passes before
/// both ends are connected (NET-24).
#[test]
fn net_24_the_interface_has_a_carrier_only_while_the_guest_is_connected() -> anyhow::Result<()> {
    let mut scene = Scene::networked("")?;
    let guest = scene.guest()?;
    let line = nic(1);
    let interface = line.interface(guest.domid());
    let domid = guest.domid();
    scene.toolstack().write_nic_keys(domid, &line)?;
    let ready = [State::InitWait];
    scene
        .toolstack()
        .wait_backend(domid, line.device(), &ready)?;
    let network = scene.network()?.clone();
    let shown = network.ip(&format!("link show {interface}"))?;
    ensure!(!shown.contains("UP"), "it is up: {shown}");
    ensure!(shown.contains("fe:ff:ff:ff:ff:ff"), "its address: {shown}");
    scene.toolstack().run_vif_script(domid, &line, &network)?;
    let shown = network.ip(&format!("link show {interface}"))?;
    ensure!(shown.contains("NO-CARRIER"), "a carrier: {shown}");
    let device = pv_tests::frontend::Device::find(&guest.domain, guest.store()?, line.device())?;
    let front = Netfront::connect(device, NetShape::LINUX)?;
    scene.wait_carrier(&interface, true)?;
    front.close()?;
    scene.wait_carrier(&interface, false)?;
    scene.detach_nic(&guest, &line)?;
    scene.no_wrong_done()
}

#[test]
fn the_backend_waits_for_the_hotplug_script() -> anyhow::Result<()> {
    let mut scene = Scene::networked("")?;
    let guest = scene.guest()?;
    let (line, domid) = (nic(1), guest.domid());
    scene.toolstack().write_nic_keys(domid, &line)?;
    let ready = [State::InitWait];
    scene
        .toolstack()
        .wait_backend(domid, line.device(), &ready)?;
    let mut device =
        pv_tests::frontend::Device::find(&guest.domain, guest.store()?, line.device())?;
    let backend = Netfront::backend(&mut device)?;
    let mut front = Netfront::prepare(device, NetShape::LINUX, backend, 0)?;
    front.device().switch(State::Connected)?;
    // Once another device has come and gone, the daemon has seen that.
    Nic::connect(&mut scene, 2, NetShape::LINUX)?.detach(&mut scene)?;
    let state = scene.toolstack().backend_state(domid, line.device())?;
    ensure!(state == Some(State::InitWait), "it is in {state:?}");
    let network = scene.network()?.clone();
    scene.toolstack().run_vif_script(domid, &line, &network)?;
    front.device().wait_backend(&[State::Connected])?;
    let mut wire = Wire::new(front, scene.peer(&guest, &line)?, line.mac)?;
    wire.run(&super::SOME)?;
    scene.no_wrong_done()
}

#[test]
fn a_guest_closes_and_connects_again() -> anyhow::Result<()> {
    let mut scene = Scene::networked("max-queues = 4")?;
    let mut nic = Nic::connect(&mut scene, 1, NetShape::LINUX)?;
    for (queues, shape) in [
        (2, NetShape::LINUX),
        (1, NetShape::LEAST),
        (4, NetShape::LINUX),
    ] {
        nic.use_it()?;
        let Nic { guest, wire, line } = nic;
        let Wire { front, peer, .. } = wire;
        let mut device = front.close()?;
        device.start_over()?;
        let front = Netfront::connect(device, NetShape { queues, ..shape })?;
        let wire = Wire::new(front, peer, line.mac)?;
        nic = Nic { guest, wire, line };
    }
    nic.use_it()?;
    nic.detach(&mut scene)?;
    scene.no_wrong_done()
}

#[test]
fn a_kernel_that_boots_another_one_gets_its_interface_again() -> anyhow::Result<()> {
    let mut scene = Scene::networked("")?;
    let mut nic = Nic::connect(&mut scene, 1, NetShape::LINUX)?;
    for _ in 0..3 {
        nic.use_it()?;
        nic.fill()?;
        let Nic { guest, wire, line } = nic;
        let Wire { front, peer, .. } = wire;
        let device = front.kexec().with_context(|| scene.told())?;
        let front = Netfront::connect(device, NetShape::LINUX)?;
        // What the old kernel has sent may be seen by the other end still.
        drop(peer);
        let wire = Wire::new(front, scene.peer(&guest, &line)?, line.mac)?;
        nic = Nic { guest, wire, line };
    }
    nic.use_it()?;
    nic.detach(&mut scene)?;
    scene.no_wrong_done()
}

#[test]
fn detach_under_traffic() -> anyhow::Result<()> {
    let mut scene = Scene::networked("max-queues = 4")?;
    for round in 0..8_u8 {
        let shape = NetShape {
            queues: 1 + u32::from(round) % 4,
            split: round % 2 == 0,
            ..NetShape::LINUX
        };
        let mut nic = Nic::connect(&mut scene, round, shape)?;
        nic.fill()?;
        let step = nic.detach(&mut scene);
        step.with_context(|| scene.told())?;
    }
    scene.no_wrong_done()
}

#[test]
fn an_interface_that_is_taken_from_a_guest_that_does_not_care() -> anyhow::Result<()> {
    let mut scene = Scene::networked("")?;
    let mut nic = Nic::connect(&mut scene, 1, NetShape::LINUX)?;
    nic.fill()?;
    let (domid, device) = (nic.guest.domid(), nic.line.device());
    scene.toolstack().ask_to_close(domid, device, true)?;
    scene.toolstack().finish_removal(domid, device)?;
    scene.wait_unmapped(domid)?;
    scene.wait_no_interface(&nic.interface())?;
    scene.no_wrong_done()
}

#[test]
fn con_06_destroy_under_traffic_leaves_nothing() -> anyhow::Result<()> {
    let mut scene = Scene::networked("max-queues = 2")?;
    let busy = Busy::start(Nic::connect(&mut scene, 99, NetShape::LINUX)?);
    for number in 0..6 {
        let shape = NetShape {
            queues: 2,
            ..NetShape::LINUX
        };
        let mut nic = Nic::connect(&mut scene, number, shape)?;
        nic.use_it()?;
        nic.fill()?;
        if number < 3 {
            scene.destroy(&nic.guest)?;
        } else {
            // It crashes by itself first, and the toolstack tidies up.
            nic.guest.domain.destroy()?;
            scene.machine().xenstored()?.release(nic.guest.domid())?;
            scene.toolstack().remove_devices(nic.guest.domid())?;
            scene.toolstack().forget_domain(nic.guest.domid())?;
            scene.wait_buried(nic.guest.domid())?;
        }
        scene.wait_no_interface(&nic.interface())?;
    }
    let (mut other, frames) = busy.finish().with_context(|| scene.told())?;
    ensure!(frames > 0, "nothing has passed");
    other.use_it()?;
    other.detach(&mut scene)?;
    scene.no_wrong_done()
}

#[test]
fn a_guest_that_only_dies_is_let_go() -> anyhow::Result<()> {
    let mut scene = Scene::networked("")?;
    let mut nic = Nic::connect(&mut scene, 1, NetShape::LINUX)?;
    nic.use_it()?;
    nic.guest.domain.destroy()?;
    scene.machine().xenstored()?.release(nic.guest.domid())?;
    // Nobody has asked for the interface to be closed: `@releaseDomain` must do.
    scene.wait_buried(nic.guest.domid())?;
    scene.no_wrong_done()
}

#[test]
fn a_detached_interface_of_a_guest_leaves_its_other_one() -> anyhow::Result<()> {
    let mut scene = Scene::networked("")?;
    let mut first = Nic::connect(&mut scene, 1, NetShape::LINUX)?;
    let mut line = nic(2);
    line.handle = 1;
    let mut second = scene.wire(&first.guest, &line, NetShape::LINUX)?;
    second.run(&super::SOME)?;
    second.front.close()?;
    scene.detach_nic(&first.guest, &line)?;
    first.use_it()?;
    first.detach(&mut scene)?;
    scene.no_wrong_done()
}

#[test]
fn an_interface_with_a_name_of_its_own() -> anyhow::Result<()> {
    let mut scene = Scene::networked("")?;
    let guest = scene.guest()?;
    let mut line = nic(1);
    line.name = Some("web-front".into());
    for _ in 0..3 {
        let mut wire = scene.wire(&guest, &line, NetShape::LINUX)?;
        wire.run(&super::SOME)?;
        let (domid, device) = (guest.domid(), line.device());
        scene.toolstack().ask_to_close(domid, device, false)?;
        wire.front.follow_closing()?;
        scene.detach_nic(&guest, &line)?;
        scene.wait_no_interface("web-front")?;
    }
    scene.no_wrong_done()
}

#[test]
fn a_backend_directory_that_is_torn_away_is_not_brought_back() -> anyhow::Result<()> {
    let mut scene = Scene::networked("")?;
    let mut nic = Nic::connect(&mut scene, 1, NetShape::LINUX)?;
    let domid = nic.guest.domid();
    nic.fill()?;
    let backend = backend_path(domid, nic.line.device());
    scene.toolstack().store().remove(&backend)?;
    scene.wait_unmapped(domid)?;
    scene.wait_no_interface(&nic.interface())?;
    // The same number can be used again.
    let Nic { guest, wire, line } = nic;
    let _given_up = wire.front.vanish();
    let mut wire = scene.wire(&guest, &line, NetShape::LINUX)?;
    wire.run(&super::SOME)?;
    scene.no_wrong_done()
}

/// Two guests in one bridge: what one sends, the other gets, through two workers.
#[test]
fn guests_talk_to_each_other_across_a_bridge() -> anyhow::Result<()> {
    let mut scene = Scene::networked("")?;
    let network = scene.network()?.clone();
    network.ip("link add xenbr0 type bridge")?;
    network.ip("link set xenbr0 up")?;
    let mut wires = Vec::new();
    for number in [1, 2] {
        let guest = scene.guest()?;
        let mut line = nic(number);
        line.bridge = Some("xenbr0".into());
        let front = scene.connect_nic(&guest, &line, NetShape::LINUX)?;
        let peer = pv_tests::network::Peer::open(&network, "xenbr0")?;
        wires.push(Wire::new(front, peer, line.mac)?);
    }
    let [first, second] = &mut *wires else {
        anyhow::bail!("two wires");
    };
    pass(first, second, 1 << 40)?;
    pass(second, first, 2 << 40)?;
    scene.no_wrong_done()
}

/// One frame from guest to guest.
fn pass(from: &mut Wire, to: &mut Wire, number: u64) -> anyhow::Result<()> {
    use pv_tests::frontend::netfront::Packet;
    use pv_tests::frontend::netfront::frame::{Cut, number_of, numbered};
    let frame = numbered(to.mac, from.mac, number, 1000);
    let packet = Packet {
        bytes: &frame,
        cuts: &Cut::pages(frame.len()),
        flags: 0,
        extras: &[],
    };
    ensure!(from.answer(0, &packet)? == 0, "it is not sent");
    let got = to.next(0, |frame| number_of(&frame.bytes) == Some(number))?;
    ensure!(got.bytes == frame, "other bytes");
    Ok(())
}
