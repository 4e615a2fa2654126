//! Disks come and go: attached, detached, taken from under a running guest; guests start over and
//! die; daemon and workers end.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use anyhow::{Context, ensure};
use pv_tests::daemon::signal;
use pv_tests::frontend::blkfront::Device;
use pv_tests::frontend::{Blkfront, Load, Model, Plan, Shape};
use pv_tests::scene::{Guest, Scene, check_image};
use pv_tests::toolstack::{DiskLine, REFUSAL, XVDA, backend_path};
use rustix::fs::{FlockOperation, fcntl_lock};
use rustix::process::Signal;
use xenbus::State;

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

#[test]
fn attach_and_detach_again_and_again() -> anyhow::Result<()> {
    let mut scene = Scene::start("")?;
    let mut model = Model::filled(1, SECTORS);
    let image = scene.image("a.img", &model)?;
    let guest = scene.guest()?;
    let line = DiskLine::image(XVDA, &image);
    for round in 0..20 {
        let device = scene.attach(&guest, &line);
        let device = device.with_context(|| scene.told())?;
        // Every other time nobody connects, as with a guest that has no driver.
        if round % 2 == 0 {
            let mut front = device.connect(Shape::LINUX)?;
            Load::new(&mut front, &mut model, Plan::MIXED).run(50)?;
            scene.toolstack().ask_to_close(guest.domid(), XVDA, false)?;
            front.follow_closing()?;
        }
        scene.toolstack().detach(guest.domid(), XVDA)?;
        ensure!(
            scene
                .toolstack()
                .backend_state(guest.domid(), XVDA)?
                .is_none(),
            "the backend's directory is back"
        );
    }
    scene.wait_unmapped(guest.domid())?;
    check_image(&image, &model)?;
    scene.no_wrong_done()
}

/// On a busy host the daemon sees neither the end of the old device nor the moment between.
#[test]
fn a_disk_that_is_replaced_unseen_is_a_new_one() -> anyhow::Result<()> {
    let mut scene = Scene::start("")?;
    let model = Model::filled(1, SECTORS);
    let line = DiskLine::image(XVDA, &scene.image("a.img", &model)?);
    let guest = scene.guest()?;
    let daemon = scene.daemon()?.pid();
    scene.toolstack().write_keys(guest.domid(), &line)?;
    for _ in 0..10 {
        let toolstack = scene.toolstack();
        toolstack.wait_backend(guest.domid(), XVDA, &[State::InitWait])?;
        toolstack.ask_to_close(guest.domid(), XVDA, false)?;
        toolstack.wait_backend(guest.domid(), XVDA, &[State::Closed])?;
        signal(daemon, Signal::STOP);
        let replaced = toolstack
            .finish_removal(guest.domid(), XVDA)
            .and_then(|()| toolstack.write_keys(guest.domid(), &line));
        signal(daemon, Signal::CONT);
        replaced?;
    }
    scene.no_wrong_done()
}

#[test]
fn a_closed_backend_holds_nothing_of_the_image() -> anyhow::Result<()> {
    for engine in ["io-uring", "threads"] {
        let mut scene = Scene::start(&format!("engine = \"{engine}\""))?;
        let mut disk = Disk::connect(&mut scene, 1, Shape::LINUX)?;
        disk.use_it(200)?;
        let image = std::fs::File::options()
            .read(true)
            .write(true)
            .open(&disk.line.target)?;
        let lock = || fcntl_lock(&image, FlockOperation::NonBlockingLockExclusive);
        ensure!(lock().is_err(), "a connected image is not locked");
        disk.front.close()?;
        lock().context("locked still, though the state is Closed")?;
    }
    Ok(())
}

#[test]
fn detach_under_load() -> anyhow::Result<()> {
    let mut scene = Scene::start("")?;
    let disk = Disk::connect(&mut scene, 1, Shape::LINUX)?;
    let domid = disk.guest.domid();
    let busy = Busy::start(disk);
    scene.toolstack().ask_to_close(domid, XVDA, false)?;
    scene
        .toolstack()
        .wait_backend(domid, XVDA, &[State::Closing])?;
    // Linux ends what it has begun; the backend must go on until the frontend is closed.
    let (disk, _) = busy.finish().with_context(|| scene.told())?;
    disk.detach(&mut scene)?;
    scene.no_wrong_done()
}

#[test]
fn detach_by_force_under_load() -> anyhow::Result<()> {
    for persistent in [true, false] {
        let mut scene = Scene::start("")?;
        let shape = Shape {
            persistent,
            ..Shape::LINUX
        };
        let mut disk = Disk::connect(&mut scene, 1, shape)?;
        let domid = disk.guest.domid();
        Load::new(&mut disk.front, &mut disk.model, Plan::MIXED).fill(usize::MAX)?;
        scene.toolstack().ask_to_close(domid, XVDA, true)?;
        scene.toolstack().finish_removal(domid, XVDA)?;
        scene.wait_unmapped(domid)?;
        scene.no_wrong_done()?;
    }
    Ok(())
}

#[test]
fn con_06_destroy_under_load_leaves_nothing() -> anyhow::Result<()> {
    let mut scene = Scene::start("")?;
    let mut other = Disk::connect(&mut scene, 99, Shape::LINUX)?;
    for seed in 0..6 {
        let shape = Shape {
            persistent: seed % 2 == 0,
            queues: 2,
            order: Some(2),
            ..Shape::LINUX
        };
        let mut disk = Disk::connect(&mut scene, seed, shape)?;
        let plan = Plan {
            depth: 64,
            ..Plan::MIXED
        };
        let mut load = Load::new(&mut disk.front, &mut disk.model, plan);
        load.run(100)?;
        load.fill(usize::MAX)?;
        if seed < 3 {
            scene.destroy(&disk.guest)?;
        } else {
            // It crashes by itself first, and the toolstack tidies up.
            disk.guest.domain.destroy()?;
            scene.machine().xenstored()?.release(disk.guest.domid())?;
            scene.toolstack().remove_disks(disk.guest.domid())?;
            scene.toolstack().forget_domain(disk.guest.domid())?;
            scene.wait_buried(disk.guest.domid())?;
        }
    }
    other.use_it(200)?;
    other.detach(&mut scene)?;
    scene.no_wrong_done()
}

#[test]
fn a_guest_that_only_dies_is_let_go() -> anyhow::Result<()> {
    let mut scene = Scene::start("")?;
    let mut disk = Disk::connect(&mut scene, 1, Shape::LINUX)?;
    disk.use_it(100)?;
    disk.guest.domain.destroy()?;
    scene.machine().xenstored()?.release(disk.guest.domid())?;
    // Nobody has asked for the disk to be closed: `@releaseDomain` must do.
    scene.wait_buried(disk.guest.domid())?;
    scene.no_wrong_done()
}

#[test]
fn a_kernel_that_boots_another_one_gets_its_disk_again() -> anyhow::Result<()> {
    for persistent in [true, false] {
        let mut scene = Scene::start("")?;
        let shape = Shape {
            persistent,
            ..Shape::LINUX
        };
        let mut disk = Disk::connect(&mut scene, 1, shape)?;
        for _ in 0..3 {
            disk.use_it(200)?;
            let device = disk.front.kexec().with_context(|| scene.told())?;
            disk.front = device.connect(shape)?;
        }
        disk.use_it(200)?;
        disk.detach(&mut scene)?;
        scene.no_wrong_done()?;
    }
    Ok(())
}

#[test]
fn guests_go_on_while_the_daemon_is_restarted() -> anyhow::Result<()> {
    let mut scene = Scene::start("")?;
    let disk = Disk::connect(&mut scene, 1, Shape::LINUX)?;
    let domid = disk.guest.domid();
    let busy = Busy::start(disk);
    let orphans = scene.take_daemon()?.stop()?;
    scene.start_daemon()?;
    ensure!(
        scene.toolstack().backend_state(domid, XVDA)? == Some(State::Connected),
        "the new daemon has touched the device"
    );
    // New devices are served by the new daemon.
    let mut late = Disk::connect(&mut scene, 2, Shape::LINUX)?;
    late.use_it(200)?;
    late.detach(&mut scene)?;
    let (mut disk, requests) = busy.finish().with_context(|| scene.told())?;
    ensure!(requests > 0, "nothing was done");
    disk.use_it(200)?;
    // The new daemon can only end the old one's worker.
    scene.toolstack().ask_to_close(domid, XVDA, false)?;
    disk.front
        .follow_closing_after(|| scene.wait_unmapped(domid))?;
    scene.toolstack().finish_removal(domid, XVDA)?;
    check_image(&disk.line.target, &disk.model)?;
    drop(orphans);
    scene.no_wrong_done()
}

#[test]
fn guests_go_on_when_the_daemon_is_killed() -> anyhow::Result<()> {
    let mut scene = Scene::start("")?;
    let disk = Disk::connect(&mut scene, 1, Shape::LINUX)?;
    let guest = disk.guest.clone();
    let busy = Busy::start(disk);
    let orphans = scene.take_daemon()?.kill()?;
    scene.start_daemon()?;
    let (mut disk, _) = busy.finish().with_context(|| scene.told())?;
    disk.use_it(200)?;
    scene.destroy(&guest)?;
    drop(orphans);
    scene.no_wrong_done()
}

#[test]
fn a_second_daemon_is_refused_and_told_of_the_first() -> anyhow::Result<()> {
    let mut scene = Scene::start("")?;
    let mut second = scene.daemon_start().spawn(None)?;
    let status = second.wait_exit()?;
    assert!(!status.success());
    let told = second.wait_log("another blkback runs")?;
    let pid = scene.daemon()?.pid().context("it has ended")?;
    assert!(told.contains(&format!("pid {pid}")), "{told}");
    assert!(told.contains("--run-dir"), "no remedy: {told}");
    // And the first has not minded.
    let mut disk = Disk::connect(&mut scene, 1, Shape::LINUX)?;
    disk.use_it(100)?;
    disk.detach(&mut scene)
}

#[test]
fn a_killed_worker_closes_its_guests_disks_and_no_others() -> anyhow::Result<()> {
    let mut scene = Scene::start("")?;
    let mut victim = Disk::connect(&mut scene, 1, Shape::LINUX)?;
    victim.use_it(100)?;
    let domid = victim.guest.domid();
    let busy = Busy::start(Disk::connect(&mut scene, 2, Shape::LINUX)?);

    let workers = scene.daemon()?.workers(domid);
    assert_eq!(workers.len(), 1, "one worker per guest");
    let mut load = Load::new(&mut victim.front, &mut victim.model, Plan::MIXED);
    load.fill(usize::MAX)?;
    signal(workers.first().copied(), Signal::KILL);

    let told = scene.toolstack().wait_error(domid, XVDA)?;
    assert!(
        told.contains("signal 9") || told.contains("worker"),
        "{told}"
    );
    scene.daemon()?.wait_log("signal 9")?;
    let closed = [State::Closing, State::Closed];
    scene.toolstack().wait_backend(domid, XVDA, &closed)?;
    scene.wait_unmapped(domid)?;

    let (mut other, _) = busy.finish().with_context(|| scene.told())?;
    other.use_it(500)?;
    other.detach(&mut scene)?;

    // And the toolstack can put things right.
    let _given_up = victim.front.vanish();
    scene.destroy(&victim.guest)?;
    scene.no_wrong_done()
}

#[test]
fn a_detached_disk_of_a_guest_leaves_its_other_one() -> anyhow::Result<()> {
    let mut scene = Scene::start("")?;
    let mut first = Disk::connect(&mut scene, 1, Shape::LINUX)?;
    let mut model = Model::filled(7, SECTORS);
    let image = scene.image("other.img", &model)?;
    let line = DiskLine::image(XVDA + 16, &image);
    let mut front = scene.connect(&first.guest, &line, Shape::LINUX)?;
    Load::new(&mut front, &mut model, Plan::MIXED).run(100)?;
    front.close()?;
    scene.toolstack().detach(first.guest.domid(), XVDA + 16)?;
    first.use_it(200)?;
    first.detach(&mut scene)?;
    scene.no_wrong_done()
}

#[test]
fn con_07_devices_survive_a_lost_and_a_stalled_xenstored() -> anyhow::Result<()> {
    let mut scene = Scene::start("")?;
    let mut disk = Disk::connect(&mut scene, 1, Shape::LINUX)?;
    scene.machine().xenstored()?.hang_up()?;
    scene.toolstack().store().reconnect()?;
    disk.use_it(200)?;
    let mut late = Disk::connect(&mut scene, 2, Shape::LINUX)?;
    late.use_it(100)?;
    late.detach(&mut scene)?;
    scene
        .machine()
        .xenstored()?
        .stall(std::time::Duration::from_secs(2))?;
    disk.use_it(500)?;
    scene.no_wrong_done()
}

#[test]
fn a_hotplug_script_that_fails_closes_the_device() -> anyhow::Result<()> {
    let mut scene = Scene::start("")?;
    let model = Model::filled(1, SECTORS);
    let line = DiskLine::image(XVDA, &scene.image("a.img", &model)?);
    let guest = scene.guest()?;
    scene.toolstack().write_keys(guest.domid(), &line)?;
    scene
        .toolstack()
        .wait_backend(guest.domid(), XVDA, &[State::InitWait])?;
    let backend = backend_path(guest.domid(), XVDA);
    let store = scene.toolstack().store();
    ensure!(
        store
            .read(&format!("{backend}/{REFUSAL}"))?
            .unwrap_or_default()
            .is_empty(),
        "refused without a reason"
    );
    store.write(&format!("{backend}/hotplug-error"), "no such volume")?;
    store.write(&format!("{backend}/hotplug-status"), "error")?;
    let told = scene.toolstack().wait_error(guest.domid(), XVDA)?;
    assert!(told.contains("no such volume"), "{told}");
    scene.toolstack().detach(guest.domid(), XVDA)?;
    scene.no_wrong_done()
}

#[test]
fn a_backend_directory_that_is_torn_away_is_not_brought_back() -> anyhow::Result<()> {
    let mut scene = Scene::start("")?;
    let mut disk = Disk::connect(&mut scene, 1, Shape::LINUX)?;
    let domid = disk.guest.domid();
    Load::new(&mut disk.front, &mut disk.model, Plan::MIXED).fill(usize::MAX)?;
    let backend = backend_path(domid, XVDA);
    scene.toolstack().store().remove(&backend)?;
    scene.wait_unmapped(domid)?;
    // The same number can be used again.
    let _given_up = disk.front.vanish();
    let mut model = Model::filled(5, SECTORS);
    let line = DiskLine::image(XVDA, &scene.image("other.img", &model)?);
    let mut front = scene.connect(&disk.guest, &line, Shape::LINUX)?;
    Load::new(&mut front, &mut model, Plan::MIXED).run(100)?;
    scene.no_wrong_done()
}

#[test]
fn an_idle_daemon_ends_when_it_is_told_to() -> anyhow::Result<()> {
    let mut scene = Scene::start("")?;
    scene.take_daemon()?.stop()?;
    scene.no_wrong_done()
}

#[test]
fn ready_is_said_only_when_devices_are_watched() -> anyhow::Result<()> {
    let mut scene = Scene::without_daemon("")?;
    let mut model = Model::filled(1, SECTORS);
    let line = DiskLine::image(XVDA, &scene.image("a.img", &model)?);
    let guest = scene.guest()?;
    // A device from before the daemon, as after a restart of the daemon alone.
    scene.toolstack().write_keys(guest.domid(), &line)?;
    scene.start_daemon()?;
    let ready = scene.toolstack().backend_state(guest.domid(), XVDA)?;
    assert_eq!(ready, Some(State::InitWait), "{}", scene.told());
    scene.toolstack().run_script(guest.domid(), &line)?;
    let device = Device::find(&guest.domain, guest.store()?, XVDA)?;
    let mut front = device.connect(Shape::LINUX)?;
    Load::new(&mut front, &mut model, Plan::MIXED).run(100)?;
    scene.no_wrong_done()
}
