//! NET-12: guests that stop receiving (XSA-392).

use std::time::Duration;

use anyhow::{Context, ensure};
use pv_tests::frontend::netfront::frame::filler;
use pv_tests::frontend::netfront::wire::HOST;
use pv_tests::frontend::netfront::{NetShape, Traffic, Wire};
use pv_tests::scene::{Guest, Scene};
use pv_tests::toolstack::NicLine;

use super::hashing::{ALL, FLOWS, hash_by};
use super::memory::private;
use super::{SOME, Stage};

/// The backend waits ten seconds; a slow machine adds some.
const SOON: Duration = Duration::from_secs(40);

/// What a worker may need more than before, in bytes.
const GROWN: u64 = 4 << 20;

/// A guest that stops receiving.
struct Idle {
    what: &'static str,
    guest: Guest,
    nic: NicLine,
    wire: Wire,
    /// Bytes of memory that its worker had for itself.
    before: u64,
}

impl Idle {
    /// Connects, uses up the buffers but for `left` in each queue, and has more come than any queue
    /// holds.
    fn start(
        scene: &mut Scene,
        what: &'static str,
        shape: NetShape,
        left: u32,
    ) -> anyhow::Result<Self> {
        let guest = scene.guest()?;
        let nic = super::nic();
        let wire = scene.wire(&guest, &nic, shape)?;
        let mut idle = Self {
            what,
            guest,
            nic,
            wire,
            before: 0,
        };
        idle.wire.run(&SOME)?;
        idle.before = private(scene, &idle.guest)?;
        for queue in idle.wire.front.queues() {
            queue.rx.keep_posted(left);
        }
        idle.flood();
        Ok(idle)
    }

    fn interface(&self) -> String {
        self.nic.interface(self.guest.domid())
    }

    fn flood(&self) {
        let frame = filler(self.wire.mac, HOST, 1514);
        for _ in 0..5000 {
            // A full queue refuses some.
            let _refused = self.wire.peer.send(&frame);
        }
    }

    /// It loses its carrier, and nobody's memory fills up; but it may transmit.
    fn stalls(&mut self, scene: &Scene) -> anyhow::Result<()> {
        scene.wait_carrier_within(&self.interface(), false, SOON)?;
        self.flood();
        let grown = private(scene, &self.guest)?.saturating_sub(self.before);
        ensure!(grown < GROWN, "the worker has grown by {grown} bytes");
        self.wire.run(&Traffic { into: 0, ..SOME }).map(drop)
    }

    /// Once it receives again, all is as before.
    fn recovers(&mut self, scene: &mut Scene) -> anyhow::Result<()> {
        for queue in self.wire.front.queues() {
            queue.rx.keep_posted(256);
            while queue.rx.take()?.is_some() {}
            queue.rx.fill()?;
            queue.publish()?;
        }
        scene.wait_carrier_within(&self.interface(), true, SOON)?;
        self.wire.settle()?;
        self.wire.run(&SOME)?;
        scene.destroy(&self.guest)
    }
}

#[test]
fn net_12_guests_that_stop_receiving() -> anyhow::Result<()> {
    let mut scene = Scene::networked("max-queues = 2")?;
    let untold = NetShape {
        rx_notify: false,
        ..NetShape::LINUX
    };
    let two = NetShape {
        queues: 2,
        ..NetShape::LINUX
    };
    let mut guests = Vec::new();
    for (what, shape, left) in [
        ("no buffer", NetShape::LINUX, 0),
        ("one buffer for ever", NetShape::LINUX, 1),
        (
            "one less than the longest frame may take",
            NetShape::LINUX,
            17,
        ),
        (
            "no buffer, and a guest that does not tell of them",
            untold,
            0,
        ),
        ("no buffer in two queues", two, 0),
    ] {
        let guest = Idle::start(&mut scene, what, shape, left);
        guests.push(guest.with_context(|| what)?);
    }
    for guest in &mut guests {
        let step = guest.stalls(&scene);
        step.with_context(|| format!("{}\n{}", guest.what, scene.told()))?;
    }
    for guest in &mut guests {
        let step = guest.recovers(&mut scene);
        step.with_context(|| format!("{}\n{}", guest.what, scene.told()))?;
    }
    scene.no_wrong_done()
}

/// A guest that has enough buffers for the longest frame, and hardly more, is not taken for one that
/// does not receive.
#[test]
fn net_12_a_guest_that_receives_slowly_keeps_its_carrier() -> anyhow::Result<()> {
    let mut stage = Stage::plain(NetShape {
        buffers: 20,
        ..NetShape::LINUX
    })?;
    stage.wire.run(&Traffic { into: 2000, ..SOME })?;
    stage
        .scene
        .wait_carrier(&stage.nic.interface(stage.guest.domid()), true)?;
    stage.clear()
}

/// A queue that gets frames only from another one, of a guest that does not tell of buffers: when they
/// were thrown away nothing waits, and it is looked at all the same.
#[test]
fn net_12_a_queue_that_is_handed_frames_finds_buffers_that_nobody_tells_of() -> anyhow::Result<()> {
    let mut stage = Stage::plain(NetShape {
        queues: 2,
        control: true,
        rx_notify: false,
        ..NetShape::LINUX
    })?;
    let interface = stage.nic.interface(stage.guest.domid());
    let wire = &mut stage.wire;
    hash_by(wire, ALL, &[1])?;
    let flow = &FLOWS[0];
    flow.answered_on(wire, 0)?;
    wire.front.queues()[1].rx.keep_posted(0);
    for seq in 0..1000 {
        // A full queue refuses some.
        let _refused = wire.peer.send(&flow.frame(wire.mac, seq));
    }
    stage.scene.wait_carrier_within(&interface, false, SOON)?;
    let queue = &mut wire.front.queues()[1];
    queue.rx.keep_posted(256);
    while queue.rx.take()?.is_some() {}
    queue.rx.fill()?;
    queue.publish()?;
    stage.scene.wait_carrier_within(&interface, true, SOON)?;
    wire.settle()?;
    wire.run(&Traffic { into: 0, ..SOME })?;
    wire.run(&Traffic { out: 0, ..SOME })?;
    stage.clear()
}
