//! Opening what was looked at, with the lock on the description that the worker gets.

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use broker::acl::Object;
use broker::owner::Owner as Guest;
use ring_proto::DomId;
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use super::look::{Seen, device_path, look};
use super::{Access, Direct, Image, Owner, Policy, Refusal, Shape, Wanted, lock, shape};

/// Looks at an image and measures it without taking it: what can be refused early is.
///
/// It is opened for reading only, so that closing it wakes no udev rule.
///
/// # Errors
/// As [`open`], as far as can be told.
pub fn inspect(wanted: &Wanted, policy: &Policy, guest: &Guest) -> Result<Shape, Refusal> {
    let wanted = resolved(wanted, policy)?;
    let seen = look(&wanted, policy, guest)?;
    let file =
        reopen(&seen, OFlags::RDONLY).map_err(|errno| refused(&seen, Access::ReadOnly, errno))?;
    let free =
        lock::is_free(file.as_fd(), wanted.access).map_err(|error| no_locks(&seen.path, error))?;
    if !free {
        return Err(busy(&seen.path, "by another guest or program"));
    }
    shape::measure(file.as_fd(), &seen.path, seen.block_device.is_some())
}

/// What an image is to the rules about who may have it.
///
/// # Errors
/// It is no image.
pub fn identify(path: &Path) -> Result<Object, Refusal> {
    let wanted = Wanted {
        path: path.to_owned(),
        device_number: None,
        access: Access::ReadOnly,
        discard: false,
    };
    look(&wanted, &Policy::default(), &Guest::numbered(DomId::new(0)))?.object()
}

/// Opens, locks and measures an image for one device of a guest.
///
/// # Errors
/// Everything that BLK-17, BLK-18 and the measures forbid. [`Refusal::may_pass`] says whether to
/// try again.
pub fn open(
    wanted: &Wanted,
    policy: &Policy,
    owner: Owner,
    guest: &Guest,
) -> Result<Image, Refusal> {
    let wanted = resolved(wanted, policy)?;
    let seen = look(&wanted, policy, guest)?;
    let (file, buffered_because) = open_seen(&seen, wanted.access, policy.direct)?;
    lock::take(file.as_fd(), wanted.access, owner).map_err(|error| match error.kind() {
        io::ErrorKind::WouldBlock => busy(&seen.path, "by another guest or program"),
        _ => no_locks(&seen.path, error),
    })?;
    let mut shape = shape::measure(file.as_fd(), &seen.path, seen.block_device.is_some())?;
    if wanted.discard && wanted.access != Access::ReadOnly {
        shape.discard = shape::discard(file.as_fd(), &shape, seen.block_device);
    }
    Ok(Image {
        file,
        path: seen.path,
        shape,
        buffered_because,
    })
}

/// Fills in the path of a bare device number, and sharing that only the configuration can say.
fn resolved(wanted: &Wanted, policy: &Policy) -> Result<Wanted, Refusal> {
    let mut wanted = wanted.clone();
    if wanted.path.as_os_str().is_empty()
        && let Some(number) = wanted.device_number
    {
        wanted.path = device_path(number)?;
    }
    let bytes = std::os::unix::ffi::OsStrExt::as_bytes(wanted.path.as_os_str());
    if wanted.access == Access::Exclusive && policy.shared.iter().any(|glob| glob.matches(bytes)) {
        wanted.access = Access::Shared;
    }
    Ok(wanted)
}

/// Opens with direct I/O where that is wanted and works, else says why not.
fn open_seen(
    seen: &Seen,
    access: Access,
    direct: Direct,
) -> Result<(OwnedFd, Option<String>), Refusal> {
    let flags = match access {
        Access::ReadOnly => OFlags::RDONLY,
        Access::Shared => OFlags::RDWR,
        // A claim that mounts, md and device mapper respect too.
        Access::Exclusive if seen.block_device.is_some() => OFlags::RDWR | OFlags::EXCL,
        Access::Exclusive => OFlags::RDWR,
    };
    let plain = || reopen(seen, flags).map_err(|errno| refused(seen, access, errno));
    if direct == Direct::Off {
        return Ok((plain()?, None));
    }
    let why = match reopen(seen, flags | OFlags::DIRECT) {
        Ok(file) => {
            let sector_size =
                shape::measure(file.as_fd(), &seen.path, seen.block_device.is_some())?.sector_size;
            match shape::direct_obstacle(file.as_fd(), sector_size) {
                None => return Ok((file, None)),
                Some(why) => why,
            }
        }
        Err(Errno::INVAL) => "its file system has no direct I/O".to_owned(),
        Err(errno) => return Err(refused(seen, access, errno)),
    };
    if direct == Direct::Require {
        return Err(Refusal::NotDirect {
            path: seen.path.clone(),
            why,
        });
    }
    Ok((plain()?, Some(why)))
}

/// Opens the very file that was seen, whatever has its name by now.
fn reopen(seen: &Seen, flags: OFlags) -> Result<OwnedFd, Errno> {
    let path = PathBuf::from(format!("/proc/self/fd/{}", seen.handle.as_raw_fd()));
    let flags = flags | OFlags::CLOEXEC | OFlags::NOCTTY;
    loop {
        match rustix::fs::open(&path, flags, Mode::empty()) {
            Err(Errno::INTR) => {}
            other => return other,
        }
    }
}

fn refused(seen: &Seen, access: Access, errno: Errno) -> Refusal {
    let path = seen.path.clone();
    let error = io::Error::from(errno);
    match errno {
        Errno::BUSY => busy(&path, "by the host (mounted, or part of another device)"),
        Errno::TXTBSY => busy(&path, "by the host (it is being executed or swapped to)"),
        Errno::ROFS | Errno::ACCESS | Errno::PERM if access != Access::ReadOnly => {
            Refusal::ReadOnly { path, error }
        }
        _ => Refusal::System {
            path,
            doing: "opening it",
            error,
        },
    }
}

fn busy(path: &Path, how: &'static str) -> Refusal {
    Refusal::Busy {
        path: path.to_owned(),
        how,
    }
}

fn no_locks(path: &Path, error: io::Error) -> Refusal {
    Refusal::NoLocks {
        path: path.to_owned(),
        error,
    }
}
