//! What an interface can do besides passing frames: a limited rate, multicast that was asked for, a
//! headroom for XDP programs, hashes, guests that stop receiving, what a queue counts, and what an
//! administrator can withhold.

mod counting;
mod hashing;
mod headroom;
mod memory;
mod multicast;
mod rate;
mod stall;
mod withheld;

use pv_tests::frontend::netfront::{NetShape, Traffic, Wire};
use pv_tests::scene::{Guest, Scene};
use pv_tests::toolstack::NicLine;

/// A little traffic.
const SOME: Traffic = Traffic {
    out: 100,
    into: 100,
    ..Traffic::MIXED
};

/// A scene with one guest whose interface is connected.
struct Stage {
    scene: Scene,
    guest: Guest,
    nic: NicLine,
    wire: Wire,
}

impl Stage {
    fn set(nic: NicLine, shape: NetShape) -> anyhow::Result<Self> {
        Self::configured("max-queues = 4", nic, shape)
    }

    fn configured(config: &str, nic: NicLine, shape: NetShape) -> anyhow::Result<Self> {
        let mut scene = Scene::networked(config)?;
        let guest = scene.guest()?;
        let wire = scene.wire(&guest, &nic, shape)?;
        Ok(Self {
            scene,
            guest,
            nic,
            wire,
        })
    }

    fn plain(shape: NetShape) -> anyhow::Result<Self> {
        Self::set(nic(), shape)
    }

    /// Closes and detaches; nothing may be left, and nothing wrong may have been done.
    fn clear(mut self) -> anyhow::Result<()> {
        self.wire.front.close()?;
        self.scene.detach_nic(&self.guest, &self.nic)?;
        self.scene.wait_unmapped(self.guest.domid())?;
        self.scene.destroy(&self.guest)?;
        self.scene.no_wrong_done()
    }
}

fn nic() -> NicLine {
    NicLine::new(0, [0, 0x16, 0x3e, 0x01, 0x02, 0x03])
}
