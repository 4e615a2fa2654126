//! Which interfaces are whose: names that are taken, and what earlier daemons have left.

use anyhow::{Context, ensure};
use pv_tests::frontend::Device;
use pv_tests::frontend::netfront::{NetShape, Netfront, Wire};
use pv_tests::scene::{Guest, Scene};
use pv_tests::toolstack::{NicLine, backend_path};
use xenbus::State;

use super::{Nic, SOME, nic};

/// A guest ends while no daemon runs, and its devices are removed.
fn ends_unseen(scene: &mut Scene, guest: &Guest, line: &NicLine) -> anyhow::Result<()> {
    guest.domain.destroy()?;
    scene.machine().xenstored()?.release(guest.domid())?;
    let backend = backend_path(guest.domid(), line.device());
    scene.toolstack().store().remove(&backend)?;
    scene.toolstack().forget_domain(guest.domid())
}

/// An interface is attached and its guest has not connected yet.
fn attached(scene: &mut Scene, number: u8) -> anyhow::Result<(Guest, NicLine, Device)> {
    let guest = scene.guest()?;
    let line = nic(number);
    let device = scene.attach_nic(&guest, &line)?;
    Ok((guest, line, device))
}

/// Those of guests that are gone, and no others: neither of guests that are served or wait to be, nor
/// what other programs have made under such a name.
#[test]
fn a_new_daemon_removes_what_guests_that_are_gone_have_left_and_nothing_else() -> anyhow::Result<()>
{
    let mut scene = Scene::networked("")?;
    let network = scene.network()?.clone();
    network.ip("link add vif99.0 type bridge")?;
    network.ip("tuntap add dev vif98.0 mode tap")?;
    let mut served = Nic::connect(&mut scene, 1, NetShape::LINUX)?;
    let (waiting, line, device) = attached(&mut scene, 2)?;
    let gone = Nic::connect(&mut scene, 3, NetShape::LINUX)?;
    let mut named = nic(4);
    named.name = Some("gone-too".into());
    let guest = scene.guest()?;
    let named_wire = scene.wire(&guest, &named, NetShape::LINUX)?;
    let orphans = scene.take_daemon()?.kill()?;
    drop(named_wire.front.vanish());
    ends_unseen(&mut scene, &gone.guest, &gone.line)?;
    ends_unseen(&mut scene, &guest, &named)?;
    for left in [&gone.interface(), "gone-too"] {
        ensure!(network.has(left)?, "{left} did not outlive them");
    }
    scene.start_daemon()?;
    scene.wait_no_interface(&gone.interface())?;
    scene.wait_no_interface("gone-too")?;
    scene.wait_buried(gone.guest.domid())?;
    scene.wait_buried(guest.domid())?;
    for kept in ["vif99.0", "vif98.0", &served.interface()] {
        ensure!(network.has(kept)?, "{kept} was removed\n{}", scene.told());
    }
    // One that is not served has no carrier before its guest connects.
    let domid = waiting.domid();
    let interface = line.interface(domid);
    scene.wait_carrier(&interface, false)?;
    let front = Netfront::connect(device, NetShape::LINUX).with_context(|| scene.told())?;
    scene.wait_carrier(&interface, true)?;
    let mut wire = Wire::new(front, scene.peer(&waiting, &line)?, line.mac)?;
    wire.run(&SOME)?;
    served.use_it()?;
    drop(orphans);
    scene.no_wrong_done()
}

/// The keys are written and the daemon refuses the interface; what it says.
fn refusal(scene: &mut Scene, guest: &Guest, line: &NicLine) -> anyhow::Result<String> {
    let (domid, device) = (guest.domid(), line.device());
    scene.toolstack().write_nic_keys(domid, line)?;
    let ready = [State::InitWait];
    scene.toolstack().wait_backend(domid, device, &ready)?;
    let why = scene.toolstack().wait_error(domid, device)?;
    // And for the hotplug script, which passes it on to whoever runs xl.
    let passed = backend_path(domid, device) + "/xen-backends-error";
    let passed = scene.toolstack().store().read(&passed)?.unwrap_or_default();
    let passed = String::from_utf8(passed)?;
    ensure!(
        !passed.is_empty() && why.contains(&passed),
        "{passed:?} and {why:?}"
    );
    scene.toolstack().ask_to_close(domid, device, true)?;
    scene.toolstack().finish_removal(domid, device)?;
    Ok(why)
}

#[test]
fn net_25_a_name_that_something_else_has_is_refused() -> anyhow::Result<()> {
    let mut scene = Scene::networked("")?;
    let network = scene.network()?.clone();
    let mut other = Nic::connect(&mut scene, 2, NetShape::LINUX)?;
    network.ip("link add my-bridge type bridge")?;
    network.ip("tuntap add dev my-tap mode tap multi_queue vnet_hdr")?;
    let guest = scene.guest()?;
    let mut line = nic(1);
    for name in ["my-bridge", "my-tap", "lo", &other.interface()] {
        line.name = Some(name.to_owned());
        let why = refusal(&mut scene, &guest, &line).with_context(|| scene.told())?;
        let remedy = format!("interface {name} exists already");
        ensure!(
            why.contains(&remedy) && why.contains("another vifname"),
            "{why}"
        );
        ensure!(network.has(name)?, "{name} was removed");
        let made = format!("vif{}.0", guest.domid());
        ensure!(!network.has(&made)?, "a tap is left behind");
    }
    other.use_it()?;
    // Once it is free, it can be had.
    network.ip("link del my-bridge")?;
    line.name = Some("my-bridge".into());
    let mut wire = scene.wire(&guest, &line, NetShape::LINUX)?;
    wire.run(&SOME)?;
    scene.no_wrong_done()
}

#[test]
fn a_handle_that_is_not_the_number_of_its_directory_is_refused() -> anyhow::Result<()> {
    let mut scene = Scene::networked("")?;
    let guest = scene.guest()?;
    let mut line = nic(1);
    line.said_handle = Some(5);
    let why = refusal(&mut scene, &guest, &line).with_context(|| scene.told())?;
    let remedy = "handle = \"5\" is not the number of its directory: write 0";
    ensure!(why.contains(remedy), "{why}");
    line.said_handle = None;
    let mut wire = scene.wire(&guest, &line, NetShape::LINUX)?;
    wire.run(&SOME)?;
    scene.no_wrong_done()
}

/// A guest gets an interface on the bridges that rules give it, and on others none at all: there is
/// nothing that a hotplug script could put into a bridge.
#[test]
fn rules_decide_which_guest_gets_on_which_bridge() -> anyhow::Result<()> {
    let mut scene = Scene::networked(
        "acl-default = \"deny\"\n\n\
         [[acl]]\nbridges = \"mgmt*\"\ndeny = true\n\n\
         [[acl]]\ndomain = \"web-*\"\nbridges = \"xenbr?\"\n",
    )?;
    let network = scene.network()?.clone();
    for bridge in ["xenbr0", "mgmt0"] {
        network.ip(&format!("link add {bridge} type bridge"))?;
        network.ip(&format!("link set {bridge} up"))?;
    }
    let on = |number: u8, handle: u32, bridge: Option<&str>| {
        let mut line = nic(number);
        line.handle = handle;
        line.bridge = bridge.map(Into::into);
        line
    };
    let (web, other) = (scene.guest()?, scene.guest()?);
    scene.rename(&web, "web-1")?;
    let line = on(1, 0, Some("xenbr0"));
    let front = scene.connect_nic(&web, &line, NetShape::LINUX)?;
    let peer = pv_tests::network::Peer::open(&network, "xenbr0")?;
    let mut wire = Wire::new(front, peer, line.mac)?;
    for (guest, line, told) in [
        (&web, on(2, 1, Some("mgmt0")), "netback.toml:3 denies guest"),
        (&web, on(3, 2, None), "but no bridge is named"),
        (
            &other,
            on(4, 0, Some("xenbr0")),
            "and no [[acl]] rule there",
        ),
    ] {
        let why = refusal(&mut scene, guest, &line).with_context(|| scene.told())?;
        ensure!(why.contains(told), "{why}");
        ensure!(!network.has(&line.interface(guest.domid()))?, "{told}");
        wire.run(&SOME)?;
    }
    scene.no_wrong_done()
}

/// Whoever served it last: an interface goes when its guest's device does.
#[test]
fn the_interface_of_a_guest_that_an_earlier_daemon_has_served_goes_with_it() -> anyhow::Result<()> {
    for name in [None, Some("web-front")] {
        for detached in [false, true] {
            let mut scene = Scene::networked("")?;
            let guest = scene.guest()?;
            let mut line = nic(1);
            line.name = name.map(str::to_owned);
            let wire = scene.wire(&guest, &line, NetShape::LINUX)?;
            let interface = line.interface(guest.domid());
            let orphans = scene.take_daemon()?.stop()?;
            scene.start_daemon()?;
            ensure!(scene.network()?.has(&interface)?, "it is gone at once");
            if detached {
                let (domid, device) = (guest.domid(), line.device());
                scene.toolstack().ask_to_close(domid, device, false)?;
                wire.front
                    .follow_closing_after(|| scene.wait_unmapped(domid))?;
                scene.detach_nic(&guest, &line)?;
            } else {
                let _given_up = wire.front.vanish();
                scene.destroy(&guest)?;
            }
            let step = scene.wait_no_interface(&interface);
            step.with_context(|| format!("{name:?}, detached {detached}"))?;
            drop(orphans);
            // The name can be used again.
            let other = scene.guest()?;
            let mut wire = scene.wire(&other, &line, NetShape::LINUX)?;
            wire.run(&SOME)?;
            scene.no_wrong_done()?;
        }
    }
    Ok(())
}

/// Whose an interface is stands in its alias, whatever its name.
#[test]
fn an_interface_says_whose_it_is() -> anyhow::Result<()> {
    let mut scene = Scene::networked("")?;
    let guest = scene.guest()?;
    let mut line = nic(1);
    line.name = Some("web-front".into());
    let mut wire = scene.wire(&guest, &line, NetShape::LINUX)?;
    let shown = scene.network()?.ip("link show web-front")?;
    let alias = format!("alias xen-netback:{}.0", guest.domid());
    ensure!(shown.contains(&alias), "{shown}");
    wire.run(&SOME)?;
    scene.no_wrong_done()
}

#[test]
fn an_interface_that_an_administrator_deletes_is_closed_and_can_be_had_again() -> anyhow::Result<()>
{
    let mut scene = Scene::networked("")?;
    let nic = Nic::connect(&mut scene, 1, NetShape::LINUX)?;
    let (interface, device) = (nic.interface(), nic.line.device());
    let Nic { guest, wire, line } = nic;
    scene.network()?.ip(&format!("link delete {interface}"))?;
    let why = scene.toolstack().wait_error(guest.domid(), device)?;
    ensure!(why.contains("detach the interface and attach it"), "{why}");
    let _given_up = wire.front.vanish();
    let domid = guest.domid();
    scene.toolstack().ask_to_close(domid, device, true)?;
    scene.toolstack().finish_removal(domid, device)?;
    let mut wire = scene.wire(&guest, &line, NetShape::LINUX)?;
    wire.run(&SOME)?;
    ensure!(!scene.told().contains("left behind"), "{}", scene.told());
    scene.no_wrong_done()
}
