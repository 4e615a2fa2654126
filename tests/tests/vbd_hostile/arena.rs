//! Where hostile guests are let loose: a scene with a good guest in it, and what must hold.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use pv_tests::frontend::Device;
use pv_tests::frontend::{Load, Model, Plan, Shape};
use pv_tests::scene::{Guest, Scene, check_image};
use pv_tests::toolstack::{DiskLine, XVDA};

/// 16 MiB.
pub(crate) const SECTORS: usize = 32768;

/// A guest that does nothing wrong, under verified load until it is told to stop.
pub(crate) struct Neighbour {
    stop: Arc<AtomicBool>,
    requests: Arc<AtomicU64>,
    thread: JoinHandle<anyhow::Result<()>>,
}

impl Neighbour {
    pub(crate) fn start(scene: &mut Scene) -> anyhow::Result<Self> {
        let mut model = Model::filled(77, SECTORS);
        let image = scene.image("neighbour.img", &model)?;
        let guest = scene.guest()?;
        let mut front = scene.connect(&guest, &DiskLine::image(XVDA, &image), Shape::LINUX)?;
        let (stop, requests) = (
            Arc::new(AtomicBool::new(false)),
            Arc::new(AtomicU64::new(0)),
        );
        let (told, count) = (Arc::clone(&stop), Arc::clone(&requests));
        let thread = std::thread::spawn(move || {
            let plan = Plan {
                depth: 4,
                ..Plan::MIXED
            };
            while !told.load(Ordering::Relaxed) {
                let tally = Load::new(&mut front, &mut model, plan).run(50)?;
                count.fetch_add(tally.requests(), Ordering::Relaxed);
            }
            front.close()?;
            check_image(&image, &model)
        });
        Ok(Self {
            stop,
            requests,
            thread,
        })
    }

    /// It has gone on since `before`, or does so soon.
    pub(crate) fn goes_on(&self, before: u64) -> anyhow::Result<()> {
        let deadline = Instant::now() + Duration::from_secs(10);
        while self.requests() <= before + 50 {
            ensure!(Instant::now() < deadline, "the neighbour is stuck");
            ensure!(!self.thread.is_finished(), "the neighbour has failed");
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }

    pub(crate) fn requests(&self) -> u64 {
        self.requests.load(Ordering::Relaxed)
    }

    pub(crate) fn finish(self) -> anyhow::Result<()> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().expect("the neighbour does not panic")
    }
}

/// A scene with a neighbour, for guests that come and misbehave.
pub(crate) struct Arena {
    pub(crate) scene: Scene,
    pub(crate) neighbour: Neighbour,
    pub(crate) descriptors: usize,
    pub(crate) played: u32,
}

impl Arena {
    pub(crate) fn open() -> anyhow::Result<Self> {
        let mut scene = Scene::start("max-queues = 4")?;
        let neighbour = Neighbour::start(&mut scene)?;
        neighbour.goes_on(0)?;
        let descriptors = scene.descriptors()?;
        Ok(Self {
            scene,
            neighbour,
            descriptors,
            played: 0,
        })
    }

    /// A new guest with a disk that nobody has connected to yet.
    pub(crate) fn newcomer(
        &mut self,
        read_only: bool,
    ) -> anyhow::Result<(Guest, Device, Model, DiskLine)> {
        self.played += 1;
        let model = Model::filled(u64::from(self.played), SECTORS);
        let image = self.scene.image(&format!("{}.img", self.played), &model)?;
        let guest = self.scene.guest()?;
        let mut line = DiskLine::image(XVDA, &image);
        line.read_only = read_only;
        let device = self.scene.attach(&guest, &line)?;
        Ok((guest, device, model, line))
    }

    /// Destroys the guest and looks at everything that must hold afterwards.
    pub(crate) fn clear(&mut self, guest: &Guest, before: u64) -> anyhow::Result<()> {
        self.neighbour.goes_on(before)?;
        self.scene.destroy(guest)?;
        self.scene.wait_left(guest, self.descriptors)?;
        self.scene.no_wrong_done()?;
        self.scene.has_few_lines(guest, "vbd")
    }

    pub(crate) fn close(self) -> anyhow::Result<()> {
        let told = self.scene.told();
        self.neighbour.finish().context(told)?;
        self.scene.no_wrong_done()
    }
}
