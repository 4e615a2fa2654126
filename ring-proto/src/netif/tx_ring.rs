//! The transmit ring: packets out of it, answers into it in its own order.

use super::{Assembled, Assembler, TX_RING, TX_WORDS, TxFault, TxOffer, Verdict};
use crate::back::{AttachError, BackRing, Indices, Overrun};
use crate::shared::{Notify, RingMemory};

/// The backend's end of a ring that a guest transmits on.
///
/// Having one tells you that every slot is answered once, in the slot it came in, and none before
/// those ahead of it. So what a guest has not seen answered is exactly what is behind `rsp_prod`,
/// and a backend that comes after this one can begin there.
#[derive(Debug)]
pub struct TxRing<M> {
    ring: BackRing<M>,
    assembler: Assembler,
    /// By slot, for those taken and not answered: the id, and the status or [`OPEN`].
    answers: [u32; SLOTS],
}

/// Some slots in a row were taken, and all of them are to be settled at once.
///
/// It cannot be copied, and [`TxRing::settle`] swallows it. Dropping it holds up all answers behind
/// it for ever, which is right only when the ring goes too.
#[must_use = "all answers behind it wait for it"]
#[derive(Debug, PartialEq, Eq)]
pub struct Receipt {
    first: u32,
    slots: u8,
    extras: u8,
}

impl Receipt {
    /// For slots of which the last one was taken at `last`.
    #[inline]
    const fn of(assembled: Assembled<'_>, last: u32) -> (Self, Verdict<'_>) {
        let Assembled {
            slots,
            extras,
            verdict,
        } = assembled;
        let receipt = Self {
            first: last.wrapping_sub(slots as u32 - 1),
            slots,
            extras,
        };
        (receipt, verdict)
    }

    /// The free-running index of the first slot.
    #[must_use]
    pub const fn position(&self) -> u32 {
        self.first
    }

    /// How many slots, 1 to 26.
    #[must_use]
    pub const fn slots(&self) -> u8 {
        self.slots
    }
}

/// What a guest is told about its packet (`NETIF_RSP_*`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TxStatus {
    /// Sent on, as far as anyone can tell.
    Okay,
    /// Refused, or its bytes could not be had.
    Error,
    /// Thrown away although nothing was wrong with it.
    Dropped,
}

impl TxStatus {
    /// The number on the wire, a signed 16-bit one.
    #[must_use]
    pub const fn wire(self) -> i16 {
        match self {
            Self::Okay => 0,
            Self::Error => -1,
            Self::Dropped => -2,
        }
    }

    /// The upper half of a response's word.
    const fn high(self) -> u32 {
        let [low, high] = self.wire().to_le_bytes();
        u32::from_le_bytes([0, 0, low, high])
    }
}

impl<M: RingMemory> TxRing<M> {
    /// Joins a ring that the guest has initialised, taking every slot behind the shared `rsp_prod`
    /// as unanswered.
    ///
    /// # Errors
    /// The memory is too small, or (the guest's fault) the indices are impossible.
    pub fn attach(memory: M, offer: TxOffer) -> Result<Self, AttachError> {
        Ok(Self {
            ring: BackRing::attach(memory, TX_RING)?,
            assembler: Assembler::new(offer),
            answers: [OPEN; SLOTS],
        })
    }

    /// Takes slots until they make up something; `None` when there are no more. Those of a packet
    /// that is not complete stay taken, and the rest of it is waited for.
    ///
    /// One call takes at most 27 slots, but the guest may refill as fast as it is answered: callers
    /// budget.
    ///
    /// # Errors
    /// [`TxFault`]: the connection is over, and every further call fails.
    #[inline]
    pub fn take(&mut self) -> Result<Option<(Receipt, Verdict<'_>)>, TxFault> {
        let last = loop {
            let Some((claim, words)) = self.ring.take::<TX_WORDS>()? else {
                return self.assembler.check().map(|()| None);
            };
            let position = claim.position();
            // The claim is kept as an open answer.
            drop(claim);
            self.answers[at(position)] = words[2] & ID | OPEN;
            if self.assembler.is_whole(words) {
                let whole = self.assembler.judge_whole(words)?;
                return Ok(Some(Receipt::of(whole, position)));
            }
            if self.assembler.step(words)? {
                break position;
            }
        };
        let assembled = self.assembler.judge()?;
        Ok(Some(Receipt::of(assembled, last)))
    }

    /// Decides what the guest is told about the slots that `receipt` stands for. It sees the answers
    /// after [`publish`](Self::publish), once all slots ahead of them are settled too.
    ///
    /// Extra infos have no id and are answered with `NETIF_RSP_NULL`.
    #[inline]
    pub fn settle(&mut self, receipt: Receipt, status: TxStatus) {
        let Receipt {
            first,
            slots,
            extras,
        } = receipt;
        drop(receipt);
        debug_assert!(
            self.ring.indices().req_cons.wrapping_sub(first) <= self.ring.owed(),
            "slot {first} is of another ring"
        );
        let answer = &mut self.answers[at(first)];
        *answer = *answer & ID | status.high();
        for slot in 1..u32::from(slots) {
            let answer = &mut self.answers[at(first.wrapping_add(slot))];
            *answer = if slot <= u32::from(extras) {
                NULL
            } else {
                *answer & ID | status.high()
            };
        }
    }

    /// Shows the guest all answers up to the first slot that is not settled, and says whether it
    /// asked to be woken for them.
    pub fn publish(&mut self) -> Notify {
        let answers = &self.answers;
        self.ring.respond_in_order(|position| {
            let answer = answers[at(position)];
            // Four bytes, and no more: the id of a slot stays where a later backend can read it.
            (answer & !ID != OPEN).then_some([answer])
        });
        self.ring.publish()
    }

    /// How many slots wait to be taken. Looks again only where fewer than `enough` were seen.
    ///
    /// # Errors
    /// [`Overrun`], as [`take`](Self::take).
    #[inline]
    pub fn waiting(&mut self, enough: u32) -> Result<u32, Overrun> {
        self.ring.waiting(enough)
    }

    /// Asks the guest to notify us of the next slot, and looks once more. `true`: slots wait, do not
    /// sleep.
    ///
    /// # Errors
    /// [`Overrun`], as [`take`](Self::take).
    pub fn rearm(&mut self) -> Result<bool, Overrun> {
        self.ring.rearm()
    }

    /// Slots of a packet whose end the guest has not written yet.
    #[must_use]
    pub const fn incomplete(&self) -> u8 {
        self.assembler.waiting()
    }

    /// Slots taken and not answered yet, incomplete ones included.
    #[must_use]
    pub const fn owed(&self) -> u32 {
        self.ring.owed()
    }

    /// The private indices.
    #[must_use]
    pub const fn indices(&self) -> Indices {
        self.ring.indices()
    }
}

const SLOTS: usize = TX_RING.slots() as usize;

/// The entry for a free-running index.
const fn at(position: u32) -> usize {
    position as usize % SLOTS
}

/// The lower half of a response's word.
const ID: u32 = 0xffff;
/// Instead of a status: none was decided on. No status has this number.
const OPEN: u32 = 0x8000_0000;
/// `NETIF_RSP_NULL`, and no id.
const NULL: u32 = 1 << 16;
