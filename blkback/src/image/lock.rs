//! Who may use an image at one time: the locks that the worker's file description carries.
//!
//! - The image lock covers everything up to [`FENCES`]: exclusive for `w`, shared for `r` and
//!   `w!`. Ranges that other programs lock (QEMU locks single bytes near the beginning) lie
//!   within it, so a disk that they write is noticed.
//! - The fence is one byte beyond, different for every device, always exclusive. A later worker
//!   of the same device waits for it: when it is had, the last write of the dead one has landed,
//!   even on an image whose image lock is shared. A reader writes nothing and needs none.

use std::io;
use std::os::fd::BorrowedFd;

use super::sys::{self, LockKind};
use super::{Access, Owner};

/// Where the fence bytes begin, in bytes; beyond any file or device.
const FENCES: i64 = 1 << 62;

/// Takes the locks of a device.
///
/// # Errors
/// `WouldBlock` when somebody else has a conflicting one.
pub(super) fn take(file: BorrowedFd<'_>, access: Access, owner: Owner) -> io::Result<()> {
    sys::lock(file, image_lock(access), 0, FENCES)?;
    if access == Access::ReadOnly {
        return Ok(());
    }
    sys::lock(file, LockKind::Exclusive, fence_at(owner), 1)
}

/// Would the image lock be had now? The file may be open for reading only.
///
/// # Errors
/// The file system has no locks.
pub(super) fn is_free(file: BorrowedFd<'_>, access: Access) -> io::Result<bool> {
    sys::lock_is_free(file, image_lock(access), 0, FENCES)
}

const fn image_lock(access: Access) -> LockKind {
    match access {
        Access::Exclusive => LockKind::Exclusive,
        Access::ReadOnly | Access::Shared => LockKind::Shared,
    }
}

fn fence_at(owner: Owner) -> i64 {
    FENCES + (i64::from(owner.domid) << 32) + i64::from(owner.vdev)
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use super::*;

    const DEVICE: Owner = Owner {
        domid: 7,
        vdev: 51712,
    };
    const OTHER: Owner = Owner {
        domid: 9,
        vdev: 51712,
    };

    #[test]
    fn blk_18_who_may_share_with_whom_in_both_orders() {
        use Access::{Exclusive, ReadOnly, Shared};
        let cases = [
            (ReadOnly, ReadOnly, true),
            (ReadOnly, Exclusive, false),
            (ReadOnly, Shared, true),
            (Exclusive, Exclusive, false),
            (Exclusive, Shared, false),
            (Shared, Shared, true),
        ];
        for (one, two, together) in cases {
            for (first, second) in [(one, two), (two, one)] {
                let path = tempfile("share");
                let (a, b) = (reopen(&path), reopen(&path));
                take(a.as_fd(), first, DEVICE).unwrap();
                assert_eq!(
                    is_free(b.as_fd(), second).unwrap(),
                    together,
                    "{first:?} {second:?}"
                );
                assert_eq!(
                    take(b.as_fd(), second, OTHER).is_ok(),
                    together,
                    "{first:?} {second:?}"
                );
                std::fs::remove_file(path).unwrap();
            }
        }
    }

    #[test]
    fn the_fence_keeps_a_successor_of_the_same_device_out_of_a_shared_image() {
        let path = tempfile("fence");
        let (old, new) = (reopen(&path), reopen(&path));
        take(old.as_fd(), Access::Shared, DEVICE).unwrap();
        let refused = take(new.as_fd(), Access::Shared, DEVICE).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::WouldBlock);
        drop(old);
        take(new.as_fd(), Access::Shared, DEVICE).unwrap();
        std::fs::remove_file(path).unwrap();
    }

    #[test]
    fn the_lock_ends_with_the_last_duplicate_and_not_before() {
        let path = tempfile("dup");
        let (old, new) = (reopen(&path), reopen(&path));
        take(old.as_fd(), Access::Exclusive, DEVICE).unwrap();
        let in_the_worker = old.try_clone().unwrap();
        drop(old);
        assert!(!is_free(new.as_fd(), Access::ReadOnly).unwrap());
        drop(in_the_worker);
        assert!(is_free(new.as_fd(), Access::ReadOnly).unwrap());
        std::fs::remove_file(path).unwrap();
    }

    #[test]
    fn the_largest_ids_have_a_fence_of_their_own() {
        let last = Owner {
            domid: u16::MAX,
            vdev: u32::MAX,
        };
        assert!(fence_at(last) > fence_at(Owner { vdev: 0, ..last }));
        assert!(
            fence_at(Owner { domid: 1, vdev: 0 })
                > fence_at(Owner {
                    domid: 0,
                    vdev: u32::MAX
                })
        );
    }

    fn tempfile(name: &str) -> std::path::PathBuf {
        let path = std::env::temp_dir().join(format!("lock-{name}-{}", std::process::id()));
        std::fs::write(&path, [0; 512]).unwrap();
        path
    }

    fn reopen(path: &std::path::Path) -> std::fs::File {
        std::fs::File::options()
            .read(true)
            .write(true)
            .open(path)
            .unwrap()
    }
}
