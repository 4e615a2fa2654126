//! The daemon and its workers end, are killed, and start again.

use anyhow::{Context, ensure};
use pv_tests::daemon::signal;
use pv_tests::frontend::Device;
use pv_tests::frontend::{Load, Model, Plan, Shape};
use pv_tests::scene::{Scene, check_image};
use pv_tests::toolstack::{DiskLine, XVDA};
use rustix::process::{Pid, Resource, Rlimit, Signal, prlimit};
use xenbus::State;

use super::{Busy, Disk, SECTORS};

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

/// Descriptors are lost one by one: those that an order brings, and those that a queue makes.
#[test]
fn a_worker_that_may_open_no_more_refuses_one_more_disk_and_keeps_its_others() -> anyhow::Result<()>
{
    let mut scene = Scene::start("max-queues = 1")?;
    let mut first = Disk::connect(&mut scene, 1, Shape::LINUX)?;
    let guest = first.guest.clone();
    let domid = guest.domid();
    let worker = scene.daemon()?.workers(domid).first().copied();
    let worker = worker.context("no worker")?;
    let image = scene.image("other.img", &Model::filled(7, SECTORS))?;
    for (left, vdev) in (0..20).zip((XVDA + 16..).step_by(16)) {
        may_open(worker, left)?;
        let device = scene.attach(&guest, &DiskLine::image(vdev, &image).read_only())?;
        let connected = device.connect(Shape::LINUX);
        first.use_it(20).with_context(|| scene.told())?;
        if connected.is_ok() {
            ensure!(left > 2, "{left} descriptors cannot have been enough");
            ensure!(scene.daemon()?.workers(domid) == [worker], "another worker");
            scene.destroy(&guest)?;
            return scene.no_wrong_done();
        }
        let told = scene.toolstack().wait_error(domid, vdev)?;
        // A page of the simulated hypervisor is a descriptor, too; Xen's are not.
        let why = ["open files", "the hypervisor connection is lost"];
        let said = why.iter().any(|why| told.contains(why));
        ensure!(said, "{left} left: {told}");
    }
    anyhow::bail!("no number of descriptors is enough\n{}", scene.told())
}

/// Lets a process open `more` descriptors beside those that it has.
fn may_open(pid: u32, more: usize) -> anyhow::Result<()> {
    let open = std::fs::read_dir(format!("/proc/{pid}/fd"))?.count();
    let limit = Some(u64::try_from(open + more)?);
    let pid = Pid::from_raw(i32::try_from(pid)?);
    let limits = Rlimit {
        current: limit,
        maximum: limit.map(|_| 4096),
    };
    prlimit(pid, Resource::Nofile, limits)?;
    Ok(())
}

#[test]
fn a_log_that_nobody_reads_any_more_costs_no_disk() -> anyhow::Result<()> {
    let mut scene = Scene::without_daemon("")?;
    let daemon = scene.daemon_start().unheard().ready()?;
    let mut disk = Disk::connect(&mut scene, 1, Shape::LINUX)?;
    disk.use_it(100)?;
    // The worker says so.
    let orphans = daemon.stop()?;
    disk.use_it(2000)?;
    scene.start_daemon()?;
    scene.daemon()?.wait_log("earlier broker (pid")?;
    disk.use_it(100)?;
    scene.destroy(&disk.guest)?;
    drop(orphans);
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
