//! Memory of a guest, as its owner maps it.
#![expect(
    unsafe_code,
    reason = "mmap(2), and copies of memory that others write"
)]

use std::os::fd::BorrowedFd;
use std::ptr::NonNull;
use std::sync::atomic::AtomicU32;

use rustix::io::Errno;
use rustix::mm::{MapFlags, ProtFlags};

/// Some bytes of a file, mapped shared; unmapped when dropped.
#[derive(Debug)]
pub(crate) struct Memory {
    base: NonNull<u8>,
    len: usize,
}

// SAFETY: an address range is not tied to a thread; all access is atomic or a copy of plain bytes.
unsafe impl Send for Memory {}
// SAFETY: as above; `&self` keeps the range mapped.
unsafe impl Sync for Memory {}

impl Memory {
    /// Maps `len` bytes of `fd` from `offset` on.
    pub(crate) fn map(fd: BorrowedFd<'_>, offset: u64, len: usize) -> Result<Self, Errno> {
        let prot = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: the kernel chooses the address, so nothing that exists is replaced.
        let base = unsafe {
            rustix::mm::mmap(
                std::ptr::null_mut(),
                len,
                prot,
                MapFlags::SHARED,
                fd,
                offset,
            )
        }?;
        let base = NonNull::new(base.cast()).ok_or(Errno::NOMEM)?;
        Ok(Self { base, len })
    }

    pub(crate) fn words(&self) -> &[AtomicU32] {
        // SAFETY: mapped readable and writable for `len` bytes while `self` lives, page-aligned, and
        // never reached by any other kind of reference.
        unsafe { std::slice::from_raw_parts(self.base.as_ptr().cast(), self.len / 4) }
    }

    /// Copies out from `at` on; `None` if that is outside.
    pub(crate) fn read(&self, at: usize, into: &mut [u8]) -> Option<()> {
        let from = self.ptr(at, into.len())?;
        // SAFETY: `from` is readable for the length, and `into` lies elsewhere: no reference to this
        // memory but to its words exists. libc's memmove is opaque, so racing writers only make the
        // bytes a mixture.
        unsafe { libc::memmove(into.as_mut_ptr().cast(), from.cast(), into.len()) };
        Some(())
    }

    /// Copies in from `at` on; `None` if that is outside.
    pub(crate) fn write(&self, at: usize, from: &[u8]) -> Option<()> {
        let into = self.ptr(at, from.len())?;
        // SAFETY: `into` is writable for the length; otherwise as in `read`.
        unsafe { libc::memmove(into.cast(), from.as_ptr().cast(), from.len()) };
        Some(())
    }

    fn ptr(&self, at: usize, len: usize) -> Option<*mut u8> {
        let end = at.checked_add(len)?;
        (end <= self.len).then(|| self.base.as_ptr().wrapping_add(at))
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        // SAFETY: the whole of what mmap returned; nothing refers to it any more. It cannot fail for
        // a range that is mapped, and nobody could act on it.
        let _unmapped = unsafe { rustix::mm::munmap(self.base.as_ptr().cast(), self.len) };
    }
}
