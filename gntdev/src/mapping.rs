//! Guest pages in our address space.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use ring_proto::RingMemory;

use crate::handle::Shared;
use crate::sys::memory::Span;
use crate::{GrantError, LocalPages, PAGE_SIZE};

/// What mapped pages may be used for. Reading alone needs a grant of either kind, writing one that
/// was not made read-only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Only reads: such a mapping has no [`words`](Mapping::words), as a store there would fault.
    ReadOnly,
    /// Reads and writes.
    ReadWrite,
}

/// Pages of a guest, mapped side by side in the order in which they were asked for.
///
/// Having one tells that the hypervisor granted all of them, and that the guest cannot take them
/// back until it is dropped, or better [unmapped](Self::unmap), which tells how that went. The guest
/// changes the bytes at will at any time.
///
/// Never the target of I/O on a PV dom0: dying with such I/O in flight corrupts the kernel. Copy to
/// [`LocalPages`] instead.
#[derive(Debug)]
pub struct Mapping {
    shared: Arc<Shared>,
    /// `None` only once it was unmapped, that is, while being dropped.
    span: Option<Span>,
    /// What names the registration to the hypervisor.
    token: u64,
}

impl Mapping {
    pub(crate) fn new(shared: Arc<Shared>, span: Span, token: u64) -> Self {
        Self {
            shared,
            span: Some(span),
            token,
        }
    }

    /// How many pages of 4 KiB.
    #[must_use]
    pub fn pages(&self) -> usize {
        self.span.as_ref().map_or(0, Span::len) / PAGE_SIZE
    }

    /// Copies `len` bytes from `at` in the guest's pages to `local_at` in `local`.
    ///
    /// # Errors
    /// [`GrantError::OutOfRange`]; nothing was copied then.
    pub fn copy_to(
        &self,
        at: usize,
        local: &LocalPages,
        local_at: usize,
        len: usize,
    ) -> Result<(), GrantError> {
        self.span()?.copy_to(at, local.span(), local_at, len)
    }

    /// Copies `len` bytes from `local_at` in `local` to `at` in the guest's pages.
    ///
    /// # Errors
    /// [`GrantError::OutOfRange`] or [`GrantError::ReadOnly`]; nothing was copied then.
    pub fn copy_from(
        &self,
        at: usize,
        local: &LocalPages,
        local_at: usize,
        len: usize,
    ) -> Result<(), GrantError> {
        local.span().copy_to(local_at, self.span()?, at, len)
    }

    /// Copies out the bytes from `at` on. They are guest bytes of one moment, or of several.
    ///
    /// # Errors
    /// [`GrantError::OutOfRange`].
    pub fn read(&self, at: usize, into: &mut [u8]) -> Result<(), GrantError> {
        self.span()?.read(at, into)
    }

    /// Copies `from` into the guest's pages, from `at` on.
    ///
    /// # Errors
    /// [`GrantError::OutOfRange`] or [`GrantError::ReadOnly`].
    pub fn write(&self, at: usize, from: &[u8]) -> Result<(), GrantError> {
        self.span()?.write(at, from)
    }

    /// Gives the pages back: when this returns, the guest no longer sees them in use, and may be
    /// answered.
    ///
    /// # Errors
    /// [`GrantError::Os`]: the guest may still see them in use; nothing more can be done about it.
    pub fn unmap(mut self) -> Result<(), GrantError> {
        self.release()
    }

    /// First the memory, then the registration; the second even if the first failed.
    fn release(&mut self) -> Result<(), GrantError> {
        let Some(span) = self.span.take() else {
            return Ok(());
        };
        let pages = span.len() / PAGE_SIZE;
        let memory = span.unmap();
        let registration = self.shared.unmap(self.token, pages);
        memory.map_err(|errno| GrantError::os("munmap of grants", errno))?;
        registration
    }

    fn span(&self) -> Result<&Span, GrantError> {
        self.span.as_ref().ok_or(GrantError::Lost)
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        if let Err(error) = self.release()
            && self.shared.failed_unmaps.fetch_add(1, Ordering::Relaxed) == 0
        {
            tracing::error!(
                %error,
                "grants were not given back; a guest that is gone stays in `xl list` without a \
                 name until this process ends"
            );
        }
    }
}

impl RingMemory for Mapping {
    /// All the words; none if the mapping is read-only.
    fn words(&self) -> &[AtomicU32] {
        self.span.as_ref().map_or(&[], Span::words)
    }
}
