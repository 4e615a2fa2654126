//! The control socket of a running daemon: what it tells, what it takes, and that nobody at it keeps
//! the daemon from its guests.

use std::io::Write as _;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, ensure};
use broker::control::{self, DeviceStatus, Request};
use pv_tests::frontend::{Load, Model, Plan, Shape};
use pv_tests::scene::{Guest, Scene, check_image};
use pv_tests::toolstack::{DiskLine, XVDA};
use xenbus::State;

/// 4 MiB.
const SECTORS: usize = 8192;

/// What the daemon says of a guest's disk.
fn said(scene: &Scene, guest: &Guest, vdev: u32) -> anyhow::Result<DeviceStatus> {
    let status = scene.daemon()?.status()?;
    let domid = guest.domid().raw();
    let mut of = status.devices.into_iter();
    of.find(|device| (device.guest, device.device) == (domid, vdev))
        .with_context(|| format!("nothing is said of disk {vdev} of guest {domid}"))
}

#[test]
fn status_tells_of_every_disk_and_who_serves_it() -> anyhow::Result<()> {
    let mut scene = Scene::start("")?;
    let mut model = Model::filled(1, SECTORS);
    let image = scene.image("a.img", &model)?;
    ensure!(
        scene.daemon()?.status()?.devices.is_empty(),
        "before there is one"
    );
    let guest = scene.guest()?;
    scene.rename(&guest, "web-1")?;
    let line = DiskLine::image(XVDA, &image);
    let device = scene.attach(&guest, &line)?;
    let waiting = said(&scene, &guest, XVDA)?;
    assert_eq!(waiting.state, "waiting for the guest");
    assert_eq!((waiting.workers.len(), waiting.summary), (0, None));

    let mut front = device.connect(Shape::LINUX)?;
    Load::new(&mut front, &mut model, Plan::MIXED).run(50)?;
    let serving = said(&scene, &guest, XVDA)?;
    assert_eq!(serving.state, "serving");
    assert_eq!(serving.name.as_deref(), Some("web-1"));
    assert_eq!(serving.workers, scene.daemon()?.workers(guest.domid()));
    let summary = serving.summary.unwrap_or_default();
    ensure!(
        summary.contains("a.img") && summary.contains("4 MiB"),
        "{summary}"
    );
    assert_eq!(serving.error, None);

    // One that is refused, while it is still there.
    let missing = DiskLine::image(XVDA + 16, &scene.image_path("missing.img"));
    scene.toolstack().write_keys(guest.domid(), &missing)?;
    let ready = [State::InitWait];
    scene
        .toolstack()
        .wait_backend(guest.domid(), missing.vdev, &ready)?;
    let refused = said(&scene, &guest, missing.vdev)?;
    assert_eq!(refused.state, "refused");
    ensure!(
        refused.error.unwrap_or_default().contains("does not exist"),
        "no reason"
    );

    // As people and programs see it.
    let daemon = scene.daemon()?;
    let table = daemon.command(&["status"])?;
    for part in [
        "xen-blkback ",
        "web-1",
        "51712",
        "serving",
        "a.img",
        "does not exist",
    ] {
        ensure!(table.contains(part), "{part} is not in\n{table}");
    }
    let json = daemon.command(&["status", "--json"])?;
    let status: control::Status = serde_json::from_str(&json)?;
    assert_eq!(
        (status.daemon.as_str(), Some(status.pid)),
        ("blkback", daemon.pid())
    );
    assert_eq!(status.devices.len(), 2);

    scene.toolstack().detach(guest.domid(), missing.vdev)?;
    front.close()?;
    scene.toolstack().detach(guest.domid(), XVDA)?;
    check_image(&image, &model)?;
    scene.no_wrong_done()
}

#[test]
fn a_configuration_is_read_again_for_disks_that_come() -> anyhow::Result<()> {
    let mut scene = Scene::start("acl-default = \"deny\"")?;
    let mut model = Model::filled(1, SECTORS);
    let image = scene.image("a.img", &model)?;
    let guest = scene.guest()?;
    let line = DiskLine::image(XVDA, &image);
    scene
        .attach(&guest, &line)
        .expect_err("nobody gets anything");
    let file = scene.machine().dir().join("blkback.toml");

    std::fs::write(
        &file,
        "acl-default = \"allow\"\nmax-queues = 1\nimages = 3\n",
    )?;
    let told = scene
        .daemon()?
        .command(&["reload"])
        .expect_err("it makes no sense");
    ensure!(told.to_string().contains("blkback.toml:3:"), "{told}");
    scene.attach(&guest, &line).expect_err("nothing is changed");

    std::fs::write(&file, "acl-default = \"allow\"\n")?;
    scene.daemon()?.command(&["reload"])?;
    let mut front = scene.connect(&guest, &line, Shape::LINUX)?;

    // What is connected goes on, whatever is read then.
    std::fs::write(&file, "acl-default = \"deny\"\n")?;
    scene.daemon()?.command(&["reload"])?;
    Load::new(&mut front, &mut model, Plan::MIXED).run(50)?;
    front.close()?;
    check_image(&image, &model)?;
    scene.no_wrong_done()
}

/// Clients that say nothing, say half, say nonsense, do not listen, and come again and again, while
/// disks come and go.
#[test]
fn nobody_at_the_socket_keeps_the_daemon_from_its_guests() -> anyhow::Result<()> {
    let mut scene = Scene::start("")?;
    let mut model = Model::filled(1, SECTORS);
    let image = scene.image("a.img", &model)?;
    let guest = scene.guest()?;
    let socket = scene.daemon()?.socket();
    let mut held = Vec::new();
    for _ in 0..20 {
        let mut half = UnixStream::connect(&socket)?;
        half.write_all(b"{\"command\":\"sta")?;
        held.push(half);
    }
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for kind in 0..3 {
            let (stop, socket) = (&stop, &socket);
            scope.spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    // Whatever becomes of it is this client's own trouble.
                    let _lost = pester(kind, socket);
                }
            });
        }
        let outcome = (0..5).try_for_each(|_| {
            let line = DiskLine::image(XVDA, &image);
            let mut front = scene.connect(&guest, &line, Shape::LINUX)?;
            Load::new(&mut front, &mut model, Plan::MIXED).run(100)?;
            front.close()?;
            scene.toolstack().detach(guest.domid(), XVDA)
        });
        stop.store(true, Ordering::Relaxed);
        outcome
    })?;
    // And who asks properly is answered, once the others have calmed down: all share so many requests
    // a second.
    let ask = || control::ask(&socket, &Request::new(control::STATUS));
    let status = (0..100_000).find_map(|_| ask().ok());
    let status = status.with_context(|| scene.told())?;
    ensure!(status["devices"].is_array(), "{status}");
    drop(held);
    check_image(&image, &model)?;
    scene.no_wrong_done()
}

fn pester(kind: u8, socket: &std::path::Path) -> std::io::Result<()> {
    let mut client = UnixStream::connect(socket)?;
    match kind {
        0 => client.write_all(b"nonsense\n"),
        1 => client.write_all(&b"{\"command\":\"status\"}\n".repeat(1000)),
        _ => client.write_all(&[b'{'; 4096]),
    }
}

#[test]
fn a_command_that_is_not_known_is_told_with_those_that_are() -> anyhow::Result<()> {
    let scene = Scene::start("")?;
    let told = control::ask(&scene.daemon()?.socket(), &Request::new("relaod"));
    let told = told.expect_err("no such command").to_string();
    ensure!(told.contains("the commands are status, reload"), "{told}");
    Ok(())
}

/// Without a daemon there is nobody to ask, and one that was killed has left its socket.
#[test]
fn a_daemon_that_is_gone_does_not_answer_and_the_next_one_does() -> anyhow::Result<()> {
    let mut scene = Scene::start("")?;
    let socket = scene.daemon()?.socket();
    let orphans = scene.take_daemon()?.kill()?;
    ensure!(socket.exists(), "it was killed");
    let told = control::ask(&socket, &Request::new(control::STATUS)).expect_err("it is gone");
    ensure!(told.to_string().contains("is it running"), "{told}");
    scene.start_daemon()?;
    scene.daemon()?.status()?;
    let stopped = scene.take_daemon()?.stop()?;
    ensure!(!socket.exists(), "it ended by itself");
    drop((orphans, stopped));
    Ok(())
}
