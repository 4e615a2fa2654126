//! The look before the open: is this a path and a file that a guest may get?

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use broker::acl::{Object, Request};
use broker::owner::Owner;
use rustix::fs::{
    CWD, FileType, Mode, OFlags, ResolveFlags, Stat, fstat, fstatfs, major, minor, openat2,
};
use rustix::io::Errno;

use super::{Access, DeviceNumber, Policy, Refusal, Wanted, names};

/// A file that was looked at, not opened: nothing has happened to it, and what is opened
/// through `handle` is this and nothing that took its name since.
///
/// Having one tells you that it is a regular file with one name on a storage file system, or a
/// block device, and that the configuration allows it to its guest.
#[derive(Debug)]
pub(super) struct Seen {
    /// An `O_PATH` descriptor.
    pub(super) handle: OwnedFd,
    /// Where it was found.
    pub(super) path: PathBuf,
    /// A block device's number; `None` for a regular file.
    pub(super) block_device: Option<DeviceNumber>,
}

/// Looks at what a toolstack wants for `guest`.
///
/// # Errors
/// BLK-17's table: everything that is not plainly a disk.
pub(super) fn look(wanted: &Wanted, policy: &Policy, guest: &Owner) -> Result<Seen, Refusal> {
    let path = &wanted.path;
    check_path(path)?;
    if !policy.images.is_empty()
        && !policy
            .images
            .iter()
            .any(|glob| glob.matches(path.as_os_str().as_bytes()))
    {
        return Err(Refusal::NotAllowed { path: path.clone() });
    }
    let (handle, linked) = find(path)?;
    let stat = fstat(&handle).map_err(|errno| system(path, "looking at it", errno))?;
    let block_device = check_kind(path, &handle, &stat)?;
    if linked && block_device.is_none() {
        return Err(symlink(path));
    }
    if let Some(named) = wanted.device_number
        && block_device != Some(named)
    {
        return Err(Refusal::OtherDevice {
            path: path.clone(),
            found: block_device.map_or_else(|| "no".to_owned(), |found| found.to_string()),
            named: named.to_string(),
        });
    }
    let seen = Seen {
        handle,
        path: path.clone(),
        block_device,
    };
    if !policy.acl.is_open() {
        let request = Request {
            owner: guest,
            object: &seen.object()?,
            writable: wanted.access != Access::ReadOnly,
        };
        policy.acl.judge(request)?;
    }
    Ok(seen)
}

impl Seen {
    /// What it is for the rules about who may have it.
    pub(super) fn object(&self) -> Result<Object, Refusal> {
        let path = &self.path;
        let real = names::real_path(self.handle.as_fd()).map_err(|error| Refusal::System {
            path: path.clone(),
            doing: "finding its real path",
            error,
        })?;
        let real = real.ok_or_else(|| Refusal::Missing { path: path.clone() })?;
        Ok(match self.block_device {
            Some(number) => names::of_device(path, &real, number),
            None => names::of_file(path, &real),
        })
    }
}

/// Where the kernel keeps the node of a block device (`/dev/dm-3` for 253:3).
///
/// # Errors
/// [`Refusal::NoDevice`] when there is no such device.
pub(super) fn device_path(number: DeviceNumber) -> Result<PathBuf, Refusal> {
    let no_device = || Refusal::NoDevice {
        number: number.to_string(),
    };
    names::node(&Path::new("/sys/dev/block").join(number.to_string())).ok_or_else(no_device)
}

/// Refuses what hides where it leads, before the kernel is asked.
fn check_path(path: &Path) -> Result<(), Refusal> {
    let bytes = path.as_os_str().as_bytes();
    let dots = |c: &[u8]| c == b"." || c == b"..";
    let fault = if bytes.is_empty() {
        return Err(Refusal::Unnamed);
    } else if !path.is_absolute() {
        Some("is relative")
    } else if bytes.len() > 4095 {
        Some("is longer than 4095 bytes")
    } else if bytes.contains(&0) {
        Some("contains a zero byte")
    } else if bytes.split(|&c| c == b'/').any(dots) {
        Some("has `.` or `..` in it")
    } else {
        None
    };
    if let Some(fault) = fault {
        return Err(Refusal::Path {
            path: path.to_owned(),
            fault,
        });
    }
    match path.components().nth(1) {
        Some(Component::Normal(top)) if top == "proc" || top == "sys" => {
            let file_system = if top == "proc" { "/proc" } else { "/sys" };
            Err(Refusal::NotStorage {
                path: path.to_owned(),
                file_system,
            })
        }
        _ => Ok(()),
    }
}

/// Finds the file without opening it; true when that led through a symbolic link, which is
/// tried only below `/dev`, where udev and LVM make them.
fn find(path: &Path) -> Result<(OwnedFd, bool), Refusal> {
    let look = |resolve| {
        openat2(
            CWD,
            path,
            OFlags::PATH | OFlags::CLOEXEC,
            Mode::empty(),
            resolve,
        )
    };
    let plain = ResolveFlags::NO_MAGICLINKS | ResolveFlags::NO_SYMLINKS;
    match look(plain) {
        Ok(handle) => Ok((handle, false)),
        Err(Errno::LOOP) if path.starts_with("/dev") => match look(ResolveFlags::NO_MAGICLINKS) {
            Ok(handle) => Ok((handle, true)),
            Err(Errno::LOOP) => Err(symlink(path)),
            Err(errno) => Err(not_found(path, errno)),
        },
        Err(Errno::LOOP) => Err(symlink(path)),
        Err(errno) => Err(not_found(path, errno)),
    }
}

/// The device number of a block device, `None` for a regular file; everything else is refused.
fn check_kind(path: &Path, handle: &OwnedFd, stat: &Stat) -> Result<Option<DeviceNumber>, Refusal> {
    let kind = match FileType::from_raw_mode(stat.st_mode) {
        FileType::BlockDevice => {
            return Ok(Some(DeviceNumber {
                major: major(stat.st_rdev),
                minor: minor(stat.st_rdev),
            }));
        }
        FileType::RegularFile => {
            check_file(path, handle, stat)?;
            return Ok(None);
        }
        FileType::Directory => "a directory",
        FileType::CharacterDevice => "a character device",
        FileType::Fifo => "a pipe",
        FileType::Socket => "a socket",
        FileType::Symlink => return Err(symlink(path)),
        FileType::Unknown => "of an unknown kind",
    };
    Err(Refusal::Kind {
        path: path.to_owned(),
        kind,
    })
}

fn check_file(path: &Path, handle: &OwnedFd, stat: &Stat) -> Result<(), Refusal> {
    let statfs =
        fstatfs(handle).map_err(|errno| system(path, "looking at its file system", errno))?;
    let magic = statfs.f_type.cast_unsigned();
    if let Some((_, file_system)) = MADE_UP.iter().find(|(known, _)| *known == magic) {
        return Err(Refusal::NotStorage {
            path: path.to_owned(),
            file_system,
        });
    }
    if stat.st_nlink == 0 {
        // Removed since it was found.
        return Err(Refusal::Missing {
            path: path.to_owned(),
        });
    }
    if stat.st_nlink > 1 {
        let links = u32::try_from(stat.st_nlink).unwrap_or(u32::MAX);
        return Err(Refusal::HardLinks {
            path: path.to_owned(),
            links,
        });
    }
    Ok(())
}

fn not_found(path: &Path, errno: Errno) -> Refusal {
    match errno {
        Errno::NOENT | Errno::NOTDIR => Refusal::Missing {
            path: path.to_owned(),
        },
        other => system(path, "finding it", other),
    }
}

/// The real path is for the text only: it may change while it is read.
fn symlink(path: &Path) -> Refusal {
    Refusal::Symlink {
        path: path.to_owned(),
        real: path
            .canonicalize()
            .unwrap_or_else(|_| PathBuf::from("the file itself")),
    }
}

fn system(path: &Path, doing: &'static str, errno: Errno) -> Refusal {
    Refusal::System {
        path: path.to_owned(),
        doing,
        error: io::Error::from(errno),
    }
}

impl std::fmt::Display for DeviceNumber {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.major, self.minor)
    }
}

/// File systems whose regular files are interfaces (`linux/magic.h`).
const MADE_UP: [(u64, &str); 12] = [
    (0x9fa0, "procfs"),
    (0x6265_6572, "sysfs"),
    (0x6462_6720, "debugfs"),
    (0x7472_6163, "tracefs"),
    (0x7363_6673, "securityfs"),
    (0x0027_e0eb, "cgroup"),
    (0x6367_7270, "cgroup2"),
    (0xcafe_4a11, "bpf"),
    (0x6165_676c, "pstore"),
    (0xde5e_81e4, "efivarfs"),
    (0x6265_6570, "configfs"),
    (0x1cd1, "devpts"),
];
