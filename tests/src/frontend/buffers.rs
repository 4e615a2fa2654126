//! Pages for a request's data, and their grants.

use std::sync::Arc;

use gntdev::Access;
use ring_proto::GrantRef;

use crate::sim::hypervisor::{GuestDomain, GuestPages, SimError, StillInUse};

/// One page that the backend may use.
#[derive(Debug)]
pub struct Lent {
    /// The memory.
    pub memory: GuestPages,
    /// What to tell the backend.
    pub gref: GrantRef,
}

/// The pages of one queue: with persistent grants a pool that stays granted and is used again and
/// again for both directions, otherwise pages that are granted for one request.
#[derive(Debug)]
pub struct Buffers {
    domain: Arc<GuestDomain>,
    persistent: bool,
    granted: Vec<Lent>,
    private: Vec<GuestPages>,
}

impl Buffers {
    /// No pages yet, and grants for one request each.
    #[must_use]
    pub const fn new(domain: Arc<GuestDomain>) -> Self {
        Self {
            domain,
            persistent: false,
            granted: Vec::new(),
            private: Vec::new(),
        }
    }

    /// Keeps grants from now on.
    pub const fn keep(&mut self) {
        self.persistent = true;
    }

    /// A page that the backend may use as `access` says, or, with persistent grants, in both ways.
    ///
    /// # Errors
    /// The guest is out of pages or of grants.
    pub fn lend(&mut self, access: Access) -> Result<Lent, SimError> {
        if let Some(lent) = self.granted.pop() {
            return Ok(lent);
        }
        let memory = match self.private.pop() {
            Some(memory) => memory,
            None => self.domain.allocate(1)?,
        };
        let access = if self.persistent {
            Access::ReadWrite
        } else {
            access
        };
        let gref = self.domain.grant(memory.frame(0), access)?;
        Ok(Lent { memory, gref })
    }

    /// Takes a page back after the response.
    ///
    /// # Errors
    /// Grants are not persistent and the backend has the page mapped still (FE-05).
    pub fn take_back(&mut self, lent: Lent) -> Result<(), StillInUse> {
        if self.persistent {
            self.granted.push(lent);
            return Ok(());
        }
        self.domain.end_access(lent.gref)?;
        self.private.push(lent.memory);
        Ok(())
    }

    /// Ends all grants after the backend has closed.
    ///
    /// # Errors
    /// The backend has a page mapped still.
    pub fn retire(&mut self) -> Result<(), StillInUse> {
        for lent in self.granted.drain(..) {
            self.domain.end_access(lent.gref)?;
        }
        Ok(())
    }
}
