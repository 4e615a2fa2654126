//! The backend's end of a ring: take requests, answer them, sleep without missing one.

use std::fmt;

use crate::shared::{
    Notify, REQ_EVENT, REQ_PROD, RSP_EVENT, RSP_PROD, RingMemory, RingShape, Shared, TooSmall,
    copy_in, copy_into, copy_out,
};
use crate::sync::{Ordering, fence};

/// The backend's end of a ring whose other end a guest holds.
///
/// Having one tells you that its private indices obey, modulo 2^32 and whatever the guest writes,
/// `rsp_prod <= req_cons <= rsp_prod + slots`: no request is taken twice, and there are never more
/// answers than requests were taken.
#[derive(Debug)]
pub struct BackRing<M> {
    shared: Shared<M>,
    /// Requests taken so far: the next one to take.
    req_cons: u32,
    /// The guest's `req_prod` as last read and found possible.
    req_seen: u32,
    /// Answers written so far, published or not.
    rsp_prod: u32,
    /// Answers the guest can see.
    rsp_published: u32,
    /// Claims of an earlier backend that were not handed out again yet.
    reclaimable: u32,
    broken: Option<Overrun>,
}

/// One request was taken, and one answer is owed for it.
///
/// It cannot be copied, and [`BackRing::respond`] swallows it: a request can be answered once.
/// Dropping it leaves the guest waiting for ever, which is right only when the ring goes too.
#[must_use = "the guest waits for the answer that this stands for"]
#[derive(Debug, PartialEq, Eq)]
pub struct Claim {
    position: u32,
}

impl Claim {
    /// The free-running index at which the request was taken: the order in which the guest sent it.
    #[must_use]
    pub const fn position(&self) -> u32 {
        self.position
    }
}

/// The private indices, as a journal keeps them. All run freely modulo 2^32.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Indices {
    /// Requests taken.
    pub req_cons: u32,
    /// Answers written.
    pub rsp_prod: u32,
    /// Answers the guest can see.
    pub rsp_published: u32,
}

impl<M: RingMemory> BackRing<M> {
    /// Joins a ring that the guest has initialised, taking every request behind the shared
    /// `rsp_prod` as unanswered (`ring.h`, `BACK_RING_ATTACH`).
    ///
    /// That is exact for a new ring and for one whose previous backend had answered all it took;
    /// after a crash use [`attach_at`](Self::attach_at).
    ///
    /// # Errors
    /// The memory is too small, or (the guest's fault) the indices are impossible.
    pub fn attach(memory: M, shape: RingShape) -> Result<Self, AttachError> {
        let shared = Shared::new(memory, shape)?;
        let rsp_prod = shared.word(RSP_PROD).load(Ordering::Relaxed);
        Self::join(shared, rsp_prod, rsp_prod)
    }

    /// Joins a ring in the middle: `req_cons` requests were taken before, `rsp_prod` answers to them
    /// published. The shared `rsp_prod` is not looked at, as the guest can write it.
    ///
    /// The answers that are still owed are had with [`reclaim`](Self::reclaim).
    ///
    /// # Errors
    /// The memory is too small, or the indices cannot be those of such a ring.
    pub fn attach_at(
        memory: M,
        shape: RingShape,
        req_cons: u32,
        rsp_prod: u32,
    ) -> Result<Self, AttachError> {
        Self::join(Shared::new(memory, shape)?, req_cons, rsp_prod)
    }

    fn join(shared: Shared<M>, req_cons: u32, rsp_prod: u32) -> Result<Self, AttachError> {
        let slots = shared.slots();
        let req_prod = shared.word(REQ_PROD).load(Ordering::Acquire);
        let owed = req_cons.wrapping_sub(rsp_prod);
        if owed > slots || req_prod.wrapping_sub(req_cons) > slots - owed {
            return Err(AttachError::Impossible(Overrun {
                req_prod,
                req_cons,
                rsp_prod,
                slots,
            }));
        }
        Ok(Self {
            shared,
            req_cons,
            req_seen: req_prod,
            rsp_prod,
            rsp_published: rsp_prod,
            reclaimable: owed,
            broken: None,
        })
    }

    /// Takes the next request: copies the first `W` words of its slot out, once.
    ///
    /// Where a slot has fewer than `W` words, the rest is 0. The guest's index is read again only
    /// when everything seen before is taken, so a sweep over a full ring costs one acquire load.
    /// The number of calls that yield something is bounded only by how fast the guest refills:
    /// callers budget.
    ///
    /// # Errors
    /// [`Overrun`]: the guest's index is impossible. The ring is broken for good and every further
    /// `take` fails; answers to what was taken may still be given.
    #[inline]
    pub fn take<const W: usize>(&mut self) -> Result<Option<(Claim, [u32; W])>, Overrun> {
        if self.req_cons == self.req_seen && !self.look()? {
            return Ok(None);
        }
        let position = self.req_cons;
        let words = copy_out(self.shared.slot(position));
        self.req_cons = position.wrapping_add(1);
        Ok(Some((Claim { position }, words)))
    }

    /// As [`take`](Self::take), for slots that are long and mostly unused: copies the first word,
    /// and then as many of the following ones as the slice is long that `room` makes of it.
    ///
    /// So nothing is copied twice, and nothing for nothing: what a request does not use may sit in a
    /// cache line that only the guest's CPU has. What the slot does not have is left as it is.
    ///
    /// # Errors
    /// [`Overrun`], as [`take`](Self::take).
    #[inline]
    pub fn take_into<'r>(
        &mut self,
        room: impl FnOnce(u32) -> &'r mut [u32],
    ) -> Result<Option<Claim>, Overrun> {
        if self.req_cons == self.req_seen && !self.look()? {
            return Ok(None);
        }
        let position = self.req_cons;
        // A slot has at least one word.
        if let [first, rest @ ..] = self.shared.slot(position) {
            copy_into(room(first.load(Ordering::Relaxed)), rest);
        }
        self.req_cons = position.wrapping_add(1);
        Ok(Some(Claim { position }))
    }

    /// Reads `req_prod` and says whether requests wait.
    fn look(&mut self) -> Result<bool, Overrun> {
        if let Some(overrun) = self.broken {
            return Err(overrun);
        }
        // Acquire: the guest stored the slots before it stored req_prod (its write barrier), so
        // having seen the index we see the slots.
        let req_prod = self.shared.word(REQ_PROD).load(Ordering::Acquire);
        let owed = self.req_cons.wrapping_sub(self.rsp_prod);
        // One comparison for both lies: more requests than there are slots without an answer
        // (RING_REQUEST_PROD_OVERFLOW), and an index that has moved behind what was taken, which
        // modulo 2^32 is a huge number of new requests. No subtraction can wrap: owed <= slots.
        if req_prod.wrapping_sub(self.req_cons) > self.shared.slots() - owed {
            let overrun = Overrun {
                req_prod,
                req_cons: self.req_cons,
                rsp_prod: self.rsp_prod,
                slots: self.shared.slots(),
            };
            self.broken = Some(overrun);
            return Err(overrun);
        }
        self.req_seen = req_prod;
        Ok(req_prod != self.req_cons)
    }

    /// Writes the answer that `claim` stood for into the next response slot. The guest sees it after
    /// [`publish`](Self::publish).
    ///
    /// `words` is the whole response, padding included: what is not written keeps the request's
    /// bytes. Nothing of the slot is read. Words beyond the slot's end are dropped.
    ///
    /// The slot is free: every position before `req_cons` was copied out, and a guest that has put
    /// a new request there already has more requests open than slots, and finds an answer in it.
    #[inline]
    pub fn respond(&mut self, claim: Claim, words: &[u32]) {
        let owed = self.req_cons.wrapping_sub(self.rsp_prod) > 0;
        debug_assert!(owed, "claim {} is of another ring", claim.position);
        drop(claim);
        if owed {
            copy_in(self.shared.slot(self.rsp_prod), words);
            self.rsp_prod = self.rsp_prod.wrapping_add(1);
        }
    }

    /// Writes answers in the order of the requests, from the oldest that has none on, for as long as
    /// `answer` has one for the request at the position it is given.
    ///
    /// For rings whose answers must come in that order: they keep what they owe themselves, and drop
    /// the claims. Words beyond the slot's end are dropped.
    #[inline]
    pub(crate) fn respond_in_order<const W: usize>(
        &mut self,
        mut answer: impl FnMut(u32) -> Option<[u32; W]>,
    ) {
        let mut position = self.rsp_prod;
        while position != self.req_cons
            && let Some(words) = answer(position)
        {
            copy_in(self.shared.slot(position), &words);
            position = position.wrapping_add(1);
        }
        self.rsp_prod = position;
    }

    /// Shows the guest all answers written so far, and says whether it asked to be woken for them.
    pub fn publish(&mut self) -> Notify {
        let (old, new) = (self.rsp_published, self.rsp_prod);
        if old == new {
            return Notify::NotNeeded;
        }
        // Release: the answers are visible before the index that covers them.
        self.shared.word(RSP_PROD).store(new, Ordering::Release);
        self.rsp_published = new;
        // The guest, before it sleeps: store rsp_event, full barrier, load rsp_prod. We: store
        // rsp_prod, full barrier, load rsp_event. With both barriers at least one side sees the
        // other's store: either we see that it waits and notify, or it sees our answers and does
        // not sleep. Without ours both loads could come first, and the guest would sleep for ever.
        fence(Ordering::SeqCst);
        let event = self.shared.word(RSP_EVENT).load(Ordering::Relaxed);
        Notify::on_moving(old, new, event)
    }

    /// How many requests wait to be taken. The guest's index is read again only when fewer than
    /// `enough` were seen before.
    ///
    /// # Errors
    /// [`Overrun`], as [`take`](Self::take).
    #[inline]
    pub fn waiting(&mut self, enough: u32) -> Result<u32, Overrun> {
        if self.seen() < enough {
            self.look()?;
        }
        Ok(self.seen())
    }

    /// Asks the guest to notify us of the next request, and looks once more. `true`: requests wait,
    /// do not sleep (`ring.h`, `RING_FINAL_CHECK_FOR_REQUESTS`).
    ///
    /// # Errors
    /// [`Overrun`], as [`take`](Self::take).
    pub fn rearm(&mut self) -> Result<bool, Overrun> {
        self.rearm_for(1)
    }

    /// As [`rearm`](Self::rearm), for who can use nothing less than `wanted` requests at once (1 to
    /// [`slots`](Self::slots)): the notification comes with the last of them. `true`: so many wait.
    ///
    /// # Errors
    /// [`Overrun`], as [`take`](Self::take).
    pub fn rearm_for(&mut self, wanted: u32) -> Result<bool, Overrun> {
        if self.seen() >= wanted {
            return Ok(true);
        }
        let event = self.req_cons.wrapping_add(wanted);
        self.shared.word(REQ_EVENT).store(event, Ordering::Relaxed);
        // The guest: store req_prod, full barrier, load req_event. We: store req_event, full
        // barrier, load req_prod. Either it sees that we wait and notifies, or we see its request
        // and stay awake. Both may happen, and then one event is spurious; neither cannot.
        fence(Ordering::SeqCst);
        self.look()?;
        Ok(self.seen() >= wanted)
    }

    /// Requests found and not taken yet.
    const fn seen(&self) -> u32 {
        self.req_seen.wrapping_sub(self.req_cons)
    }

    /// Hands out again the claim of a request that an earlier backend took at `position` and left
    /// unanswered; `None` when all answers that were owed at [`attach_at`](Self::attach_at) are
    /// claimed. Which positions are open only a journal knows.
    pub fn reclaim(&mut self, position: u32) -> Option<Claim> {
        self.reclaimable = self.reclaimable.checked_sub(1)?;
        Some(Claim { position })
    }

    /// The private indices.
    #[must_use]
    pub const fn indices(&self) -> Indices {
        Indices {
            req_cons: self.req_cons,
            rsp_prod: self.rsp_prod,
            rsp_published: self.rsp_published,
        }
    }

    /// Requests taken and not answered yet, at most [`slots`](Self::slots).
    #[must_use]
    pub const fn owed(&self) -> u32 {
        self.req_cons.wrapping_sub(self.rsp_prod)
    }

    /// Number of slots.
    #[must_use]
    pub const fn slots(&self) -> u32 {
        self.shared.slots()
    }
}

/// The guest's `req_prod` is impossible; the connection is over. The guest's fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Overrun {
    /// What the guest wrote.
    pub req_prod: u32,
    /// Requests taken by then.
    pub req_cons: u32,
    /// Answers written by then.
    pub rsp_prod: u32,
    /// Size of the ring.
    pub slots: u32,
}

impl fmt::Display for Overrun {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            req_prod,
            req_cons,
            rsp_prod,
            slots,
        } = self;
        write!(
            f,
            "req_prod {req_prod} is impossible: {req_cons} taken, {rsp_prod} answered, {slots} slots"
        )
    }
}

impl std::error::Error for Overrun {}

/// A ring cannot be joined.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum AttachError {
    /// Fewer pages were mapped than the ring takes up.
    TooSmall(TooSmall),
    /// No backend can have left these indices.
    Impossible(Overrun),
}

impl From<TooSmall> for AttachError {
    fn from(error: TooSmall) -> Self {
        Self::TooSmall(error)
    }
}

impl fmt::Display for AttachError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooSmall(error) => error.fmt(f),
            Self::Impossible(overrun) => overrun.fmt(f),
        }
    }
}

impl std::error::Error for AttachError {}
