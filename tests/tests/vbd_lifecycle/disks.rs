//! Disks are attached, detached and taken from under a running guest; guests start over and die.

use anyhow::{Context, ensure};
use pv_tests::daemon::signal;
use pv_tests::frontend::{Load, Model, Plan, Shape};
use pv_tests::scene::{Scene, check_image};
use pv_tests::toolstack::{DiskLine, REFUSAL, XVDA, backend_path};
use rustix::fs::{FlockOperation, fcntl_lock};
use rustix::process::Signal;
use xenbus::State;

use super::{Busy, Disk, SECTORS};

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
            scene.toolstack().remove_devices(disk.guest.domid())?;
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
