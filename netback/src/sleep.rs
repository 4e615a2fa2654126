//! How a thread sleeps until a descriptor is ready.

use std::io;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::io::Errno;

/// Sleeps until one of them is ready, at most so long; which ones are. A signal may wake it early.
///
/// # Errors
/// The system has no memory left, or a mistake in this program.
pub(crate) fn poll(fds: &mut [PollFd<'_>], timeout: Option<Timespec>) -> io::Result<()> {
    match rustix::event::poll(fds, timeout.as_ref()) {
        Ok(_) | Err(Errno::INTR) => Ok(()),
        Err(errno) => Err(errno.into()),
    }
}

/// Is the descriptor ready?
pub(crate) fn is_ready(fd: &PollFd<'_>) -> bool {
    fd.revents() != PollFlags::empty()
}

/// How long until then, rounded up: a deadline that is reached a moment early would be polled for.
pub(crate) fn until(deadline: Instant) -> Timespec {
    let left = deadline.saturating_duration_since(Instant::now());
    Timespec::try_from(left + Duration::from_nanos(1)).unwrap_or_default()
}
