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
        ensure!(stage.wire.front.offered().headroom, "it is not offered");
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

/// As Linux does when a program comes and goes: Reconfiguring, Reconfigured, Connected. A guest that
/// has seen Reconfigured gets no frame without the new headroom: it may have given up the old one.
#[test]
fn a_headroom_that_comes_and_goes_under_traffic() -> anyhow::Result<()> {
    let mut stage = Stage::plain(NetShape::LINUX)?;
    stage.wire.run(&SOME)?;
    for headroom in [XDP, 0, 2048, 64, 64, 0, XDP, 0, XDP] {
        stage.wire.front.reconfigure(headroom)?;
        stage.wire.front.settle_headroom();
        let expected = (headroom > 0).then_some(headroom);
        ensure!(said(&mut stage.wire)? == expected, "not {expected:?}");
        stage.wire.run(&SOME)?;
    }
    stage.clear()
}
