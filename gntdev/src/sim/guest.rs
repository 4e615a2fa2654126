//! A guest's memory and grant table, as a copying backend sees them.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicU32, Ordering};

use ring_proto::GrantRef;

use super::link::Answer;
use super::{status, wire};
use crate::sys::memory::Span;
use crate::{CopyDirection, CopySegment, GrantError, GrantStatus, LocalPages, PAGE_SIZE};

/// The domain that backends run in.
const BACKEND: u32 = 0;

/// One guest, mapped whole.
#[derive(Debug)]
pub(super) struct Guest {
    memory: OwnedFd,
    ram: Span,
    control: Span,
    frames: u32,
    table_frames: u32,
}

impl Guest {
    pub(super) fn attach(answer: Answer) -> Result<Self, GrantError> {
        let os = |errno| GrantError::os("mmap of a guest", errno);
        let mut fds = answer.fds.into_iter();
        let (&[frames, table_frames], Some(memory), Some(control)) =
            (&*answer.words, fds.next(), fds.next())
        else {
            return Err(GrantError::Lost);
        };
        let pages = usize::try_from(frames).map_err(|_| GrantError::Lost)?;
        let ram = Span::shared(memory.as_fd(), 0, pages * PAGE_SIZE, true).map_err(os)?;
        let control = Span::shared(control.as_fd(), 0, PAGE_SIZE, true).map_err(os)?;
        Ok(Self {
            memory,
            ram,
            control,
            frames,
            table_frames,
        })
    }

    pub(super) const fn memory(&self) -> &OwnedFd {
        &self.memory
    }

    /// Copies one segment that crosses no page, or tells why not, as Xen would.
    pub(super) fn copy(
        &self,
        pages: &LocalPages,
        segment: &CopySegment,
    ) -> Result<GrantStatus, GrantError> {
        // The kernel makes no hypercall for nothing.
        if segment.len == 0 {
            return Ok(GrantStatus::Okay);
        }
        if let Some(status) = self.fault() {
            return Ok(status);
        }
        let to_guest = segment.direction == CopyDirection::ToGuest;
        let frame = match self.frame(segment.gref, to_guest) {
            Ok(frame) => frame,
            Err(status) => return Ok(status),
        };
        let (local, len) = (segment.local_at, usize::from(segment.len));
        let at = frame * PAGE_SIZE + usize::from(segment.guest_at);
        if to_guest {
            pages.span().copy_to(local, &self.ram, at, len)?;
        } else {
            self.ram.copy_to(at, pages.span(), local, len)?;
        }
        self.control(wire::CONTROL_COPIES)?
            .fetch_add(1, Ordering::Relaxed);
        Ok(GrantStatus::Okay)
    }

    /// The frame that `gref` lets us use (`acquire_grant_for_copy` of `xen/common/grant_table.c`).
    fn frame(&self, gref: GrantRef, write: bool) -> Result<usize, GrantStatus> {
        if !self.alive() {
            return Err(GrantStatus::BadDomain);
        }
        if gref.raw() >= self.table_frames * wire::ENTRIES_PER_FRAME {
            return Err(GrantStatus::BadGrantRef);
        }
        let entry = gref.raw() as usize * wire::ENTRY_WORDS;
        let words = self.ram.words();
        let (Some(permission), Some(frame)) = (words.get(entry), words.get(entry + 1)) else {
            return Err(GrantStatus::BadGrantRef);
        };
        let permission = permission.load(Ordering::Acquire);
        let frame = frame.load(Ordering::Relaxed);
        let granted = permission & wire::GTF_TYPE_MASK == wire::GTF_PERMIT_ACCESS
            && permission >> wire::DOMID_SHIFT == BACKEND;
        if !granted || (write && permission & wire::GTF_READONLY != 0) {
            return Err(GrantStatus::GeneralError);
        }
        if frame < self.table_frames || frame >= self.frames {
            return Err(GrantStatus::BadPage);
        }
        Ok(frame as usize)
    }

    fn alive(&self) -> bool {
        self.control(wire::CONTROL_ALIVE)
            .is_ok_and(|word| word.load(Ordering::Acquire) == 1)
    }

    /// Counts down to the copy that a test wants to fail; its status when this is the one.
    fn fault(&self) -> Option<GrantStatus> {
        let countdown = self.control(wire::CONTROL_COPY_FAULT).ok()?;
        if countdown.load(Ordering::Relaxed) == 0 {
            return None;
        }
        let before = countdown
            .fetch_update(Ordering::AcqRel, Ordering::Relaxed, |n| n.checked_sub(1))
            .ok()?;
        if before != 1 {
            return None;
        }
        let word = self.control(wire::CONTROL_COPY_STATUS).ok()?;
        status(word.load(Ordering::Acquire))
    }

    fn control(&self, word: usize) -> Result<&AtomicU32, GrantError> {
        self.control.words().get(word).ok_or(GrantError::Lost)
    }
}
