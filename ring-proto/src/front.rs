//! The frontend's end of a ring: the other side of every test, demo and benchmark.

use std::fmt;

use crate::shared::{
    Notify, REQ_EVENT, REQ_PROD, RSP_EVENT, RSP_PROD, RingMemory, RingShape, Shared, TooSmall,
    copy_in, copy_out,
};
use crate::sync::{Ordering, fence};

/// The frontend's end of a ring, as distrustful as Linux frontends are since 5.16.
#[derive(Debug)]
pub struct FrontRing<M> {
    shared: Shared<M>,
    /// Requests written, published or not.
    req_prod: u32,
    /// Requests the backend can see.
    req_published: u32,
    /// Responses taken.
    rsp_cons: u32,
    /// The backend's `rsp_prod` as last read and found possible.
    rsp_seen: u32,
    broken: Option<ResponseOverrun>,
}

impl<M: RingMemory> FrontRing<M> {
    /// Writes the header of an empty ring (`ring.h`, `SHARED_RING_INIT`). Slots are left as they are.
    ///
    /// # Errors
    /// The memory is too small for the shape.
    pub fn init(memory: M, shape: RingShape) -> Result<Self, TooSmall> {
        Self::init_at(memory, shape, 0)
    }

    /// As [`init`](Self::init), but as if `start` requests had been sent and answered: the way to
    /// come near the wrap-around of the indices. Real frontends start at 0.
    ///
    /// # Errors
    /// The memory is too small for the shape.
    pub fn init_at(memory: M, shape: RingShape, start: u32) -> Result<Self, TooSmall> {
        let shared = Shared::new(memory, shape)?;
        for (at, value) in [
            (REQ_PROD, start),
            (REQ_EVENT, start.wrapping_add(1)),
            (RSP_PROD, start),
            (RSP_EVENT, start.wrapping_add(1)),
        ] {
            shared.word(at).store(value, Ordering::Relaxed);
        }
        Ok(Self {
            shared,
            req_prod: start,
            req_published: start,
            rsp_cons: start,
            rsp_seen: start,
            broken: None,
        })
    }

    /// Writes a request into the next slot. The backend sees it after [`publish`](Self::publish).
    ///
    /// # Errors
    /// [`Full`]: no response slot is left for it. Take responses first.
    pub fn push_request(&mut self, words: &[u32]) -> Result<(), Full> {
        if self.open() == self.shared.slots() {
            return Err(Full);
        }
        copy_in(self.shared.slot(self.req_prod), words);
        self.req_prod = self.req_prod.wrapping_add(1);
        Ok(())
    }

    /// Shows the backend all requests written so far, and says whether it asked to be woken.
    pub fn publish(&mut self) -> Notify {
        let (old, new) = (self.req_published, self.req_prod);
        if old == new {
            return Notify::NotNeeded;
        }
        self.shared.word(REQ_PROD).store(new, Ordering::Release);
        self.req_published = new;
        // The other half of the race argued in `BackRing::rearm`.
        fence(Ordering::SeqCst);
        Notify::on_moving(
            old,
            new,
            self.shared.word(REQ_EVENT).load(Ordering::Relaxed),
        )
    }

    /// Takes the next response: the first `W` words of its slot, 0 where the slot is shorter.
    ///
    /// # Errors
    /// [`ResponseOverrun`]: the backend claims to have answered more than was asked. The ring is
    /// broken for good.
    pub fn take_response<const W: usize>(&mut self) -> Result<Option<[u32; W]>, ResponseOverrun> {
        if self.rsp_cons == self.rsp_seen && !self.look()? {
            return Ok(None);
        }
        let words = copy_out(self.shared.slot(self.rsp_cons));
        self.rsp_cons = self.rsp_cons.wrapping_add(1);
        Ok(Some(words))
    }

    fn look(&mut self) -> Result<bool, ResponseOverrun> {
        if let Some(overrun) = self.broken {
            return Err(overrun);
        }
        let rsp_prod = self.shared.word(RSP_PROD).load(Ordering::Acquire);
        // Against what the backend can have seen; an index that moved backwards is huge here.
        if rsp_prod.wrapping_sub(self.rsp_cons) > self.req_published.wrapping_sub(self.rsp_cons) {
            let overrun = ResponseOverrun {
                rsp_prod,
                rsp_cons: self.rsp_cons,
                req_prod: self.req_published,
            };
            self.broken = Some(overrun);
            return Err(overrun);
        }
        self.rsp_seen = rsp_prod;
        Ok(rsp_prod != self.rsp_cons)
    }

    /// Asks the backend to notify us of the next response, and looks once more. `true`: responses
    /// wait, do not sleep.
    ///
    /// # Errors
    /// [`ResponseOverrun`], as [`take_response`](Self::take_response).
    pub fn rearm(&mut self) -> Result<bool, ResponseOverrun> {
        if self.rsp_cons != self.rsp_seen {
            return Ok(true);
        }
        let event = self.rsp_cons.wrapping_add(1);
        self.shared.word(RSP_EVENT).store(event, Ordering::Relaxed);
        // The other half of the race argued in `BackRing::publish`.
        fence(Ordering::SeqCst);
        self.look()
    }

    /// Requests written whose response was not taken yet.
    #[must_use]
    pub const fn open(&self) -> u32 {
        self.req_prod.wrapping_sub(self.rsp_cons)
    }

    /// Number of slots.
    #[must_use]
    pub const fn slots(&self) -> u32 {
        self.shared.slots()
    }

    /// The shared memory, for tests that tamper with it.
    #[must_use]
    pub const fn memory(&self) -> &M {
        self.shared.memory()
    }
}

/// Every slot holds a request that is not answered yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full;

impl fmt::Display for Full {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ring is full")
    }
}

impl std::error::Error for Full {}

/// The backend's `rsp_prod` is impossible.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ResponseOverrun {
    /// What the backend wrote.
    pub rsp_prod: u32,
    /// Responses taken by then.
    pub rsp_cons: u32,
    /// Requests published by then.
    pub req_prod: u32,
}

impl fmt::Display for ResponseOverrun {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            rsp_prod,
            rsp_cons,
            req_prod,
        } = self;
        write!(
            f,
            "rsp_prod {rsp_prod} is impossible: {req_prod} asked, {rsp_cons} answers taken"
        )
    }
}

impl std::error::Error for ResponseOverrun {}
