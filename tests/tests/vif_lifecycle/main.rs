//! Interfaces come and go: attached, detached, taken from under a running guest; guests start over
//! and die; daemon and workers end.

mod daemons;
mod nics;
mod policies;
mod taps;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use anyhow::Context;
use pv_tests::frontend::netfront::{NetShape, Traffic, Wire};
use pv_tests::scene::{Guest, Scene};
use pv_tests::toolstack::NicLine;

/// A little traffic.
const SOME: Traffic = Traffic {
    out: 100,
    into: 100,
    ..Traffic::MIXED
};

/// The interface of the `number`th guest.
fn nic(number: u8) -> NicLine {
    NicLine::new(0, [0, 0x16, 0x3e, 0, 0, number])
}

/// A guest with a connected interface.
struct Nic {
    guest: Guest,
    wire: Wire,
    line: NicLine,
}

impl Nic {
    fn connect(scene: &mut Scene, number: u8, shape: NetShape) -> anyhow::Result<Self> {
        let guest = scene.guest()?;
        let line = nic(number);
        let wire = scene.wire(&guest, &line, shape)?;
        Ok(Self { guest, wire, line })
    }

    fn use_it(&mut self) -> anyhow::Result<()> {
        self.wire.run(&SOME).map(drop)
    }

    fn interface(&self) -> String {
        self.line.interface(self.guest.domid())
    }

    fn detach(self, scene: &mut Scene) -> anyhow::Result<()> {
        let (domid, interface) = (self.guest.domid(), self.interface());
        let device = self.line.device();
        scene.toolstack().ask_to_close(domid, device, false)?;
        self.wire.front.follow_closing()?;
        scene.detach_nic(&self.guest, &self.line)?;
        scene.wait_unmapped(domid)?;
        scene.wait_no_interface(&interface)
    }

    /// Fills both directions, and waits for nothing.
    fn fill(&mut self) -> anyhow::Result<()> {
        self.wire.fill()
    }
}

/// An interface under traffic in a thread of its own, until it is told to stop.
struct Busy {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<anyhow::Result<(Nic, u64)>>,
}

impl Busy {
    fn start(mut nic: Nic) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let seen = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            let mut frames = 0;
            while !seen.load(Ordering::Relaxed) {
                nic.wire.run(&SOME).context("the busy guest")?;
                frames += SOME.out + SOME.into;
            }
            Ok((nic, frames))
        });
        Self { stop, thread }
    }

    /// Ends the traffic; it must have gone well until then.
    fn finish(self) -> anyhow::Result<(Nic, u64)> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().expect("the traffic does not panic")
    }
}
