//! Private memory that frames pass through.
//!
//! A queue needs some while it is at work, and none while it sleeps: so the queues of a guest share
//! what there is, of which its worker keeps a little for the next time. Memory is never shared between
//! guests.

use std::ops::Deref;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use gntdev::{Gntalloc, GrantError, LocalPages};
use ring_proto::DomId;
use tracing::info;

/// Pages of a [`Scratch`]: some of the longest frames at once.
const PAGES: usize = 96;

/// More than so many that nobody uses are given back to the system.
const KEPT: usize = 4;

/// Lends memory to the queues of one guest.
#[derive(Debug)]
pub struct Pool {
    /// Where memory comes from that is cheap to copy to; none if the system has no such thing.
    granted: Option<Gntalloc>,
    /// It was said that there is no more of that.
    told: AtomicBool,
    idle: Mutex<Vec<LocalPages>>,
}

/// Memory that is lent. Its content is what the last queue left there.
#[derive(Debug)]
pub struct Scratch {
    /// Always there, until it goes back.
    pages: Option<LocalPages>,
    pool: Arc<Pool>,
}

impl Pool {
    /// Of a worker in the domain `own`; `None` where grants are simulated.
    #[must_use]
    pub fn new(own: Option<DomId>) -> Self {
        let granted = own.and_then(|own| {
            let opened = Gntalloc::open(own);
            opened
                .inspect_err(|error| {
                    info!(%error, "copies are dearer: load the module xen-gntalloc");
                })
                .ok()
        });
        Self {
            granted,
            told: AtomicBool::new(false),
            idle: Mutex::default(),
        }
    }

    /// Lends memory until the value is dropped.
    ///
    /// # Errors
    /// The host has none left.
    pub fn lend(self: &Arc<Self>) -> Result<Scratch, GrantError> {
        let idle = self.idle().pop();
        let pages = match idle {
            Some(pages) => pages,
            None => self.more()?,
        };
        Ok(Scratch {
            pages: Some(pages),
            pool: Arc::clone(self),
        })
    }

    fn more(&self) -> Result<LocalPages, GrantError> {
        if let Some(granted) = &self.granted {
            match granted.pages(PAGES) {
                Ok(pages) => return Ok(pages),
                Err(error) if !self.told.swap(true, Ordering::Relaxed) => info!(
                    %error,
                    "copies are dearer: raise /sys/module/xen_gntalloc/parameters/limit"
                ),
                Err(_) => {}
            }
        }
        LocalPages::new(PAGES)
    }

    fn idle(&self) -> std::sync::MutexGuard<'_, Vec<LocalPages>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let mut idle = self.pool.idle();
        if idle.len() < KEPT {
            idle.extend(self.pages.take());
        }
    }
}

impl Deref for Scratch {
    type Target = LocalPages;

    #[expect(clippy::expect_used, reason = "only `drop` takes them")]
    fn deref(&self) -> &LocalPages {
        self.pages.as_ref().expect("dropped memory is not used")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_that_came_back_is_lent_again_and_little_is_kept() {
        let pool = Arc::new(Pool::new(None));
        let first = pool.lend().unwrap();
        first.write(0, b"mark").unwrap();
        drop(first);
        let again = pool.lend().unwrap();
        let mut mark = [0; 4];
        again.read(0, &mut mark).unwrap();
        assert_eq!(&mark, b"mark");
        let many: Vec<_> = (0..3 * KEPT).map(|_| pool.lend().unwrap()).collect();
        drop((again, many));
        assert_eq!(pool.idle().len(), KEPT);
    }
}
