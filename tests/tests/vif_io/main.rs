//! Verified frames both ways between a scripted guest and the host's network, through the real
//! daemon and a real tap, for every shape of a connection.

use anyhow::Context;
use pv_tests::frontend::netfront::{NetShape, Traffic};
use pv_tests::scene::Scene;
use pv_tests::toolstack::NicLine;

/// The guest's address.
const MAC: [u8; 6] = [0x00, 0x16, 0x3e, 0x01, 0x02, 0x03];

/// Connects, passes frames, closes, detaches; nothing may be left.
fn passes(nic: &NicLine, shapes: &[NetShape], traffic: &Traffic) -> anyhow::Result<()> {
    let mut scene = Scene::networked("max-queues = 4")?;
    for shape in shapes {
        let step = pass(&mut scene, nic, *shape, traffic);
        step.with_context(|| format!("{shape}\n{}", scene.told()))?;
    }
    scene.no_wrong_done()
}

fn pass(
    scene: &mut Scene,
    nic: &NicLine,
    shape: NetShape,
    traffic: &Traffic,
) -> anyhow::Result<()> {
    let guest = scene.guest()?;
    let mut wire = scene.wire(&guest, nic, shape)?;
    wire.run(traffic)?;
    wire.front.close()?;
    scene.detach_nic(&guest, nic)?;
    scene.wait_unmapped(guest.domid())?;
    scene.destroy(&guest)
}

#[test]
fn the_most_and_the_least_that_a_frontend_can_be() -> anyhow::Result<()> {
    let traffic = Traffic {
        most_slots: 4,
        ..Traffic::MIXED
    };
    let nic = NicLine::new(0, MAC);
    passes(&nic, &[NetShape::LINUX, NetShape::LEAST], &traffic)
}
