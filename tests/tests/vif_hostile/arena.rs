//! Where hostile guests are let loose: a scene with a good guest in it, and what must hold.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use pv_tests::frontend::Device;
use pv_tests::frontend::hostile::nics::NetAttacker;
use pv_tests::frontend::netfront::{NetShape, Traffic, Wire};
use pv_tests::scene::{Guest, Scene};
use pv_tests::toolstack::NicLine;

/// What the neighbour sends and receives at a time.
const SOME: Traffic = Traffic {
    out: 50,
    into: 50,
    ..Traffic::MIXED
};

/// How long it does something else then.
const PAUSE: Duration = Duration::from_millis(5);

/// A guest that does nothing wrong, under verified traffic until it is told to stop.
struct Neighbour {
    stop: Arc<AtomicBool>,
    frames: Arc<AtomicU64>,
    thread: JoinHandle<anyhow::Result<()>>,
}

impl Neighbour {
    fn start(scene: &mut Scene) -> anyhow::Result<Self> {
        let guest = scene.guest()?;
        let line = NicLine::new(0, [0, 0x16, 0x3e, 0, 0, 200]);
        let mut wire = scene.wire(&guest, &line, NetShape::LINUX)?;
        let (stop, frames) = (
            Arc::new(AtomicBool::new(false)),
            Arc::new(AtomicU64::new(0)),
        );
        let (told, count) = (Arc::clone(&stop), Arc::clone(&frames));
        let thread = std::thread::spawn(move || {
            while !told.load(Ordering::Relaxed) {
                wire.run(&SOME)?;
                count.fetch_add(SOME.out + SOME.into, Ordering::Relaxed);
                // It has other things to do, and leaves processors to the kernel.
                std::thread::park_timeout(PAUSE);
            }
            wire.front.close().map(drop)
        });
        Ok(Self {
            stop,
            frames,
            thread,
        })
    }

    /// It has gone on since `before`, or does so soon.
    fn goes_on(&self, before: u64) -> anyhow::Result<()> {
        let deadline = Instant::now() + Duration::from_secs(10);
        while self.frames() <= before + SOME.out {
            ensure!(Instant::now() < deadline, "the neighbour is stuck");
            ensure!(!self.thread.is_finished(), "the neighbour has failed");
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }

    fn frames(&self) -> u64 {
        self.frames.load(Ordering::Relaxed)
    }

    fn finish(self) -> anyhow::Result<()> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().expect("the neighbour does not panic")
    }
}

/// A scene with a neighbour, for guests that come and misbehave.
pub(crate) struct Arena {
    pub(crate) scene: Scene,
    neighbour: Neighbour,
    /// Open descriptors of the daemon while nobody else is there.
    descriptors: usize,
}

/// A guest with an interface that nobody has connected to yet.
pub(crate) struct Newcomer {
    pub(crate) guest: Guest,
    pub(crate) line: NicLine,
    /// Frames of the neighbour before it came.
    before: u64,
}

impl Newcomer {
    fn interface(&self) -> String {
        self.line.interface(self.guest.domid())
    }
}

impl Arena {
    pub(crate) fn open() -> anyhow::Result<Self> {
        let mut scene = Scene::networked("max-queues = 4")?;
        let neighbour = Neighbour::start(&mut scene)?;
        neighbour.goes_on(0)?;
        let descriptors = scene.descriptors()?;
        Ok(Self {
            scene,
            neighbour,
            descriptors,
        })
    }

    pub(crate) fn newcomer(&mut self) -> anyhow::Result<(Newcomer, Device)> {
        let before = self.neighbour.frames();
        let guest = self.scene.guest()?;
        let line = NicLine::new(0, [0, 0x16, 0x3e, 0, 0, 1]);
        let device = self.scene.attach_nic(&guest, &line)?;
        let newcomer = Newcomer {
            guest,
            line,
            before,
        };
        Ok((newcomer, device))
    }

    /// A guest that has connected, with ring indices that start at `start`.
    pub(crate) fn attacker(&mut self, start: u32) -> anyhow::Result<(Newcomer, NetAttacker)> {
        let (newcomer, device) = self.newcomer()?;
        let peer = self.scene.peer(&newcomer.guest, &newcomer.line)?;
        let attacker = NetAttacker::connect(device, peer, newcomer.line.mac, start)?;
        self.scene.wait_carrier(&newcomer.interface(), true)?;
        Ok((newcomer, attacker))
    }

    /// The same with an honest frontend.
    pub(crate) fn honest(&mut self, shape: NetShape) -> anyhow::Result<(Newcomer, Wire)> {
        let before = self.neighbour.frames();
        let guest = self.scene.guest()?;
        let line = NicLine::new(0, [0, 0x16, 0x3e, 0, 0, 1]);
        let wire = self.scene.wire(&guest, &line, shape)?;
        let newcomer = Newcomer {
            guest,
            line,
            before,
        };
        Ok((newcomer, wire))
    }

    /// Frames that the neighbour has sent and received.
    pub(crate) fn frames(&self) -> u64 {
        self.neighbour.frames()
    }

    /// Destroys the guest and looks at everything that must hold afterwards.
    pub(crate) fn clear(&mut self, newcomer: &Newcomer) -> anyhow::Result<()> {
        self.neighbour.goes_on(newcomer.before)?;
        self.scene.destroy(&newcomer.guest)?;
        self.is_buried(newcomer)
    }

    /// Nothing of a destroyed guest is left, and it has not filled the log.
    pub(crate) fn is_buried(&self, newcomer: &Newcomer) -> anyhow::Result<()> {
        self.scene.wait_left(&newcomer.guest, self.descriptors)?;
        self.scene.wait_no_interface(&newcomer.interface())?;
        self.scene.no_wrong_done()?;
        self.scene.has_few_lines(&newcomer.guest, "vif")
    }

    /// Closed by the backend: an error node, a closing state, nothing mapped (E1).
    pub(crate) fn is_closed(&mut self, newcomer: &Newcomer) -> anyhow::Result<()> {
        let device = newcomer.line.device();
        self.scene.wait_refused(&newcomer.guest, device)?;
        self.scene.wait_carrier(&newcomer.interface(), false)
    }

    pub(crate) fn close(self) -> anyhow::Result<()> {
        let told = self.scene.told();
        self.neighbour.finish().context(told)?;
        self.scene.no_wrong_done()
    }
}
