//! Disks come and go: attached, detached, taken from under a running guest; guests start over and
//! die; daemon and workers end.

mod daemons;
mod disks;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use pv_tests::frontend::{Blkfront, Load, Model, Plan, Shape};
use pv_tests::scene::{Guest, Scene, check_image};
use pv_tests::toolstack::{DiskLine, XVDA};

/// 16 MiB.
const SECTORS: usize = 32768;

/// A guest with a connected disk.
struct Disk {
    guest: Guest,
    front: Blkfront,
    model: Model,
    line: DiskLine,
}

impl Disk {
    fn connect(scene: &mut Scene, seed: u64, shape: Shape) -> anyhow::Result<Self> {
        let model = Model::filled(seed, SECTORS);
        let image = scene.image(&format!("{seed}.img"), &model)?;
        let guest = scene.guest()?;
        let line = DiskLine::image(XVDA, &image);
        let front = scene.connect(&guest, &line, shape)?;
        Ok(Self {
            guest,
            front,
            model,
            line,
        })
    }

    fn use_it(&mut self, requests: usize) -> anyhow::Result<()> {
        let mut load = Load::new(&mut self.front, &mut self.model, Plan::MIXED);
        load.run(requests).map(drop)
    }

    fn detach(self, scene: &mut Scene) -> anyhow::Result<()> {
        let domid = self.guest.domid();
        scene.toolstack().ask_to_close(domid, XVDA, false)?;
        self.front.follow_closing()?;
        scene.toolstack().finish_removal(domid, XVDA)?;
        scene.wait_unmapped(domid)?;
        check_image(&self.line.target, &self.model)
    }
}

/// A disk under load in a thread of its own, until it is told to stop.
struct Busy {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<anyhow::Result<(Disk, u64)>>,
}

impl Busy {
    fn start(mut disk: Disk) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let seen = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            let mut load = Load::new(&mut disk.front, &mut disk.model, Plan::MIXED);
            let tally = load.run_until(|| seen.load(Ordering::Relaxed))?;
            Ok((disk, tally.requests()))
        });
        Self { stop, thread }
    }

    /// Ends the load; it must have gone well until then.
    fn finish(self) -> anyhow::Result<(Disk, u64)> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().expect("the load does not panic")
    }
}
