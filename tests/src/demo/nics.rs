//! The demo's interfaces: frames through the real daemon and a real tap.
//!
//! They are in a network namespace of the demo's own. Where there can be none, or no tap, that is
//! said, and the rest of the demo does without.

use std::fs::OpenOptions;

use anyhow::Context;

use crate::frontend::netfront::frame::SHORTEST;
use crate::frontend::netfront::{NetShape, Netfront, Traffic, Wire};
use crate::network::Network;
use crate::scene::Scene;
use crate::toolstack::NicLine;

/// Frames each way.
const FRAMES: u64 = 20_000;

/// A guest of today with two processors, and an interface for long frames.
const SHAPE: NetShape = NetShape {
    queues: 2,
    ..NetShape::LINUX
};
const MTU: u16 = 9000;
const MAC: [u8; 6] = [0, 0x16, 0x3e, 0x01, 0x02, 0x03];

/// Passes verified frames both ways, and once more after the guest has reconnected.
///
/// # Errors
/// Anything that is not as it must be.
pub fn verify() -> anyhow::Result<()> {
    if let Err(why) = possible() {
        println!("no frames are passed: {why:#}");
        return Ok(());
    }
    println!("building and starting xen-netback in a network of its own ...");
    let mut scene = Scene::networked("max-queues = 2")?;
    let guest = scene.guest()?;
    let nic = NicLine::new(0, MAC).mtu(MTU);
    let mut wire = scene.wire(&guest, &nic, SHAPE)?;
    let traffic = Traffic {
        out: FRAMES,
        into: FRAMES,
        sizes: (SHORTEST, usize::from(MTU) + 14),
        most_slots: 4,
    };
    let passed = wire.run(&traffic).with_context(|| scene.told())?;
    println!(
        "verified: {FRAMES} frames of the guest, {FRAMES} for it, {} MiB",
        passed >> 20
    );
    let Wire { front, peer, .. } = wire;
    let mut device = front.close()?;
    device.start_over()?;
    let front = Netfront::connect(device, SHAPE)?;
    let mut wire = Wire::new(front, peer, MAC)?;
    let some = Traffic {
        out: FRAMES / 4,
        into: FRAMES / 4,
        ..traffic
    };
    wire.run(&some).with_context(|| scene.told())?;
    println!(
        "verified: {} frames after the guest reconnected",
        some.out + some.into
    );
    wire.front.close()?;
    scene.detach_nic(&guest, &nic)?;
    scene.destroy(&guest)?;
    scene.no_wrong_done()
}

/// Can there be a network of our own with a tap in it?
fn possible() -> anyhow::Result<()> {
    let tun = OpenOptions::new()
        .read(true)
        .write(true)
        .open("/dev/net/tun");
    tun.context("/dev/net/tun cannot be opened (modprobe tun; try as root)")?;
    Network::new().map(drop)
}
