//! Multicast that a guest has asked for, and none besides.
//!
//! That something was kept from a guest shows when what was sent behind it has come.

use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use pv_tests::frontend::netfront::frame::{Cut, number_of, numbered};
use pv_tests::frontend::netfront::wire::HOST;
use pv_tests::frontend::netfront::{NetShape, Packet, Wire};
use ring_proto::netif::Extra;

use super::{SOME, Stage};

const GROUP: [u8; 6] = [1, 0, 0x5e, 0, 0, 251];
const OTHER: [u8; 6] = [0x33, 0x33, 0, 0, 0, 1];
const EVERYBODY: [u8; 6] = [0xff; 6];

const CONTROLS: NetShape = NetShape {
    multicast_control: true,
    ..NetShape::LINUX
};

/// Which of these the guest hears. All are sent, and behind them one for the guest itself.
fn hears(wire: &mut Wire, addresses: &[[u8; 6]]) -> anyhow::Result<Vec<[u8; 6]>> {
    let base = 1 << 41;
    for (at, &address) in (0_u64..).zip(addresses) {
        let frame = numbered(address, HOST, base + at, 200);
        wire.peer.send(&frame)?;
    }
    let last = base + 1000;
    wire.peer.send(&numbered(wire.mac, HOST, last, 200))?;
    let mut heard = Vec::new();
    loop {
        let frame = wire.next(0, |frame| number_of(&frame.bytes) >= Some(base))?;
        let number = number_of(&frame.bytes).context("no number")?;
        if number == last {
            return Ok(heard);
        }
        let address = addresses.get(usize::try_from(number - base)?);
        let address = *address.context("a frame from nowhere")?;
        ensure!(frame.bytes == numbered(address, HOST, number, 200));
        heard.push(address);
    }
}

/// Changes the list with a packet that is none.
fn edit(wire: &mut Wire, kind: u8, address: [u8; 6]) -> anyhow::Result<()> {
    let bytes = [0; 60];
    let packet = Packet {
        bytes: &bytes,
        cuts: &Cut::pages(60),
        flags: 0,
        extras: &[Extra::new(kind, address)],
    };
    let status = wire.answer(0, &packet)?;
    ensure!(status == 0, "status {status}");
    ensure!(
        wire.peer.take()?.is_none(),
        "a change of the list got to the other end"
    );
    Ok(())
}

#[test]
fn without_control_a_guest_hears_everything() -> anyhow::Result<()> {
    let mut stage = Stage::plain(NetShape::LINUX)?;
    let all = [GROUP, OTHER, EVERYBODY];
    ensure!(hears(&mut stage.wire, &all)? == all);
    stage.clear()
}

#[test]
fn with_control_a_guest_hears_what_it_has_joined_and_what_is_for_everybody() -> anyhow::Result<()> {
    let mut stage = Stage::plain(CONTROLS)?;
    let wire = &mut stage.wire;
    let all = [GROUP, OTHER, EVERYBODY];
    ensure!(hears(wire, &all)? == [EVERYBODY]);
    edit(wire, Extra::MULTICAST_ADD, GROUP)?;
    ensure!(hears(wire, &all)? == [GROUP, EVERYBODY]);
    edit(wire, Extra::MULTICAST_ADD, OTHER)?;
    ensure!(hears(wire, &all)? == all);
    edit(wire, Extra::MULTICAST_DEL, GROUP)?;
    ensure!(hears(wire, &all)? == [OTHER, EVERYBODY]);
    wire.run(&SOME)?;
    stage.clear()
}

#[test]
fn net_21_a_guest_hears_no_more_groups_than_it_may_join() -> anyhow::Result<()> {
    let mut stage = Stage::plain(CONTROLS)?;
    let groups: Vec<[u8; 6]> = (0..64).map(|number| [1, 0, 0x5e, 0, 1, number]).collect();
    for &group in &groups {
        edit(&mut stage.wire, Extra::MULTICAST_ADD, group)?;
    }
    ensure!(hears(&mut stage.wire, &groups)? == groups);
    ensure!(hears(&mut stage.wire, &[GROUP, OTHER])?.is_empty());
    stage.clear()
}

fn ask(stage: &mut Stage, on: bool) -> anyhow::Result<()> {
    let device = stage.wire.front.device();
    let path = format!("{}/request-multicast-control", device.frontend());
    device.store().write(&path, u8::from(on).to_string())?;
    Ok(())
}

/// Nobody says when the backend has heard of it, so frames are sent until it has.
fn until_hears(wire: &mut Wire, expected: &[[u8; 6]]) -> anyhow::Result<()> {
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        let heard = hears(wire, &[GROUP, OTHER, EVERYBODY])?;
        if heard == expected {
            return Ok(());
        }
        ensure!(Instant::now() < deadline, "it hears {heard:x?}");
    }
}

#[test]
fn control_is_taken_up_and_given_up_while_connected() -> anyhow::Result<()> {
    let mut stage = Stage::plain(NetShape::LINUX)?;
    ensure!(
        stage.wire.front.offered().dynamic_multicast_control,
        "it is not offered"
    );
    // The list may be changed while nothing is kept from the guest.
    edit(&mut stage.wire, Extra::MULTICAST_ADD, OTHER)?;
    for _ in 0..3 {
        ask(&mut stage, true)?;
        until_hears(&mut stage.wire, &[OTHER, EVERYBODY])?;
        ask(&mut stage, false)?;
        until_hears(&mut stage.wire, &[GROUP, OTHER, EVERYBODY])?;
    }
    stage.clear()
}

/// A guest that connects anew has joined nothing.
#[test]
fn a_new_connection_starts_with_an_empty_list() -> anyhow::Result<()> {
    let mut stage = Stage::plain(CONTROLS)?;
    edit(&mut stage.wire, Extra::MULTICAST_ADD, GROUP)?;
    let Wire { front, peer, .. } = stage.wire;
    let mut device = front.close()?;
    device.start_over()?;
    let front = pv_tests::frontend::netfront::Netfront::connect(device, CONTROLS)?;
    stage.wire = Wire::new(front, peer, stage.nic.mac)?;
    ensure!(hears(&mut stage.wire, &[GROUP, EVERYBODY])? == [EVERYBODY]);
    stage.clear()
}
