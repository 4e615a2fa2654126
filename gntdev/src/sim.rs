//! Grants of the simulated hypervisor.
//!
//! A guest's memory is a memfd; its first frames are the grant table, as Xen's version 1 lays it out.
//! Mapping asks the server, which checks the entries, marks them in use and answers the frames;
//! these are then mapped from the memfd side by side. Copying happens right here, on the guest's
//! memory and grant table, with the checks that Xen makes, at the cost of a memcpy.

mod guest;
mod link;
pub mod wire;

use std::collections::BTreeMap;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use ring_proto::{DomId, GrantRef};
use rustix::io::Errno;

use self::guest::Guest;
use self::link::{Answer, Link};
use crate::sys::memory::Span;
use crate::{Access, CopySegment, GrantError, GrantStatus, LocalPages, PAGE_SIZE};

/// A connection to the simulated hypervisor, used for grants.
#[derive(Debug)]
pub(crate) struct SimGntdev {
    link: Mutex<Link>,
    guests: RwLock<BTreeMap<DomId, Arc<Guest>>>,
}

impl SimGntdev {
    pub(crate) fn connect(dir: &Path) -> Result<Self, GrantError> {
        Link::connect(dir).map(Self::over)
    }

    pub(crate) fn adopt(fd: OwnedFd) -> Result<Self, GrantError> {
        Link::adopt(fd).map(Self::over)
    }

    /// Gives the connection away without saying goodbye: its mappings, if any, live on.
    pub(crate) fn into_fd(self) -> Result<OwnedFd, GrantError> {
        let mut link = self.link.lock().unwrap_or_else(PoisonError::into_inner);
        link.give_away()
            .map_err(|errno| GrantError::os("dup", errno))
    }

    pub(crate) fn map(
        &self,
        domid: DomId,
        grefs: &[GrantRef],
        access: Access,
    ) -> Result<(Span, u64), GrantError> {
        let pages = grefs.len();
        if pages > wire::MAX_PAGES {
            return Err(GrantError::BadCount { pages });
        }
        let writable = access == Access::ReadWrite;
        let mut request = vec![wire::MAP, u32::from(domid.raw()), u32::from(writable)];
        request.extend(grefs.iter().map(|gref| gref.raw()));
        let refused = |status| GrantError::MapRefused {
            domid,
            pages,
            status,
        };
        let (token, frames) = match self.call(&request)? {
            Ok(answer) => match *answer.words {
                [token, ref frames @ ..] if frames.len() == pages => (token, frames.to_vec()),
                _ => return Err(GrantError::Lost),
            },
            Err((Errno::INVAL, words)) => {
                return Err(refused(words.first().copied().and_then(status)));
            }
            Err((errno, _)) => return Err(GrantError::os("map", errno)),
        };
        match self.place(domid, &frames, writable) {
            Ok(span) => Ok((span, u64::from(token))),
            Err(error) => {
                self.unmap(u64::from(token), pages)?;
                Err(error)
            }
        }
    }

    pub(crate) fn unmap(&self, token: u64, _pages: usize) -> Result<(), GrantError> {
        let token = u32::try_from(token).map_err(|_| GrantError::Lost)?;
        match self.call(&[wire::UNMAP, token])? {
            Ok(_) => Ok(()),
            Err((errno, _)) => Err(GrantError::os("unmap", errno)),
        }
    }

    pub(crate) fn copy(
        &self,
        domid: DomId,
        pages: &LocalPages,
        segments: &mut [CopySegment],
    ) -> Result<(), GrantError> {
        let guest = self.guest(domid)?;
        for segment in segments
            .iter_mut()
            .filter(|segment| !segment.crosses_page())
        {
            segment.status = match &guest {
                Some(guest) => guest.copy(pages, segment)?,
                None => GrantStatus::BadDomain,
            };
        }
        Ok(())
    }

    fn over(link: Link) -> Self {
        Self {
            link: Mutex::new(link),
            guests: RwLock::new(BTreeMap::new()),
        }
    }

    /// Maps `frames` of the guest side by side, neighbours in one go.
    fn place(&self, domid: DomId, frames: &[u32], writable: bool) -> Result<Span, GrantError> {
        let os = |errno| GrantError::os("mmap of grants", errno);
        let guest = self.guest(domid)?.ok_or(GrantError::Lost)?;
        let mut span = Span::reserve(frames.len() * PAGE_SIZE, writable).map_err(os)?;
        let mut at = 0;
        for run in frames.chunk_by(|a, b| a.checked_add(1) == Some(*b)) {
            let offset = u64::from(run[0]) * PAGE_SIZE as u64;
            let len = run.len() * PAGE_SIZE;
            span.place(at, guest.memory().as_fd(), offset, len)
                .map_err(os)?;
            at += len;
        }
        Ok(span)
    }

    /// The guest's memory, asked for once; `None` if there is no such domain.
    fn guest(&self, domid: DomId) -> Result<Option<Arc<Guest>>, GrantError> {
        let known = self.guests.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(guest) = known.get(&domid) {
            return Ok(Some(Arc::clone(guest)));
        }
        drop(known);
        let answer = match self.call(&[wire::MEMORY, u32::from(domid.raw())])? {
            Ok(answer) => answer,
            Err((Errno::SRCH, _)) => return Ok(None),
            Err((errno, _)) => return Err(GrantError::os("memory", errno)),
        };
        let guest = Arc::new(Guest::attach(answer)?);
        let mut known = self.guests.write().unwrap_or_else(PoisonError::into_inner);
        Ok(Some(Arc::clone(known.entry(domid).or_insert(guest))))
    }

    fn call(&self, request: &[u32]) -> Result<Result<Answer, (Errno, Vec<u32>)>, GrantError> {
        let link = self.link.lock().unwrap_or_else(PoisonError::into_inner);
        link.call(request)
    }
}

/// A status as the server writes it into a word.
fn status(word: u32) -> Option<GrantStatus> {
    i16::try_from(word.cast_signed())
        .ok()
        .map(GrantStatus::from_raw)
}
