//! The receive ring: the guest's buffers out of it, answers into it in its own order.

use super::{Extra, PAGE, RX_RING, RX_WORDS, RxPlan, rx_flag};
use crate::back::{AttachError, BackRing, Indices, Overrun};
use crate::ids::GrantRef;
use crate::shared::{Notify, RingMemory};

/// The backend's end of a ring that a guest receives on.
///
/// Having one tells you that every request is answered once, in the slot it came in, and none before
/// those ahead of it: there is no answering but by [`place`](Self::place), which takes requests as
/// they come. Answers are kept back until [`publish`](Self::publish), so a slot still names its
/// buffer until the moment at which the guest gets it back.
#[derive(Debug)]
pub struct RxRing<M> {
    ring: BackRing<M>,
    /// By slot, for requests taken and not answered: the answer.
    answers: [[u32; RX_WORDS]; SLOTS],
}

/// Bytes of a frame that go into one of the guest's buffers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RxPiece {
    /// The request, for [`RxRing::fail`].
    pub slot: RxSlot,
    /// The buffer. What is behind the bytes stays as it is.
    pub gref: GrantRef,
    /// Where in the buffer they go.
    pub offset: u16,
    /// Where in the frame they come from.
    pub from: u32,
    /// How many there are, at least 1. They stay inside the buffer, which is a page.
    pub len: u16,
}

/// Names a request that a piece was placed in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RxSlot(u32);

impl<M: RingMemory> RxRing<M> {
    /// Joins a ring that the guest has initialised, taking every request behind the shared
    /// `rsp_prod` as unanswered.
    ///
    /// # Errors
    /// The memory is too small, or (the guest's fault) the indices are impossible.
    pub fn attach(memory: M) -> Result<Self, AttachError> {
        Ok(Self {
            ring: BackRing::attach(memory, RX_RING)?,
            answers: [[0; RX_WORDS]; SLOTS],
        })
    }

    /// How many requests wait to be filled. Looks again only where fewer than `enough` were seen.
    ///
    /// # Errors
    /// [`Overrun`], the guest's fault: the connection is over, and every further call fails.
    #[inline]
    pub fn waiting(&mut self, enough: u32) -> Result<u32, Overrun> {
        self.ring.waiting(enough)
    }

    /// Takes as many requests as a frame needs, and hands each piece that is to be copied to `copy`,
    /// in the order of the frame. `false`: too few requests wait, and nothing was taken.
    ///
    /// The pieces are to be copied before [`publish`](Self::publish).
    ///
    /// # Errors
    /// [`Overrun`], as [`waiting`](Self::waiting).
    pub fn place(&mut self, plan: &RxPlan, mut copy: impl FnMut(RxPiece)) -> Result<bool, Overrun> {
        let needed = plan.requests();
        if self.ring.waiting(needed)? < needed {
            return Ok(false);
        }
        let mut flags = plan.flags;
        let mut offset = plan.headroom.bytes();
        let mut from = 0;
        while from < plan.len {
            let Some((claim, [id, gref])) = self.ring.take::<RX_WORDS>()? else {
                break;
            };
            // The claim is kept as an answer.
            let position = claim.position();
            let rest = plan.len - from;
            let len = low_half(rest.min(PAGE - u32::from(offset)));
            copy(RxPiece {
                slot: RxSlot(position),
                gref: GrantRef::new(gref),
                offset,
                from,
                len,
            });
            let first = from == 0;
            from += u32::from(len);
            let more = if from < plan.len {
                rx_flag::MORE_DATA
            } else {
                0
            };
            self.answers[at(position)] = answer(low_half(id), offset, flags | more, len);
            if first && plan.extras > 0 {
                self.extras(plan)?;
            }
            (flags, offset) = (0, 0);
        }
        Ok(true)
    }

    /// Writes the extra infos of a frame, which come behind its first buffer, over their requests.
    fn extras(&mut self, plan: &RxPlan) -> Result<(), Overrun> {
        let mut left = plan.extras;
        let gso = plan.gso.map(Extra::gso);
        let hash = plan.hash.map(Extra::hash);
        let headroom = plan.headroom.bytes();
        let xdp = (headroom > 0).then(|| Extra::xdp(headroom));
        for extra in [gso, hash, xdp].into_iter().flatten() {
            left -= 1;
            let extra = if left > 0 { extra.followed() } else { extra };
            if let Some((claim, _)) = self.ring.take::<RX_WORDS>()? {
                self.answers[at(claim.position())] = extra.words();
            }
        }
        Ok(())
    }

    /// Notes that the bytes for `slot` could not be copied: the guest is told of an error, and throws
    /// the whole frame away. Nothing happens if the slot was answered already.
    pub fn fail(&mut self, slot: RxSlot) {
        let Indices {
            req_cons, rsp_prod, ..
        } = self.ring.indices();
        let behind = req_cons.wrapping_sub(slot.0);
        if behind == 0 || behind > req_cons.wrapping_sub(rsp_prod) {
            return;
        }
        let [id, flags] = &mut self.answers[at(slot.0)];
        *id &= 0xffff;
        *flags = *flags & 0xffff | ERROR;
    }

    /// Answers all requests that were filled, shows the guest the answers, and says whether it asked
    /// to be woken for them.
    pub fn publish(&mut self) -> Notify {
        let answers = &self.answers;
        let answer = |position| Some(answers[at(position)]);
        self.ring.respond_in_order(answer);
        self.ring.publish()
    }

    /// Asks the guest to notify us once `wanted` requests wait (1 to 256), and looks once more.
    /// `true`: so many wait, do not sleep.
    ///
    /// # Errors
    /// [`Overrun`], as [`waiting`](Self::waiting).
    pub fn rearm(&mut self, wanted: u32) -> Result<bool, Overrun> {
        self.ring.rearm_for(wanted)
    }

    /// The private indices.
    #[must_use]
    pub const fn indices(&self) -> Indices {
        self.ring.indices()
    }
}

/// A response. Layout: id and offset; flags, and a status that is the length.
const fn answer(id: u16, offset: u16, flags: u16, len: u16) -> [u32; RX_WORDS] {
    [
        id as u32 | (offset as u32) << 16,
        flags as u32 | (len as u32) << 16,
    ]
}

/// The lower half of a word.
const fn low_half(word: u32) -> u16 {
    let [low, high, ..] = word.to_le_bytes();
    u16::from_le_bytes([low, high])
}

/// The entry for a free-running index.
const fn at(position: u32) -> usize {
    position as usize % SLOTS
}

const SLOTS: usize = RX_RING.slots() as usize;

/// `NETIF_RSP_ERROR` in the upper half of a response's second word.
const ERROR: u32 = 0xffff_0000;
