//! What is refused and what is not, on real files, links, pipes and loop devices.

use std::fs::{self, File};
use std::os::fd::AsFd;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use broker::owner::Owner as Guest;
use rustix::fs::{CWD, FileType, Mode, OFlags, fcntl_getfl, mknodat};

use self::scratch::Loop;
pub(super) use self::scratch::Scratch;
use super::*;

mod acl;
mod devices;
mod raw;
mod scratch;

const OWNER: Owner = Owner {
    domid: 7,
    vdev: 51712,
};

#[test]
fn blk_17_paths_that_are_no_disks_are_refused_and_not_opened() {
    let dir = Scratch::new("blk17");
    let image = dir.file("good.img", 1 << 20);
    symlink(&image, dir.path("link.img")).unwrap();
    symlink(dir.path("."), dir.path("dirlink")).unwrap();
    symlink(dir.path("nowhere"), dir.path("dangling")).unwrap();
    fs::create_dir(dir.path("directory")).unwrap();
    // Opening a pipe for reading would wait for ever.
    mknodat(CWD, dir.path("pipe"), FileType::Fifo, Mode::RWXU, 0).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(dir.path("socket")).unwrap();
    let linked = dir.file("named-twice.img", 1 << 20);
    fs::hard_link(&linked, dir.path("other-guests.img")).unwrap();
    let opened_by_us = File::open(&image).unwrap();
    let own_fd = format!(
        "/proc/self/fd/{}",
        std::os::fd::AsRawFd::as_raw_fd(&opened_by_us)
    );

    let dir_text = dir.path("").display().to_string();
    let cases: [(&str, String, &str); 22] = [
        ("empty", String::new(), "has no image"),
        ("relative", "good.img".into(), "is relative"),
        (
            "dot dot",
            format!("{dir_text}directory/../good.img"),
            "`.` or `..`",
        ),
        ("dot", format!("{dir_text}./good.img"), "`.` or `..`"),
        (
            "zero byte",
            format!("{dir_text}good.img\0.raw"),
            "zero byte",
        ),
        (
            "too long",
            format!("/{}", "x".repeat(5000)),
            "longer than 4095",
        ),
        (
            "missing",
            format!("{dir_text}missing.img"),
            "does not exist",
        ),
        (
            "below a file",
            format!("{dir_text}good.img/below"),
            "does not exist",
        ),
        (
            "directory",
            format!("{dir_text}directory"),
            "is a directory",
        ),
        ("root", "/".into(), "is a directory"),
        ("link", format!("{dir_text}link.img"), "symbolic link"),
        (
            "link on the way",
            format!("{dir_text}dirlink/good.img"),
            "symbolic link",
        ),
        (
            "dangling link",
            format!("{dir_text}dangling"),
            "symbolic link",
        ),
        ("pipe", format!("{dir_text}pipe"), "is a pipe"),
        ("socket", format!("{dir_text}socket"), "is a socket"),
        ("hard link", format!("{dir_text}named-twice.img"), "2 names"),
        (
            "other name",
            format!("{dir_text}other-guests.img"),
            "2 names",
        ),
        ("open file", own_fd, "not storage"),
        ("open file by /dev", "/dev/fd/0".into(), "symbolic link"),
        ("memory", "/dev/mem".into(), "character device"),
        (
            "kernel file",
            "/sys/kernel/uevent_seqnum".into(),
            "not storage",
        ),
        ("zero device", "/dev/zero".into(), "character device"),
    ];
    for (name, path, expected) in cases {
        if name == "memory" && !Path::new(&path).exists() {
            continue;
        }
        for access in [Access::ReadOnly, Access::Exclusive, Access::Shared] {
            let wanted = wanted(Path::new(&path), access);
            let early = inspect(&wanted, &Policy::default())
                .unwrap_err()
                .to_string();
            let late = open(&wanted, &Policy::default(), OWNER)
                .unwrap_err()
                .to_string();
            assert!(early.contains(expected), "{name}: {early}");
            assert!(late.contains(expected), "{name}: {late}");
        }
    }
}

#[test]
fn blk_17_a_link_names_the_path_to_use_instead() {
    let dir = Scratch::new("real");
    let image = dir.file("good.img", 1 << 20);
    symlink(&image, dir.path("link.img")).unwrap();
    let text = refusal(&wanted(&dir.path("link.img"), Access::Exclusive)).to_string();
    assert!(text.contains(image.to_str().unwrap()), "{text}");
}

#[test]
fn blk_17_what_is_opened_is_what_was_looked_at_however_names_are_swapped() {
    let dir = Scratch::new("race");
    let (image, secret) = (dir.path("disk.img"), dir.file("secret", 4096));
    dir.file("disk.img", 1 << 20);
    let stop = std::sync::atomic::AtomicBool::new(false);
    let relaxed = std::sync::atomic::Ordering::Relaxed;
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let (spare, link) = (dir.path("spare.img"), dir.path("link"));
            while !stop.load(relaxed) {
                symlink(&secret, &link).unwrap();
                fs::rename(&image, &spare).unwrap();
                fs::rename(&link, &image).unwrap();
                fs::rename(&spare, &image).unwrap();
            }
        });
        let mut opened = 0;
        for _ in 0..3000 {
            if let Ok(image) = open(
                &wanted(&image, Access::Exclusive),
                &Policy::default(),
                OWNER,
            ) {
                assert_eq!(image.shape.sectors, 2048, "the secret was opened");
                opened += 1;
            }
        }
        stop.store(true, relaxed);
        assert!(opened > 0, "the race was never won by the honest file");
    });
}

#[test]
fn the_allow_list_decides_before_the_file_is_touched() {
    let dir = Scratch::new("allow");
    let image = dir.file("good.img", 1 << 20);
    let pattern = format!("{}*.img", dir.path("").display());
    let policy = |text: &str| Policy {
        images: vec![Glob::path(text).unwrap()],
        ..Policy::default()
    };
    let wanted = wanted(&image, Access::Exclusive);
    open(&wanted, &policy(&pattern), OWNER).unwrap();
    let refused = open(&wanted, &policy("/elsewhere/**"), OWNER).unwrap_err();
    assert!(matches!(refused, Refusal::NotAllowed { .. }));
    assert!(refused.to_string().contains("`images`"));
}

#[test]
fn blk_18_a_second_writer_is_refused_in_both_orders_and_may_come_later() {
    let dir = Scratch::new("blk18");
    let image = dir.file("disk.img", 1 << 20);
    let other = Owner {
        domid: 8,
        vdev: 51728,
    };
    for (first, second) in [
        (Access::Exclusive, Access::Exclusive),
        (Access::Exclusive, Access::ReadOnly),
        (Access::ReadOnly, Access::Exclusive),
    ] {
        let held = open(&wanted(&image, first), &Policy::default(), OWNER).unwrap();
        let wish = wanted(&image, second);
        let early = inspect(&wish, &Policy::default()).unwrap_err();
        let late = open(&wish, &Policy::default(), other).unwrap_err();
        assert!(early.may_pass() && late.may_pass(), "{early} / {late}");
        assert!(late.to_string().contains("in use"), "{late}");
        drop(held);
        open(&wish, &Policy::default(), other).unwrap();
    }
}

#[test]
fn blk_18_sharing_is_what_the_configuration_says() {
    let dir = Scratch::new("shared");
    let image = dir.file("cluster.img", 1 << 20);
    let policy = Policy {
        shared: vec![Glob::path(image.to_str().unwrap()).unwrap()],
        ..Policy::default()
    };
    let wish = wanted(&image, Access::Exclusive);
    let _one = open(&wish, &policy, OWNER).unwrap();
    let _two = open(
        &wish,
        &policy,
        Owner {
            domid: 8,
            vdev: 51712,
        },
    )
    .unwrap();
}

#[test]
fn blk_06_a_read_only_disk_is_opened_for_reading_only() {
    let dir = Scratch::new("blk06");
    let image = dir.file("disk.img", 1 << 20);
    let opened = open(&wanted(&image, Access::ReadOnly), &Policy::default(), OWNER).unwrap();
    let flags = fcntl_getfl(&opened.file).unwrap();
    assert_eq!(flags & OFlags::RWMODE, OFlags::RDONLY);
    assert_eq!(opened.shape.discard, None);
    assert!(rustix::io::write(&opened.file, &[0; 512]).is_err());
    let writable = open(
        &wanted(&dir.file("w.img", 4096), Access::Exclusive),
        &Policy::default(),
        OWNER,
    );
    let flags = fcntl_getfl(writable.unwrap().file).unwrap();
    assert_eq!(flags & OFlags::RWMODE, OFlags::RDWR);
}

#[test]
fn odd_sizes_are_refused_with_the_command_that_mends_them() {
    let dir = Scratch::new("sizes");
    for (size, expected) in [
        (0, "is empty"),
        (1, "not a multiple of its 512-byte blocks"),
        (511, "not a multiple"),
        ((1 << 20) + 1, "1048577 bytes"),
        ((1 << 20) - 100, "truncate -s %512"),
    ] {
        let image = dir.file("odd.img", size);
        let wanted = wanted(&image, Access::Exclusive);
        let early = inspect(&wanted, &Policy::default())
            .unwrap_err()
            .to_string();
        let late = refusal(&wanted).to_string();
        assert!(
            early.contains(expected) && late.contains(expected),
            "{size}: {early} / {late}"
        );
        assert!(late.contains("truncate -s"), "{late}");
    }
    for size in [512, 1 << 20, (1 << 20) + 512] {
        let image = dir.file("even.img", size);
        let opened = open(
            &wanted(&image, Access::Exclusive),
            &Policy::default(),
            OWNER,
        )
        .unwrap();
        let shape = opened.shape;
        assert_eq!((shape.sectors, shape.sector_size), (size / 512, 512));
        assert_eq!(size % u64::from(shape.physical_sector_size), 0);
        assert!(!shape.block_device);
    }
}

#[test]
fn direct_io_is_a_matter_of_policy() {
    let dir = Scratch::new("direct");
    let image = dir.file("disk.img", 1 << 20);
    let with = |direct| {
        let policy = Policy {
            direct,
            ..Policy::default()
        };
        open(&wanted(&image, Access::Exclusive), &policy, OWNER)
    };
    let off = with(Direct::Off).unwrap();
    assert!(!fcntl_getfl(&off.file).unwrap().contains(OFlags::DIRECT));
    assert_eq!(off.buffered_because, None);
    drop(off);
    let auto = with(Direct::Auto).unwrap();
    let is_direct = fcntl_getfl(&auto.file).unwrap().contains(OFlags::DIRECT);
    assert_eq!(is_direct, auto.buffered_because.is_none());
    drop(auto);
    assert_eq!(with(Direct::Require).is_ok(), is_direct);
}

#[test]
fn a_file_that_can_punch_holes_offers_discard_only_when_wanted_and_writable() {
    let dir = Scratch::new("discard");
    let image = dir.file("disk.img", 1 << 20);
    let mut wish = wanted(&image, Access::Exclusive);
    assert_eq!(
        open(&wish, &Policy::default(), OWNER)
            .unwrap()
            .shape
            .discard,
        None
    );
    wish.discard = true;
    let opened = open(&wish, &Policy::default(), OWNER).unwrap();
    if let Some(discard) = opened.shape.discard {
        assert_eq!(discard.granularity % 512, 0);
        assert_eq!(discard.alignment, 0);
    }
    assert_eq!(
        fs::metadata(&image).unwrap().len(),
        1 << 20,
        "the probe changed the image"
    );
    drop(opened);
    wish.access = Access::ReadOnly;
    assert_eq!(
        open(&wish, &Policy::default(), OWNER)
            .unwrap()
            .shape
            .discard,
        None
    );
}

#[test]
fn fe_19_the_lock_is_on_the_description_that_is_handed_over() {
    let dir = Scratch::new("handover");
    let image = dir.file("disk.img", 1 << 20);
    let opened = open(
        &wanted(&image, Access::Exclusive),
        &Policy::default(),
        OWNER,
    )
    .unwrap();
    let in_the_worker = opened.file.as_fd().try_clone_to_owned().unwrap();
    drop(opened);
    let wish = wanted(&image, Access::Exclusive);
    assert!(refusal(&wish).may_pass());
    drop(in_the_worker);
    open(&wish, &Policy::default(), OWNER).unwrap();
}

fn wanted(path: &Path, access: Access) -> Wanted {
    Wanted {
        path: path.to_owned(),
        device_number: None,
        access,
        discard: false,
    }
}

/// As the tests that are not about rules want it: for whoever asks.
fn inspect(wanted: &Wanted, policy: &Policy) -> Result<Shape, Refusal> {
    super::inspect(wanted, policy, &guest("anybody"))
}

fn open(wanted: &Wanted, policy: &Policy, owner: Owner) -> Result<Image, Refusal> {
    super::open(wanted, policy, owner, &guest("anybody"))
}

fn guest(name: &str) -> Guest {
    Guest {
        domid: ring_proto::DomId::new(OWNER.domid),
        name: Some(name.to_owned()),
        uuid: None,
    }
}

fn refusal(wanted: &Wanted) -> Refusal {
    open(wanted, &Policy::default(), OWNER).unwrap_err()
}
