//! What the kernel calls what was found, whatever a toolstack called it.

use std::ffi::OsString;
use std::fs;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use broker::acl::{Kind, Object};

use super::DeviceNumber;

/// A file by its one path.
pub(super) fn of_file(wanted: &Path, real: &Path) -> Object {
    shown(wanted).named(Kind::Path, real.as_os_str().as_bytes())
}

/// A block device by the kernel's name, and by what it is made of: a loop device by the file behind
/// it, a device-mapper device by its name, a logical volume by group and volume. A node counts only
/// in `/dev`: elsewhere it would lend any device the name of its directory.
pub(super) fn of_device(wanted: &Path, real: &Path, number: DeviceNumber) -> Object {
    of_device_in(Path::new("/sys/dev/block"), wanted, real, number)
}

fn of_device_in(devices: &Path, wanted: &Path, real: &Path, number: DeviceNumber) -> Object {
    let mut object = match real.starts_with("/dev") {
        true => of_file(wanted, real),
        false => shown(wanted),
    };
    let device = devices.join(number.to_string());
    if let Some(node) = node(&device) {
        object = object.named(Kind::Path, node.as_os_str().as_bytes());
    }
    if let Some(file) = loop_file(&device) {
        object = object.named(Kind::Path, file);
    }
    let Some(name) = line(&device.join("dm/name")) else {
        return object;
    };
    object = object.named(Kind::Path, [b"/dev/mapper/", &name[..]].concat());
    let uuid = line(&device.join("dm/uuid")).unwrap_or_default();
    match volume(&name).filter(|_| uuid.starts_with(b"LVM-")) {
        Some((group, volume)) => {
            let volume = [group, volume].join(&b'/');
            object
                .named(Kind::Path, [b"/dev/", &volume[..]].concat())
                .named(Kind::Volume, volume)
        }
        None => object,
    }
}

/// Where the descriptor's file is now. `None` when it has no name here: it was removed, or lies
/// beyond our root.
pub(super) fn real_path(handle: BorrowedFd<'_>) -> std::io::Result<Option<PathBuf>> {
    let path = fs::read_link(format!("/proc/self/fd/{}", handle.as_raw_fd()))?;
    Ok(path.is_absolute().then_some(path))
}

/// The kernel's node of a device (`/dev/dm-3` for 253:3).
pub(super) fn node(device: &Path) -> Option<PathBuf> {
    let uevent = fs::read(device.join("uevent")).ok()?;
    let name = uevent
        .split(|&c| c == b'\n')
        .find_map(|line| line.strip_prefix(b"DEVNAME="))?;
    Some(Path::new("/dev").join(OsString::from_vec(name.to_vec())))
}

/// The file behind a loop device, or behind that which this is a partition of. One that was removed
/// is called as it was: its old name may be another file's by now, but it is no other's image.
fn loop_file(device: &Path) -> Option<Vec<u8>> {
    // For a partition, which is a directory below its disk's, `..` is followed by the kernel.
    let files = ["loop/backing_file", "../loop/backing_file"];
    let file = files.iter().find_map(|file| line(&device.join(file)))?;
    let file = file.strip_suffix(b" (deleted)").unwrap_or(&file);
    file.starts_with(b"/").then(|| file.to_vec())
}

fn line(path: &Path) -> Option<Vec<u8>> {
    let mut text = fs::read(path).ok()?;
    if text.last() == Some(&b'\n') {
        text.pop();
    }
    (!text.is_empty()).then_some(text)
}

/// Group and volume of a device-mapper name by LVM's rule: joined by a `-`, their own doubled. `None`
/// for what LVM keeps below its volumes (`vg0-web-real`).
fn volume(name: &[u8]) -> Option<(Vec<u8>, Vec<u8>)> {
    let mut parts = vec![Vec::new()];
    let mut letters = name.iter().copied().peekable();
    while let Some(letter) = letters.next() {
        if letter == b'-' && letters.next_if_eq(&b'-').is_none() {
            parts.push(Vec::new());
        } else if let Some(part) = parts.last_mut() {
            part.push(letter);
        }
    }
    match <[Vec<u8>; 2]>::try_from(parts) {
        Ok([group, volume]) if !group.is_empty() && !volume.is_empty() => Some((group, volume)),
        _ => None,
    }
}

fn shown(wanted: &Path) -> Object {
    Object::new(format!("image {wanted:?}"))
}

#[cfg(test)]
mod tests {
    use super::super::tests::Scratch;
    use super::*;

    const NUMBER: DeviceNumber = DeviceNumber {
        major: 253,
        minor: 3,
    };

    /// A device as `/sys/dev/block` shows it.
    fn device(dir: &Scratch, files: &[(&str, &str)]) -> Vec<String> {
        for (name, text) in files {
            let path = dir.path(&format!("253:3/{name}"));
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        let path = Path::new("/dev/x");
        let object = of_device_in(&dir.path(""), path, path, NUMBER);
        let names = object
            .names()
            .map(|(kind, name)| format!("{} {}", kind.key(), String::from_utf8_lossy(name)));
        names.collect()
    }

    #[test]
    fn a_logical_volume_is_known_by_group_and_volume() {
        let dir = Scratch::new("lv");
        let names = device(
            &dir,
            &[
                ("uevent", "MAJOR=253\nMINOR=3\nDEVNAME=dm-3\n"),
                ("dm/name", "vg0-web--1\n"),
                ("dm/uuid", "LVM-abcdef\n"),
            ],
        );
        let expected = [
            "paths /dev/x",
            "paths /dev/dm-3",
            "paths /dev/mapper/vg0-web--1",
            "paths /dev/vg0/web-1",
            "volumes vg0/web-1",
        ];
        assert_eq!(names, expected);
    }

    #[test]
    fn what_only_looks_like_a_volume_is_none() {
        let dir = Scratch::new("dm");
        let names = device(&dir, &[("dm/name", "vg0-web\n"), ("dm/uuid", "CRYPT-x\n")]);
        assert_eq!(names, ["paths /dev/x", "paths /dev/mapper/vg0-web"]);
        for (name, expected) in [
            ("vg0-web", Some(("vg0", "web"))),
            ("v--g-w--eb", Some(("v-g", "w-eb"))),
            ("vg----0-web", Some(("vg--0", "web"))),
            ("vg0-web-real", None),
            ("vg0-pool_tdata-x", None),
            ("vg0", None),
            ("vg0-", None),
            ("-web", None),
            ("", None),
        ] {
            let expected = expected.map(|(group, volume)| (group.into(), volume.into()));
            assert_eq!(volume(name.as_bytes()), expected, "{name}");
        }
    }

    #[test]
    fn a_loop_device_is_known_by_its_file() {
        let dir = Scratch::new("loopname");
        let names = device(&dir, &[("loop/backing_file", "/srv/a b.img (deleted)\n")]);
        assert_eq!(names, ["paths /dev/x", "paths /srv/a b.img"]);
    }
}
