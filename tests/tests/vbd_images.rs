//! Images that cannot be served: what `xl` shows, what the log says, and that nobody else minds.

use std::fs;
use std::path::PathBuf;

use anyhow::ensure;
use pv_tests::frontend::{Load, Model, Plan, Shape};
use pv_tests::scene::{Scene, check_image};
use pv_tests::toolstack::{DiskLine, XVDA};
use xenbus::Permissions;

/// 4 MiB.
const SECTORS: usize = 8192;

/// A file that is no disk, and what is said of it.
struct Bad {
    make: fn(&Scene, &str) -> anyhow::Result<PathBuf>,
    told: &'static str,
}

fn of_size(scene: &Scene, name: &str, bytes: u64) -> anyhow::Result<PathBuf> {
    let path = scene.image_path(name);
    fs::File::create(&path)?.set_len(bytes)?;
    Ok(path)
}

const BAD: [(&str, Bad); 6] = [
    (
        "missing",
        Bad {
            make: |scene, name| Ok(scene.image_path(name)),
            told: "does not exist",
        },
    ),
    (
        "directory",
        Bad {
            make: |scene, name| {
                let path = scene.image_path(name);
                fs::create_dir(&path)?;
                Ok(path)
            },
            told: "is a directory",
        },
    ),
    (
        "empty",
        Bad {
            make: |scene, name| of_size(scene, name, 0),
            told: "is empty",
        },
    ),
    (
        "odd",
        Bad {
            make: |scene, name| of_size(scene, name, 1_000_001),
            told: "not a multiple of",
        },
    ),
    (
        "pipe",
        Bad {
            make: |scene, name| {
                use rustix::fs::{CWD, FileType, Mode, mknodat};
                let path = scene.image_path(name);
                mknodat(CWD, &path, FileType::Fifo, Mode::RWXU, 0)?;
                Ok(path)
            },
            told: "a disk is a regular file or a block device",
        },
    ),
    (
        "link",
        Bad {
            make: |scene, name| {
                let real = of_size(scene, "real", 1 << 20)?;
                let path = scene.image_path(name);
                std::os::unix::fs::symlink(real, &path)?;
                Ok(path)
            },
            told: "symbolic link",
        },
    ),
];

#[test]
fn what_is_no_disk_is_refused_with_a_reason_and_once() -> anyhow::Result<()> {
    let mut scene = Scene::start("")?;
    let mut model = Model::filled(1, SECTORS);
    let image = scene.image("good.img", &model)?;
    let guest = scene.guest()?;
    let mut front = scene.connect(&guest, &DiskLine::image(XVDA, &image), Shape::LINUX)?;

    for (name, bad) in BAD {
        let path = (bad.make)(&scene, name)?;
        let line = DiskLine::image(XVDA + 16, &path);
        let shown = scene.toolstack().attach(guest.domid(), &line);
        let shown = shown.expect_err(name).to_string();
        assert!(shown.contains(bad.told), "{name}: xl shows {shown:?}");
        assert!(shown.contains(&path.display().to_string()), "{shown:?}");

        // What was said comes through a pipe.
        scene.daemon()?.wait_log(&path.display().to_string())?;
        let log = scene.daemon()?.log_lines();
        let path = format!("{name}\\\"");
        let said = log
            .iter()
            .filter(|line| line.contains(bad.told) && line.contains(path.trim_end_matches("\\\"")));
        ensure!(
            said.count() == 1,
            "{name} is not said once:\n{}",
            log.join("\n")
        );
        Load::new(&mut front, &mut model, Plan::MIXED).run(50)?;
    }
    front.close()?;
    check_image(&image, &model)?;
    scene.no_wrong_done()
}

#[test]
fn only_images_that_an_administrator_allows_are_opened() -> anyhow::Result<()> {
    let mut scene = Scene::start("images = [\"/srv/allowed/**\"]")?;
    let model = Model::filled(1, SECTORS);
    let image = scene.image("a.img", &model)?;
    let guest = scene.guest()?;
    let shown = scene.attach(&guest, &DiskLine::image(XVDA, &image));
    let shown = shown.expect_err("not allowed").to_string();
    assert!(
        shown.contains("matched by no pattern of `images`"),
        "{shown}"
    );
    scene.no_wrong_done()
}

/// A guest gets what rules give it, as xl shows and the log says, and nobody else minds.
#[test]
fn rules_decide_which_guest_gets_which_image() -> anyhow::Result<()> {
    let scene = Scene::without_daemon("")?;
    let images = scene.image_path("").display().to_string();
    let mut scene = scene.configured(&format!(
        "acl-default = \"deny\"\n\n\
         [[acl]]\ndomain = \"web-*\"\npaths = \"{images}web*.img\"\n\n\
         [[acl]]\npaths = \"{images}tools.img\"\naccess = \"read-only\"\n"
    ));
    scene.start_daemon()?;
    let mut model = Model::filled(1, SECTORS);
    let tools_model = Model::filled(2, SECTORS);
    let image = scene.image("web1.img", &model)?;
    let tools = scene.image("tools.img", &tools_model)?;
    let db = scene.image("db.img", &tools_model)?;
    let (web, other) = (scene.guest()?, scene.guest()?);
    scene.rename(&web, "web-1")?;
    let line = |at: u32, image| DiskLine::image(XVDA + 16 * at, image);
    let mut front = scene.connect(&web, &line(0, &image), Shape::LINUX)?;
    let config = scene.machine().dir().join("blkback.toml");
    let config = config.display();

    let refused: [(_, _, String); 4] = [
        (
            &web,
            line(1, &db),
            format!("acl-default = \"deny\" in {config}"),
        ),
        (&web, line(2, &tools), format!("{config}:7 grants guest")),
        (
            &other,
            line(0, &image),
            format!("acl-default = \"deny\" in {config}"),
        ),
        (&other, line(1, &tools), "for reading only".into()),
    ];
    for (guest, line, told) in refused {
        let shown = scene.toolstack().attach(guest.domid(), &line);
        let shown = shown.expect_err("it is not for it").to_string();
        let who = format!("guest {} ", guest.domid());
        for part in [told.as_str(), &who, &line.target.display().to_string()] {
            ensure!(shown.contains(part), "xl shows {shown:?}, not {part:?}");
        }
        scene.daemon()?.wait_log(&told)?;
        // The guest's other disk, if it has one, goes on.
        Load::new(&mut front, &mut model, Plan::MIXED).run(50)?;
    }

    // Read-only is what the rule grants, and a new name is a new guest.
    scene.connect(&web, &line(2, &tools).read_only(), Shape::LINUX)?;
    front.close()?;
    scene.toolstack().detach(web.domid(), XVDA)?;
    scene.rename(&other, "web-2")?;
    let mut front = scene.connect(&other, &line(0, &image), Shape::LINUX)?;
    Load::new(&mut front, &mut model, Plan::MIXED).run(50)?;
    front.close()?;
    check_image(&image, &model)?;
    scene.no_wrong_done()
}

#[test]
fn a_guest_whose_name_cannot_be_believed_gets_nothing_that_depends_on_it() -> anyhow::Result<()> {
    let mut scene = Scene::start("[[acl]]\ndomain = \"db\"\ndeny = true")?;
    let model = Model::filled(1, SECTORS);
    let image = scene.image("a.img", &model)?;
    let guest = scene.guest()?;
    let name = format!("/local/domain/{}/name", guest.domid());
    let writable = Permissions::private(guest.domid());
    scene
        .toolstack()
        .store()
        .set_permissions(&name, &writable)?;
    let shown = scene.attach(&guest, &DiskLine::image(XVDA, &image));
    let shown = shown.expect_err("it could have named itself").to_string();
    assert!(
        shown.contains("blkback.toml:1 may be about guest"),
        "{shown}"
    );
    assert!(shown.contains("the guest's name is not known"), "{shown}");
    scene.no_wrong_done()
}

#[test]
fn blk_18_an_image_has_one_writer() -> anyhow::Result<()> {
    let mut scene = Scene::start("")?;
    let mut model = Model::filled(1, SECTORS);
    let image = scene.image("a.img", &model)?;
    let (first, second) = (scene.guest()?, scene.guest()?);
    let line = DiskLine::image(XVDA, &image);
    let mut front = scene.connect(&first, &line, Shape::LINUX)?;
    for other in [line.clone(), line.clone().read_only()] {
        let shown = scene.attach(&second, &other);
        let shown = shown.expect_err("it is taken").to_string();
        assert!(shown.contains("in use"), "{shown}");
    }
    Load::new(&mut front, &mut model, Plan::MIXED).run(100)?;
    front.close()?;
    scene.toolstack().detach(first.domid(), XVDA)?;
    // Now it is free.
    let mut front = scene.connect(&second, &line, Shape::LINUX)?;
    Load::new(&mut front, &mut model, Plan::MIXED).run(100)?;
    front.close()?;
    check_image(&image, &model)?;
    scene.no_wrong_done()
}

#[test]
fn readers_share_an_image() -> anyhow::Result<()> {
    let mut scene = Scene::start("")?;
    let mut model = Model::filled(1, SECTORS);
    let image = scene.image("a.img", &model)?;
    let line = DiskLine::image(XVDA, &image).read_only();
    let reads = Plan {
        writes: 0,
        flushes: 0,
        ..Plan::MIXED
    };
    for _ in 0..3 {
        let guest = scene.guest()?;
        let mut front = scene.connect(&guest, &line, Shape::LINUX)?;
        Load::new(&mut front, &mut model, reads).run(100)?;
    }
    check_image(&image, &model)?;
    scene.no_wrong_done()
}

/// An image that is cut short under a running guest: what is missing is an error, never old memory.
#[test]
fn blk_11_an_image_that_shrinks_gives_errors() -> anyhow::Result<()> {
    use pv_tests::frontend::Io;

    for engine in ["io-uring", "threads"] {
        let mut scene = Scene::start(&format!("engine = \"{engine}\""))?;
        let mut model = Model::filled(1, SECTORS);
        let image = scene.image("a.img", &model)?;
        let guest = scene.guest()?;
        let mut front = scene.connect(&guest, &DiskLine::image(XVDA, &image), Shape::LINUX)?;
        let plan = Plan {
            writes: 0,
            flushes: 0,
            ..Plan::MIXED
        };
        Load::new(&mut front, &mut model, plan).run(100)?;
        let half = SECTORS as u64 * 256;
        fs::File::options()
            .write(true)
            .open(&image)?
            .set_len(half)?;
        let (inside, across, beyond) = (half / 512 - 8, half / 512 - 4, half / 512 + 8);
        for (sector, expected) in [(inside, 0), (across, -1), (beyond, -1)] {
            let segments = &[(0, 7)];
            let done = front.answer(&Io::Read { sector, segments })?;
            assert_eq!(done.status, expected, "{engine}: sector {sector}");
        }
        scene.no_wrong_done()?;
    }
    Ok(())
}

#[test]
fn this_machine_without_xen_is_told_what_is_missing() -> anyhow::Result<()> {
    if fs::exists("/dev/xen/evtchn")? {
        return Ok(());
    }
    let output = std::process::Command::new(pv_tests::daemon::Program::Blkback.binary()?)
        .args(["serve", "--run-dir"])
        .arg(std::env::temp_dir().join(format!("pv-no-xen-{}", std::process::id())))
        .output()?;
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success());
    assert!(told.contains("/dev/xen/evtchn is missing"), "{told}");
    assert!(told.contains("modprobe xen-evtchn"), "{told}");
    assert_eq!(told.trim().lines().count(), 1, "{told}");
    Ok(())
}

#[test]
fn a_mistake_in_the_configuration_is_told_with_its_line() -> anyhow::Result<()> {
    let scene = Scene::without_daemon("\nimage = [\"/srv\"]\n")?;
    let mut daemon = scene.daemon_start().spawn(None)?;
    assert!(!daemon.wait_exit()?.success());
    daemon.wait_log("blkback.toml:2:1: there is no key \"image\"; did you mean \"images\"?")?;
    Ok(())
}
