//! Open file description locks, which no safe wrapper offers.
#![expect(unsafe_code, reason = "fcntl(F_OFD_SETLK) has no safe wrapper")]

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

/// Kind of a byte-range lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LockKind {
    /// Excludes exclusive locks; needs a file open for reading.
    Shared,
    /// Excludes all other locks; needs a file open for writing.
    Exclusive,
}

/// Takes a lock on `length` bytes from `start`, owned by the open file description: it ends with
/// the last descriptor *and the last operation* on that description, in whatever process.
///
/// # Errors
/// `WouldBlock` when another description holds a conflicting lock.
pub(super) fn lock(
    file: BorrowedFd<'_>,
    kind: LockKind,
    start: i64,
    length: i64,
) -> io::Result<()> {
    let mut range = range(kind, start, length);
    fcntl(file, libc::F_OFD_SETLK, &mut range)
}

/// Would [`lock`] succeed now?
///
/// # Errors
/// The file system has no locks.
pub(super) fn lock_is_free(
    file: BorrowedFd<'_>,
    kind: LockKind,
    start: i64,
    length: i64,
) -> io::Result<bool> {
    let mut range = range(kind, start, length);
    fcntl(file, libc::F_OFD_GETLK, &mut range)?;
    Ok(libc::c_int::from(range.l_type) == libc::F_UNLCK)
}

fn range(kind: LockKind, start: i64, length: i64) -> libc::flock {
    // SAFETY: all-zero is a valid flock; OFD locks require l_pid to be zero.
    let mut range: libc::flock = unsafe { std::mem::zeroed() };
    range.l_type = match kind {
        LockKind::Shared => F_RDLCK,
        LockKind::Exclusive => F_WRLCK,
    };
    range.l_whence = SEEK_SET;
    range.l_start = start;
    range.l_len = length;
    range
}

fn fcntl(file: BorrowedFd<'_>, command: libc::c_int, range: &mut libc::flock) -> io::Result<()> {
    loop {
        // SAFETY: `range` is a valid flock for the whole call, which both commands take.
        let outcome = unsafe { libc::fcntl(file.as_raw_fd(), command, std::ptr::from_mut(range)) };
        if outcome != -1 {
            return Ok(());
        }
        let error = io::Error::last_os_error();
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(error);
        }
    }
}

/// `libc` gives these as `c_int`; the structure has `short`s (`fcntl.h`, asserted below).
const F_RDLCK: libc::c_short = 0;
const F_WRLCK: libc::c_short = 1;
const SEEK_SET: libc::c_short = 0;

const _: () = {
    assert!(F_RDLCK as libc::c_int == libc::F_RDLCK as libc::c_int);
    assert!(F_WRLCK as libc::c_int == libc::F_WRLCK as libc::c_int);
    assert!(SEEK_SET as libc::c_int == libc::SEEK_SET);
};
