//! Every hostile move against the real daemon, with a good guest beside it that must not notice.
//!
//! After each move the whole set of oracles is looked at: the device ends as it must (O2), the
//! neighbour's verified load goes on (O3), everything is given back (O4), the disk holds what it
//! must (O5), the guest can be destroyed (O6), the log has few lines about it (O7), neither
//! hypervisor nor store has anything to complain about, and nobody has panicked (O1).

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use gntdev::GrantStatus;
use pv_tests::frontend::blkfront::Device;
use pv_tests::frontend::hostile::attacker::{Attacker, read};
use pv_tests::frontend::hostile::{Ending, Move, moves, offers, walks};
use pv_tests::frontend::{Load, Model, Plan, Queue, Shape, keys};
use pv_tests::scene::{Guest, Scene, check_image};
use pv_tests::toolstack::{DiskLine, XVDA};
use ring_proto::blkif::{RawSegment, op};
use xenbus::State;

/// 16 MiB.
const SECTORS: usize = 32768;

/// Lines that a guest may cause in a minute, for a device and for its worker (O7).
const MOST_LINES: usize = 20;

/// A guest that does nothing wrong, under verified load until it is told to stop.
struct Neighbour {
    stop: Arc<AtomicBool>,
    requests: Arc<AtomicU64>,
    thread: JoinHandle<anyhow::Result<()>>,
}

impl Neighbour {
    fn start(scene: &mut Scene) -> anyhow::Result<Self> {
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
    fn goes_on(&self, before: u64) -> anyhow::Result<()> {
        let deadline = Instant::now() + Duration::from_secs(10);
        while self.requests() <= before + 50 {
            ensure!(Instant::now() < deadline, "the neighbour is stuck");
            ensure!(!self.thread.is_finished(), "the neighbour has failed");
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }

    fn requests(&self) -> u64 {
        self.requests.load(Ordering::Relaxed)
    }

    fn finish(self) -> anyhow::Result<()> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().expect("the neighbour does not panic")
    }
}

/// A scene with a neighbour, for guests that come and misbehave.
struct Arena {
    scene: Scene,
    neighbour: Neighbour,
    descriptors: usize,
    played: u32,
}

impl Arena {
    fn open() -> anyhow::Result<Self> {
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
    fn newcomer(&mut self, read_only: bool) -> anyhow::Result<(Guest, Device, Model, DiskLine)> {
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
    fn clear(&mut self, guest: &Guest, before: u64) -> anyhow::Result<()> {
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
    fn workers_end(&self, guest: &Guest) -> anyhow::Result<()> {
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

    fn close(self) -> anyhow::Result<()> {
        let told = self.scene.told();
        self.neighbour.finish().context(told)?;
        self.scene.no_wrong_done()
    }
}

fn ends_word(line: &str, word: &str) -> bool {
    line.match_indices(word)
        .any(|(at, _)| !line[at + word.len()..].starts_with(|c: char| c.is_ascii_digit()))
}

/// Open descriptors of the daemon.
fn descriptors(scene: &Scene) -> anyhow::Result<usize> {
    let pid = scene.daemon()?.pid().context("it has ended")?;
    Ok(std::fs::read_dir(format!("/proc/{pid}/fd"))?.count())
}

/// Plays all moves of one id.
fn play(id: &str) -> anyhow::Result<()> {
    let mut arena = Arena::open()?;
    let of_id: Vec<Move> = moves().into_iter().filter(|m| m.id == id).collect();
    ensure!(!of_id.is_empty(), "there is no move {id}");
    for one in of_id {
        let step = play_one(&mut arena, &one);
        step.with_context(|| format!("{id}: {}\n{}", one.name, arena.scene.told()))?;
    }
    arena.close()
}

fn play_one(arena: &mut Arena, one: &Move) -> anyhow::Result<()> {
    let before = arena.neighbour.requests();
    let (guest, device, model, line) = arena.newcomer(one.read_only)?;
    let mut attacker = Attacker::connect(device, &one.shape, one.start)?;
    (one.play)(&mut attacker)?;
    match one.ending {
        Ending::Serves => attacker.is_served()?,
        Ending::Closed => is_closed(arena, &guest)?,
        Ending::Either => {}
    }
    if one.harmless {
        check_image(&line.target, &model)?;
    }
    arena.clear(&guest, before)?;
    if one.harmless {
        check_image(&line.target, &model)?;
    }
    Ok(())
}

/// Closed by the backend: an error node, a closing state, nothing mapped (E1).
fn is_closed(arena: &mut Arena, guest: &Guest) -> anyhow::Result<()> {
    let toolstack = arena.scene.toolstack();
    let why = toolstack.wait_error(guest.domid(), XVDA)?;
    ensure!(!why.is_empty(), "the error node is empty");
    toolstack.wait_backend(guest.domid(), XVDA, &[State::Closing, State::Closed])?;
    arena.scene.wait_unmapped(guest.domid())
}

macro_rules! plays {
    ($($name:ident => $id:literal,)*) => {
        $(#[test]
        fn $name() -> anyhow::Result<()> {
            play($id)
        })*

        #[test]
        fn every_move_is_played() {
            let played = BTreeSet::from([$($id),*]);
            let known: BTreeSet<_> = moves().iter().map(|one| one.id).collect();
            assert_eq!(played, known);
        }
    };
}

plays! {
    rng_01_impossible_indices => "RNG-01",
    rng_02_slots_change_while_they_are_read => "RNG-02",
    rng_03_only_what_is_defined_is_written => "RNG-03",
    rng_04_a_ring_that_is_never_empty => "RNG-04",
    rng_06_ids_are_echoed => "RNG-06",
    rng_07_the_ring_as_data => "RNG-07",
    gnt_01_bad_references => "GNT-01",
    gnt_03_fresh_references => "GNT-03",
    gnt_06_references_of_the_wrong_kind => "GNT-06",
    blk_01_outside_of_the_disk => "BLK-01",
    blk_02_numbers_of_segments => "BLK-02",
    blk_03_first_and_last_sectors => "BLK-03",
    blk_05_indirect_nonsense => "BLK-05",
    blk_06_writes_to_a_read_only_disk => "BLK-06",
    blk_07_unknown_operations => "BLK-07",
    blk_08_flushes_with_data => "BLK-08",
    blk_09_discards => "BLK-09",
    blk_10_a_discard_of_everything => "BLK-10",
    blk_13_one_page_for_all => "BLK-13",
    blk_14_nothing_of_a_bad_write_is_written => "BLK-14",
    blk_15_equal_ids => "BLK-15",
}

/// The hypervisor refuses one page of many, for each of its reasons.
#[test]
fn gnt_01_the_hypervisor_refuses_one_of_many() -> anyhow::Result<()> {
    let mut arena = Arena::open()?;
    for persistent in [false, true] {
        let before = arena.neighbour.requests();
        let (guest, device, model, line) = arena.newcomer(false)?;
        let shape = Shape {
            persistent,
            ..Shape::LINUX
        };
        let mut attacker = Attacker::connect(device, &shape, 0)?;
        let control = arena.scene.machine().control()?;
        for status in [
            GrantStatus::GeneralError,
            GrantStatus::BadGrantRef,
            GrantStatus::PermissionDenied,
            GrantStatus::BadPage,
            GrantStatus::NoDeviceSpace,
        ] {
            for nth in [1, 2, 6, 11] {
                let lent = (0..11).map(|_| attacker.lend(gntdev::Access::ReadWrite));
                let lent = lent.collect::<anyhow::Result<Vec<_>>>()?;
                let segments: Vec<_> = lent.iter().map(|l| RawSegment::new(l.gref, 0, 7)).collect();
                control.fail_copy(guest.domid(), nth, status)?;
                control.fail_map(guest.domid(), nth, status)?;
                let what = format!("{status:?} at {nth}, persistent {persistent}");
                // A page that cannot be mapped may be copied instead.
                attacker.expect(&what, read(0, &segments), op::READ, &[-1, 0])?;
                control.fail_copy(guest.domid(), 0, status)?;
                control.fail_map(guest.domid(), 0, status)?;
                attacker.is_served().with_context(|| what)?;
            }
        }
        check_image(&line.target, &model)?;
        arena.clear(&guest, before)?;
    }
    arena.close()
}

#[test]
fn con_01_connections_come_and_go_with_requests_under_way() -> anyhow::Result<()> {
    let mut arena = Arena::open()?;
    for round in 0..40_u32 {
        let before = arena.neighbour.requests();
        let (guest, device, mut model, _) = arena.newcomer(false)?;
        let shape = Shape {
            persistent: round.is_multiple_of(2),
            queues: 1 + round % 4,
            ..Shape::LINUX
        };
        let mut front = device.connect(shape)?;
        Load::new(&mut front, &mut model, Plan::MIXED).fill(usize::MAX)?;
        match round % 3 {
            0 => drop(front.vanish()),
            1 => drop(front.close()?),
            _ => drop(front.kexec()?),
        }
        arena.clear(&guest, before)?;
    }
    arena.close()
}

#[test]
fn con_02_a_broken_ring_is_torn_down_in_every_order() -> anyhow::Result<()> {
    let mut arena = Arena::open()?;
    let breaks: Vec<Move> = moves()
        .into_iter()
        .filter(|m| m.id == "RNG-01")
        .take(1)
        .collect();
    for order in 0..4 {
        let before = arena.neighbour.requests();
        let (guest, device, _, _) = arena.newcomer(false)?;
        let mut attacker = Attacker::connect(device, &breaks[0].shape, 0)?;
        (breaks[0].play)(&mut attacker)?;
        let toolstack = arena.scene.toolstack();
        match order {
            0 => is_closed(&mut arena, &guest)?,
            1 => toolstack.ask_to_close(guest.domid(), XVDA, true)?,
            2 => attacker.device().switch(State::Closed)?,
            _ => drop(guest.domain.destroy()?),
        }
        if order == 3 {
            arena.scene.machine().xenstored()?.release(guest.domid())?;
            arena.scene.toolstack().remove_disks(guest.domid())?;
            arena.scene.wait_buried(guest.domid())?;
        } else {
            arena.clear(&guest, before)?;
        }
    }
    arena.close()
}

#[test]
fn con_03_states_in_no_order() -> anyhow::Result<()> {
    let walked: [fn(&mut Device) -> anyhow::Result<()>; 3] = [
        walks::all_pairs,
        walks::impossible_states,
        walks::tear_at_the_directory,
    ];
    let mut arena = Arena::open()?;
    for walk in walked {
        for connected in [false, true] {
            let before = arena.neighbour.requests();
            let (guest, device, _, _) = arena.newcomer(false)?;
            let mut device = if connected {
                let mut attacker = Attacker::connect(device, &Shape::LINUX, 0)?;
                walk(attacker.device())?;
                attacker.into_device()
            } else {
                device
            };
            walk(&mut device)?;
            arena.clear(&guest, before)?;
        }
    }
    arena.close()
}

#[test]
fn con_04_values_that_make_no_sense() -> anyhow::Result<()> {
    let mut arena = Arena::open()?;
    for (key, values) in offers::nonsense() {
        for value in values {
            let step = refused(&mut arena, key, &value);
            let shown = value.escape_ascii().to_string();
            let shown = shown.get(..40).unwrap_or(&shown).to_owned();
            step.with_context(|| format!("{key} = {shown}\n{}", arena.scene.told()))?;
        }
    }
    arena.close()
}

/// A frontend that writes `value` for `key`, and everything else right, is refused.
fn refused(arena: &mut Arena, key: &str, value: &[u8]) -> anyhow::Result<()> {
    let before = arena.neighbour.requests();
    let (guest, mut device, _, _) = arena.newcomer(false)?;
    device.limits()?;
    let shape = Shape {
        order: (key == "ring-page-order").then_some(0),
        ..Shape::LINUX
    };
    let queue = Queue::new(&guest.domain, &shape)?;
    device.offer(&keys::offer(&shape, &[queue.keys()]))?;
    let path = format!("{}/{key}", device.frontend());
    device.store().write(&path, value)?;
    device.switch(State::Initialised)?;
    is_closed(arena, &guest)?;
    arena.clear(&guest, before)
}

#[test]
fn con_05_a_watched_node_is_rewritten_without_end() -> anyhow::Result<()> {
    let mut arena = Arena::open()?;
    let before = arena.neighbour.requests();
    let (guest, mut device, _, _) = arena.newcomer(false)?;
    let storm = std::thread::spawn(move || -> anyhow::Result<u32> {
        let count = walks::rewrite_for(&mut device, Duration::from_secs(3))?;
        walks::hollow_offers(&mut device, 300)?;
        Ok(count)
    });
    let mut slowest = Duration::ZERO;
    while !storm.is_finished() {
        let started = Instant::now();
        let (other, device, _, _) = arena.newcomer(false)?;
        let front = device.connect(Shape::LINUX)?;
        slowest = slowest.max(started.elapsed());
        drop(front.close()?);
        arena.scene.destroy(&other)?;
    }
    let count = storm.join().expect("the storm does not panic")?;
    ensure!(count > 1000, "{count} writes are no storm");
    // A second, and what a machine with two busy processors adds.
    ensure!(
        slowest < Duration::from_secs(3),
        "another guest waited {slowest:?}"
    );
    arena.clear(&guest, before)?;
    arena.close()
}

/// A guest is destroyed at each step of its way.
#[test]
fn con_06_destroyed_at_every_step() -> anyhow::Result<()> {
    let mut arena = Arena::open()?;
    for step in 0..7 {
        let before = arena.neighbour.requests();
        let (guest, mut device, mut model, _) = arena.newcomer(false)?;
        match step {
            0 => {}
            1 => drop(device.limits()?),
            2 => {
                let queue = Queue::new(&guest.domain, &Shape::LINUX)?;
                device.offer(&keys::offer(&Shape::LINUX, &[queue.keys()]))?;
                device.switch(State::Initialised)?;
            }
            3 => device.switch(State::Closing)?,
            _ => {
                let mut front = device.connect(Shape::LINUX)?;
                Load::new(&mut front, &mut model, Plan::MIXED).fill(usize::MAX)?;
                match step {
                    4 => {}
                    5 => front.device().switch(State::Closing)?,
                    _ => front.device().switch(State::Closed)?,
                }
            }
        }
        let step = arena.clear(&guest, before);
        step.with_context(|| arena.scene.told())?;
    }
    arena.close()
}
