//! The calls of this crate that no safe wrapper offers.
#![expect(
    unsafe_code,
    reason = "close_range and signal handlers have no safe wrapper"
)]

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::OnceLock;

use rustix::event::{EventfdFlags, eventfd};

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
