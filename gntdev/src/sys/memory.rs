//! A mapped range of our address space that others may write: a guest, a disk, the hypervisor.
#![expect(
    unsafe_code,
    reason = "mmap(2), and copies of memory that others write"
)]

use std::os::fd::BorrowedFd;
use std::ptr::NonNull;
use std::sync::atomic::AtomicU32;

use rustix::io::Errno;
use rustix::mm::{MapFlags, ProtFlags};

use crate::GrantError;

/// A whole `mmap`, unmapped when dropped.
///
/// No reference to its bytes ever leaves, except as atomic words. Copies go through raw pointers.
#[derive(Debug)]
pub(crate) struct Span {
    base: NonNull<u8>,
    len: usize,
    writable: bool,
}

// SAFETY: a Span is an address range, not tied to the thread that made it; all access goes through
// atomics or through copies of plain bytes whose value nothing relies upon (see `copy`).
unsafe impl Send for Span {}
// SAFETY: as above; no method needs more than the range to stay mapped, which `&self` ensures.
unsafe impl Sync for Span {}

impl Span {
    /// `len` bytes of zeroed private memory.
    pub(crate) fn anonymous(len: usize) -> Result<Self, Errno> {
        let prot = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: the kernel chooses the address, so nothing that exists is replaced.
        let base = unsafe {
            rustix::mm::mmap_anonymous(std::ptr::null_mut(), len, prot, MapFlags::PRIVATE)
        }?;
        Self::own(base.cast(), len, true)
    }

    /// `len` bytes of `fd` from `offset` on, shared with whoever else maps them.
    pub(crate) fn shared(
        fd: BorrowedFd<'_>,
        offset: u64,
        len: usize,
        writable: bool,
    ) -> Result<Self, Errno> {
        let prot = protection(writable);
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
        Self::own(base.cast(), len, writable)
    }

    /// `len` bytes of address space with nothing behind them; see [`place`](Self::place).
    #[cfg(feature = "sim")]
    pub(crate) fn reserve(len: usize, writable: bool) -> Result<Self, Errno> {
        let flags = MapFlags::PRIVATE | MapFlags::NORESERVE;
        // SAFETY: the kernel chooses the address, so nothing that exists is replaced.
        let base = unsafe {
            rustix::mm::mmap_anonymous(std::ptr::null_mut(), len, ProtFlags::empty(), flags)
        }?;
        Self::own(base.cast(), len, writable)
    }

    /// Puts `len` bytes of `fd` from `offset` on behind the bytes at `at`.
    #[cfg(feature = "sim")]
    pub(crate) fn place(
        &mut self,
        at: usize,
        fd: BorrowedFd<'_>,
        offset: u64,
        len: usize,
    ) -> Result<(), Errno> {
        let target = self.ptr(at, len).map_err(|_| Errno::INVAL)?;
        let flags = MapFlags::SHARED | MapFlags::FIXED;
        // SAFETY: `target..target + len` lies in this mapping, which is borrowed exclusively, so
        // what is replaced is ours and nobody holds words of it.
        unsafe {
            rustix::mm::mmap(
                target.cast(),
                len,
                protection(self.writable),
                flags,
                fd,
                offset,
            )
        }
        .map(drop)
    }

    /// Unmaps, and tells how that went.
    pub(crate) fn unmap(self) -> Result<(), Errno> {
        let this = std::mem::ManuallyDrop::new(self);
        this.release()
    }

    pub(crate) const fn len(&self) -> usize {
        self.len
    }

    /// The range as atomic words; none at all if it is read-only, as storing there would fault.
    pub(crate) fn words(&self) -> &[AtomicU32] {
        if !self.writable {
            return &[];
        }
        // SAFETY: the range is mapped readable and writable for the life of `self`, is aligned to a
        // page, and `len / 4` words fit. Other writers are other domains and processes, and the
        // copies below, which are raw: no reference but this kind exists.
        unsafe { std::slice::from_raw_parts(self.base.as_ptr().cast(), self.len / 4) }
    }

    /// The address of the `len` bytes from `at` on.
    pub(crate) fn ptr(&self, at: usize, len: usize) -> Result<*mut u8, GrantError> {
        match at.checked_add(len) {
            // `at` is at most `self.len` here, so the sum stays within or one past the mapping.
            Some(end) if end <= self.len => Ok(self.base.as_ptr().wrapping_add(at)),
            _ => Err(GrantError::OutOfRange {
                at,
                len,
                size: self.len,
            }),
        }
    }

    pub(crate) fn read(&self, at: usize, into: &mut [u8]) -> Result<(), GrantError> {
        let from = self.ptr(at, into.len())?;
        // SAFETY: `from` is readable for the length, as checked; `into` is an exclusive borrow, which
        // cannot overlap memory that never has references.
        unsafe { copy(from, into.as_mut_ptr(), into.len()) };
        Ok(())
    }

    pub(crate) fn write(&self, at: usize, from: &[u8]) -> Result<(), GrantError> {
        let into = self.writable_ptr(at, from.len())?;
        // SAFETY: `into` is writable for the length, as checked; `from` is ordinary memory elsewhere.
        unsafe { copy(from.as_ptr(), into, from.len()) };
        Ok(())
    }

    pub(crate) fn zero(&self, at: usize, len: usize) -> Result<(), GrantError> {
        let into = self.writable_ptr(at, len)?;
        // SAFETY: `into` is writable for `len` bytes, as checked.
        unsafe { into.write_bytes(0, len) };
        Ok(())
    }

    /// Copies `len` bytes of this range to another one.
    pub(crate) fn copy_to(
        &self,
        at: usize,
        other: &Self,
        other_at: usize,
        len: usize,
    ) -> Result<(), GrantError> {
        let from = self.ptr(at, len)?;
        let into = other.writable_ptr(other_at, len)?;
        // SAFETY: both ranges are mapped for `len` bytes, as checked, and are different mappings, or
        // the same bytes twice, which `copy` allows.
        unsafe { copy(from, into, len) };
        Ok(())
    }

    /// As [`ptr`](Self::ptr), of memory that may be written.
    pub(crate) fn writable_ptr(&self, at: usize, len: usize) -> Result<*mut u8, GrantError> {
        if self.writable {
            self.ptr(at, len)
        } else {
            Err(GrantError::ReadOnly)
        }
    }

    /// Takes charge of a fresh mapping. mmap(2) never returns address 0 unless asked to.
    fn own(base: *mut u8, len: usize, writable: bool) -> Result<Self, Errno> {
        let base = NonNull::new(base).ok_or(Errno::NOMEM)?;
        Ok(Self {
            base,
            len,
            writable,
        })
    }

    fn release(&self) -> Result<(), Errno> {
        // SAFETY: the range is one that mmap returned, whole; the callers own `self` and end its life.
        unsafe { rustix::mm::munmap(self.base.as_ptr().cast(), self.len) }
    }
}

impl Drop for Span {
    fn drop(&mut self) {
        // munmap of a whole mapping that we own fails only for want of kernel memory, and leaves an
        // address range behind; those who must know call `unmap`.
        let _left_behind = self.release();
    }
}

fn protection(writable: bool) -> ProtFlags {
    if writable {
        ProtFlags::READ | ProtFlags::WRITE
    } else {
        ProtFlags::READ
    }
}

/// memmove, for memory that others may be writing at the same time.
///
/// libc's, called by name, so that to the compiler it is an opaque call on two addresses. What a
/// racing writer leaves is some mixture of old and new bytes, which every user of this crate treats
/// as data to hand on, never as something to decide by.
///
/// # Safety
/// `from` is readable and `into` writable for `len` bytes.
unsafe fn copy(from: *const u8, into: *mut u8, len: usize) {
    // SAFETY: as promised by the caller.
    unsafe { libc::memmove(into.cast(), from.cast(), len) };
}
