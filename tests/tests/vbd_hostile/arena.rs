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
use xenbus::State;

/// 16 MiB.
pub(crate) const SECTORS: usize = 32768;

/// Lines that a guest may cause in a minute, for a device and for its worker (O7).
pub(crate) const MOST_LINES: usize = 20;

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
        let descriptors = descriptors(&scene)?;
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
        self.workers_end(guest)?;
        self.scene.no_wrong_done()?;
        let log = self.scene.daemon()?.log_lines();
        let (vbd, domid) = (
            format!("vbd {}/", guest.domid()),
            format!("domid={}", guest.domid()),
        );
        let ours = |line: &&String| line.contains(&vbd) || ends_word(line, &domid);
        let lines: Vec<_> = log.iter().filter(ours).collect();
        ensure!(
            lines.len() <= MOST_LINES,
            "O7: {} lines: {lines:#?}",
            lines.len()
        );
        Ok(())
    }

    /// A guest's worker ends with the guest, and the daemon keeps nothing of it.
    pub(crate) fn workers_end(&self, guest: &Guest) -> anyhow::Result<()> {
        let deadline = Instant::now() + Duration::from_secs(5);
        loop {
            let workers = self.scene.daemon()?.workers(guest.domid());
            let now = descriptors(&self.scene)?;
            if workers.is_empty() && now <= self.descriptors {
                return Ok(());
            }
            ensure!(
                Instant::now() < deadline,
                "O4: workers {workers:?}, {now} descriptors instead of {}\n{}",
                self.descriptors,
                self.scene.told()
            );
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    pub(crate) fn close(self) -> anyhow::Result<()> {
        let told = self.scene.told();
        self.neighbour.finish().context(told)?;
        self.scene.no_wrong_done()
    }
}

pub(crate) fn ends_word(line: &str, word: &str) -> bool {
    line.match_indices(word)
        .any(|(at, _)| !line[at + word.len()..].starts_with(|c: char| c.is_ascii_digit()))
}

/// Open descriptors of the daemon.
pub(crate) fn descriptors(scene: &Scene) -> anyhow::Result<usize> {
    let pid = scene.daemon()?.pid().context("it has ended")?;
    Ok(std::fs::read_dir(format!("/proc/{pid}/fd"))?.count())
}

/// Closed by the backend: an error node, a closing state, nothing mapped (E1).
pub(crate) fn is_closed(arena: &mut Arena, guest: &Guest) -> anyhow::Result<()> {
    let toolstack = arena.scene.toolstack();
    let why = toolstack.wait_error(guest.domid(), XVDA)?;
    ensure!(!why.is_empty(), "the error node is empty");
    toolstack.wait_backend(guest.domid(), XVDA, &[State::Closing, State::Closed])?;
    arena.scene.wait_unmapped(guest.domid())
}
