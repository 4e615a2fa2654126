//! Memory that is passed along as a file.

use std::os::fd::OwnedFd;

use rustix::fs::{MemfdFlags, memfd_create};
use rustix::io::Errno;

/// A file without a name in any folder, which can be sealed and not be executed.
///
/// # Errors
/// The host has no memory or no descriptor left.
pub(crate) fn file(name: &str) -> Result<OwnedFd, Errno> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    // Some hosts have no other ones (vm.memfd_noexec); kernels before 6.3 do not know of it.
    match memfd_create(name, flags | MemfdFlags::NOEXEC_SEAL) {
        Err(Errno::INVAL) => memfd_create(name, flags),
        made => made,
    }
}
