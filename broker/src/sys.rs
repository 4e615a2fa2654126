//! The calls of this crate that no safe wrapper offers.
#![expect(
    unsafe_code,
    reason = "close_range, signal handlers, who is at a socket's other end, and shared memory have no \
              safe wrapper"
)]

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::ptr::NonNull;
use std::sync::OnceLock;
use std::sync::atomic::AtomicU64;

use rustix::event::{EventfdFlags, eventfd};
use rustix::io::Errno;
use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};

/// Marks every descriptor above standard error close-on-exec, so that whatever our parent left
/// open does not reach a worker. Ours are all close-on-exec from birth.
///
/// # Errors
/// The host's: a kernel before 5.11.
pub(crate) fn close_inherited_on_exec() -> io::Result<()> {
    let flags = libc::c_int::try_from(libc::CLOSE_RANGE_CLOEXEC).map_err(io::Error::other)?;
    // SAFETY: with CLOSE_RANGE_CLOEXEC the call closes nothing; it only sets a flag.
    let outcome = unsafe { libc::close_range(3, libc::c_uint::MAX, flags) };
    if outcome == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Written to by the signal handler; never closed.
static ENDING: OnceLock<OwnedFd> = OnceLock::new();

/// An eventfd that becomes readable when the process is asked to end (`SIGTERM`, `SIGINT`).
///
/// A handler and no `signalfd`, because a handler is forgotten by `exec` while the blocked
/// signals that a `signalfd` needs would stay blocked in the workers.
///
/// # Errors
/// The host's: no descriptor left.
pub(crate) fn end_requests() -> io::Result<&'static OwnedFd> {
    let fresh = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
    let fd = ENDING.get_or_init(|| fresh);
    for signal in [libc::SIGTERM, libc::SIGINT] {
        // SAFETY: all-zero is a valid sigaction (no flags, empty mask).
        let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
        action.sa_sigaction = on_end_request as extern "C" fn(libc::c_int) as usize;
        action.sa_flags = libc::SA_RESTART;
        // SAFETY: `action` lives across the call, and the handler is async-signal-safe.
        if unsafe { libc::sigaction(signal, &raw const action, std::ptr::null_mut()) } != 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(fd)
}

/// Async-signal-safe: reads an initialised static, calls `write`, restores errno.
extern "C" fn on_end_request(_signal: libc::c_int) {
    let Some(fd) = ENDING.get() else { return };
    let one = 1_u64.to_ne_bytes();
    // SAFETY: errno is this thread's own; `one` is eight readable bytes, what an eventfd takes.
    // A write that fails finds the counter full, which is as readable as can be.
    unsafe {
        let errno = libc::__errno_location();
        let before = *errno;
        libc::write(fd.as_raw_fd(), one.as_ptr().cast(), one.len());
        *errno = before;
    }
}

/// User and group of the process that made a connection (`SO_PEERCRED`).
///
/// Not rustix's, which takes the process id to be one: it is 0 for a process that we cannot see.
///
/// # Errors
/// Not a connected Unix socket.
pub(crate) fn peer_credentials(socket: BorrowedFd<'_>) -> io::Result<(u32, u32)> {
    let mut credentials = libc::ucred {
        pid: 0,
        uid: 0,
        gid: 0,
    };
    let mut length = socklen(size_of::<libc::ucred>())?;
    // SAFETY: the kernel writes at most `length` bytes to `credentials`, which lives across the call.
    let outcome = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_PEERCRED,
            (&raw mut credentials).cast(),
            &raw mut length,
        )
    };
    match outcome {
        0 => Ok((credentials.uid, credentials.gid)),
        _ => Err(io::Error::last_os_error()),
    }
}

/// The supplementary groups of the process that made a connection (`SO_PEERGROUPS`).
///
/// # Errors
/// Not a connected Unix socket.
pub(crate) fn peer_groups(socket: BorrowedFd<'_>) -> io::Result<Vec<u32>> {
    let mut groups = vec![0_u32; 64];
    loop {
        let mut length = socklen(size_of_val(&groups[..]))?;
        // SAFETY: the kernel writes at most `length` bytes, which is what `groups` has.
        let outcome = unsafe {
            libc::getsockopt(
                socket.as_raw_fd(),
                libc::SOL_SOCKET,
                libc::SO_PEERGROUPS,
                groups.as_mut_ptr().cast(),
                &raw mut length,
            )
        };
        let count = usize::try_from(length).map_err(io::Error::other)? / size_of::<u32>();
        if outcome == 0 {
            groups.truncate(count);
            return Ok(groups);
        }
        let error = io::Error::last_os_error();
        // Then `length` says how much there is.
        if error.raw_os_error() != Some(libc::ERANGE) || count <= groups.len() {
            return Err(error);
        }
        groups.resize(count, 0);
    }
}

fn socklen(bytes: usize) -> io::Result<libc::socklen_t> {
    libc::socklen_t::try_from(bytes).map_err(io::Error::other)
}

/// A mapping of numbers that another process may read and write as well.
///
/// Having one tells you that the memory is there: its file cannot be cut off.
#[derive(Debug)]
pub(crate) struct SharedNumbers {
    start: NonNull<AtomicU64>,
    count: usize,
}

impl SharedNumbers {
    /// The first `count` numbers of a file that is sealed against becoming shorter.
    ///
    /// # Errors
    /// It is no such file, there are none, or there is no memory left.
    pub(crate) fn map(file: BorrowedFd<'_>, count: usize) -> io::Result<Self> {
        let seals = rustix::fs::fcntl_get_seals(file)?;
        let length = rustix::fs::fstat(file)?.st_size;
        let bytes = count.checked_mul(size_of::<u64>()).ok_or(Errno::FBIG)?;
        let fits = usize::try_from(length).is_ok_and(|length| bytes <= length);
        if !seals.contains(rustix::fs::SealFlags::SHRINK) || !fits {
            return Err(Errno::INVAL.into());
        }
        let protection = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: a mapping at an address that the kernel chooses touches no other memory.
        let start = unsafe {
            mmap(
                std::ptr::null_mut(),
                bytes,
                protection,
                MapFlags::SHARED,
                file,
                0,
            )
        }?;
        let start = NonNull::new(start.cast()).ok_or(Errno::NOMEM)?;
        Ok(Self { start, count })
    }

    pub(crate) fn all(&self) -> &[AtomicU64] {
        // SAFETY: the mapping is of so many numbers, aligned to a page, and lives as long as `self`;
        // its file stays as long as it is. Atomics may be written by others meanwhile.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.count) }
    }
}

impl Drop for SharedNumbers {
    fn drop(&mut self) {
        // SAFETY: the mapping is ours, whole, and nobody borrows from it any more.
        let _infallible =
            unsafe { munmap(self.start.as_ptr().cast(), self.count * size_of::<u64>()) };
    }
}

// SAFETY: the memory is atomics, which threads share.
unsafe impl Send for SharedNumbers {}
// SAFETY: as above.
unsafe impl Sync for SharedNumbers {}
