//! What a backend must not do to a frontend.

use ring_proto::ResponseOverrun;

use crate::sim::hypervisor::{SimError, StillInUse};

/// What Linux frontends disable a device for, and what would corrupt a guest's memory or data.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Misbehaviour {
    /// More answers than questions.
    #[error("FE-01: {0}")]
    TooManyResponses(#[from] ResponseOverrun),
    /// An id that is none of ours, or that is answered already.
    #[error("FE-03: a response to {id}, which is not pending")]
    NotPending {
        /// The id it repeats.
        id: u64,
    },
    /// The wrong operation is repeated; for indirect requests the inner one is right.
    #[error("FE-04: the response to {id} says operation {said}, it was {asked}")]
    WrongOperation {
        /// The request.
        id: u64,
        /// What the response says.
        said: u8,
        /// What was asked for.
        asked: u8,
    },
    /// A status that does not exist.
    #[error("the response to {id} has status {status}")]
    UnknownStatus {
        /// The request.
        id: u64,
        /// What the response says.
        status: i16,
    },
    /// A grant is still mapped after the response, and grants are not persistent.
    #[error("FE-05: after the response to {id}, {still}")]
    StillMapped {
        /// The request.
        id: u64,
        /// Which grant.
        still: StillInUse,
    },
    /// Reads and writes can never be unsupported: Windows takes that for success.
    #[error("FE-15: request {id}, a read or write, is said to be unsupported")]
    UnsupportedData {
        /// The request.
        id: u64,
    },
    /// A flush without data cannot fail: Linux takes that for success, for ever after.
    #[error("FE-14: flush {id} failed")]
    FailedFlush {
        /// The request.
        id: u64,
    },
    /// Bytes outside the granted range of a page have changed.
    #[error("FE-23: read {id} has changed byte {at} of a page, outside of its segment")]
    WroteOutside {
        /// The request.
        id: u64,
        /// Offset in the page.
        at: usize,
    },
    /// What the ABI does not define in a response must be 0 (XSA-216).
    #[error("RNG-03: padding of the response to {id} is not 0")]
    Padding {
        /// The request.
        id: u64,
    },
    /// Interrupts that bring nothing: Linux delays further ones.
    #[error("FE-11: {events} events for {responses} responses")]
    NeedlessEvents {
        /// Events taken.
        events: u64,
        /// Responses taken.
        responses: u64,
    },
    /// The machine itself failed us.
    #[error(transparent)]
    Machine(#[from] SimError),
}
