//! Which guest may have which image, however it is called and whatever is swapped meanwhile.

use broker::acl::{Acl, Dialect, Entry, Fallback};
use serde::Deserialize;

use super::*;

#[derive(Deserialize)]
struct Rules {
    acl: Vec<Entry>,
}

/// A policy that grants nothing but what `rules` say.
fn only(rules: &str) -> Policy {
    let parsed: Rules = toml::from_str(rules).unwrap();
    let file = Path::new("/etc/b.toml");
    let acl = Acl::parse(file, rules, Dialect::DISKS, &parsed.acl, Fallback::Deny).unwrap();
    Policy {
        acl,
        ..Policy::default()
    }
}

fn told(wanted: &Wanted, policy: &Policy, name: &str) -> String {
    let early = crate::image::inspect(wanted, policy, &guest(name)).unwrap_err();
    let late = crate::image::open(wanted, policy, OWNER, &guest(name)).unwrap_err();
    assert_eq!(early.to_string(), late.to_string());
    assert!(matches!(late, Refusal::Denied(_)), "{late}");
    assert!(!late.may_pass());
    late.to_string()
}

fn granted(wanted: &Wanted, policy: &Policy, name: &str) -> Image {
    crate::image::inspect(wanted, policy, &guest(name)).unwrap();
    crate::image::open(wanted, policy, OWNER, &guest(name)).unwrap()
}

#[test]
fn an_image_is_for_whom_it_is_meant() {
    let dir = Scratch::new("aclwhom");
    let image = dir.file("web.img", 1 << 20);
    let policy = only(&format!(
        "[[acl]]\ndomain = \"web-*\"\npaths = \"{}*.img\"",
        dir.path("").display()
    ));
    let wish = wanted(&image, Access::Exclusive);
    drop(granted(&wish, &policy, "web-1"));
    let text = told(&wish, &policy, "db");
    let path = format!("{image:?}");
    for part in ["acl-default", "/etc/b.toml", "guest 7 (\"db\")", &path] {
        assert!(text.contains(part), "{text}");
    }
}

#[test]
fn blk_06_a_grant_for_reading_refuses_a_writer_and_does_not_turn_it_into_a_reader() {
    let dir = Scratch::new("aclread");
    let image = dir.file("iso.img", 1 << 20);
    let policy = only("[[acl]]\npaths = \"/**\"\naccess = \"read-only\"");
    for access in [Access::Exclusive, Access::Shared] {
        let text = told(&wanted(&image, access), &policy, "web-1");
        assert!(text.contains("/etc/b.toml:1 grants guest 7"), "{text}");
        assert!(text.contains("for reading only"), "{text}");
    }
    granted(&wanted(&image, Access::ReadOnly), &policy, "web-1");
}

#[test]
fn an_image_that_may_not_be_had_is_not_opened() {
    use rustix::fs::inotify;

    let dir = Scratch::new("aclopen");
    let image = dir.file("db.img", 1 << 20);
    let watch = inotify::init(inotify::CreateFlags::NONBLOCK).unwrap();
    inotify::add_watch(&watch, &image, inotify::WatchFlags::OPEN).unwrap();
    let opened = || rustix::io::read(&watch, &mut [0_u8; 4096]).is_ok();
    told(
        &wanted(&image, Access::Exclusive),
        &only("acl = []"),
        "web-1",
    );
    assert!(!opened(), "it was opened");
    File::open(&image).unwrap();
    assert!(opened(), "opening would not have been seen");
}

#[test]
fn blk_17_no_link_gets_around_a_rule() {
    let dir = Scratch::new("acllink");
    let image = dir.file("db.img", 1 << 20);
    let Some(device) = Loop::over(&image, 512) else {
        return;
    };
    // A link below /dev is followed, and what it leads to is judged.
    let links = PathBuf::from(format!("/dev/acl-test-{}", std::process::id()));
    fs::create_dir(&links).unwrap();
    let link = links.join("web");
    symlink(&device.path, &link).unwrap();
    let to_links = only(&format!("[[acl]]\npaths = \"{}/**\"", links.display()));
    let by_link = wanted(&link, Access::Exclusive);
    let text = told(&by_link, &to_links, "web-1");
    let to_device = only(&format!("[[acl]]\npaths = {:?}", device.path));
    let by_device = crate::image::open(&by_link, &to_device, OWNER, &guest("web-1"));
    // And a loop device is what is behind it.
    let not_behind = only(&format!(
        "[[acl]]\npaths = {image:?}\ndeny = true\n\n[[acl]]\npaths = \"/**\""
    ));
    let behind = told(&by_link, &not_behind, "web-1");
    fs::remove_dir_all(&links).unwrap();
    assert!(text.contains(device.path.to_str().unwrap()), "{text}");
    assert!(text.contains(image.to_str().unwrap()), "{text}");
    drop(by_device.unwrap());
    assert!(behind.contains("/etc/b.toml:1 denies"), "{behind}");

    // A node that somebody made elsewhere lends nothing its directory's name.
    let node = dir.path("web.img");
    let number = device.number();
    let number = rustix::fs::makedev(number.major, number.minor);
    let mode = Mode::RUSR | Mode::WUSR;
    mknodat(CWD, &node, FileType::BlockDevice, mode, number).unwrap();
    told(
        &wanted(&node, Access::ReadOnly),
        &only(&format!("[[acl]]\npaths = {node:?}")),
        "web-1",
    );
}

/// Whoever may rename files in a granted directory swaps directories while images are opened. What
/// is opened then was found below the granted one, whatever it was called a moment later.
#[test]
fn blk_17_a_directory_that_is_swapped_meanwhile_gets_nobody_another_image() {
    use rustix::fs::{RenameFlags, renameat_with};

    let dir = Scratch::new("aclrace");
    for name in ["web", "db"] {
        fs::create_dir(dir.path(name)).unwrap();
    }
    fs::create_dir(dir.path("web/disks")).unwrap();
    let image = dir.file("web/disks/disk.img", 1 << 20);
    let secret = dir.file("db/disk.img", 4096);
    symlink(dir.path("db"), dir.path("web/link")).unwrap();
    let policy = only(&format!(
        "[[acl]]\ndomain = \"web\"\npaths = \"{}/**\"",
        dir.path("web").display()
    ));
    let stop = std::sync::atomic::AtomicBool::new(false);
    let relaxed = std::sync::atomic::Ordering::Relaxed;
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let (disks, link) = (dir.path("web/disks"), dir.path("web/link"));
            while !stop.load(relaxed) {
                renameat_with(CWD, &disks, CWD, &link, RenameFlags::EXCHANGE).unwrap();
            }
        });
        let (mut opened, mut refused) = (0, 0);
        while opened < 300 || refused < 300 {
            let wish = wanted(&image, Access::Exclusive);
            match crate::image::open(&wish, &policy, OWNER, &guest("web")) {
                Ok(image) => {
                    assert_eq!(image.shape.sectors, 2048, "the secret was opened");
                    opened += 1;
                }
                Err(_) => refused += 1,
            }
            let wish = wanted(&secret, Access::ReadOnly);
            assert!(crate::image::open(&wish, &policy, OWNER, &guest("web")).is_err());
        }
        stop.store(true, relaxed);
    });
}
