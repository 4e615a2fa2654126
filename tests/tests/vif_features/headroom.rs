//! A headroom in front of received frames, for the guest's XDP programs.
//!
//! That each frame is where it has to be, and nothing of the buffer is touched besides, is checked by
//! the frontend for every one.

use anyhow::ensure;
use pv_tests::frontend::netfront::frame::{number_of, numbered};
use pv_tests::frontend::netfront::wire::HOST;
use pv_tests::frontend::netfront::{NetShape, Traffic, Wire};

use super::{SOME, Stage, nic};

/// What Linux asks for.
const XDP: u16 = 256;

#[test]
fn a_headroom_from_the_start() -> anyhow::Result<()> {
    for headroom in [1, XDP, 2048] {
        let shape = NetShape {
            headroom,
            ..NetShape::LINUX
        };
        let mut stage = Stage::set(nic().mtu(9000), shape)?;
        stage.wire.run(&Traffic {
            sizes: (60, 9014),
            ..SOME
        })?;
        ensure!(said(&mut stage.wire)? == Some(headroom));
        stage.clear()?;
    }
    Ok(())
}

/// The headroom that comes with a frame.
fn said(wire: &mut Wire) -> anyhow::Result<Option<u16>> {
    let number = 1 << 42;
    wire.peer.send(&numbered(wire.mac, HOST, number, 100))?;
    let frame = wire.next(0, |frame| number_of(&frame.bytes) == Some(number))?;
    Ok(frame.headroom)
}

/// As Linux does when a program comes and goes: Reconfiguring, Reconfigured, Connected.
#[test]
fn a_headroom_that_comes_and_goes_under_traffic() -> anyhow::Result<()> {
    let mut stage = Stage::plain(NetShape::LINUX)?;
    stage.wire.run(&SOME)?;
    for headroom in [XDP, 0, 2048, 64, 0] {
        stage.wire.front.reconfigure(headroom)?;
        until_said(&mut stage.wire, headroom)?;
        stage.wire.front.settle_headroom();
        stage.wire.run(&SOME)?;
    }
    stage.clear()
}

/// The worker may hear of it a moment after the guest was told.
fn until_said(wire: &mut Wire, headroom: u16) -> anyhow::Result<()> {
    let expected = (headroom > 0).then_some(headroom);
    for _ in 0..10_000 {
        if said(wire)? == expected {
            return Ok(());
        }
    }
    anyhow::bail!("frames come without the headroom of {headroom}")
}
