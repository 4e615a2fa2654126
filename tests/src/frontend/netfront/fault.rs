//! What a backend must not do to a network frontend.

use ring_proto::ResponseOverrun;
use ring_proto::netif::Ip;

use crate::sim::hypervisor::{SimError, StillInUse};

/// What Linux frontends disable an interface for or drop a frame for, and what would harm a guest.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NetMisbehaviour {
    /// More answers than questions.
    #[error("FE-01: {0}")]
    TooManyResponses(#[from] ResponseOverrun),
    /// A transmit response where another's was due: of an id that is not pending, or out of order.
    #[error("FE-03: a transmit response to {said}, the next is due to {due:?}")]
    TxOrder {
        /// The id it repeats.
        said: u16,
        /// The id that was due, if one was.
        due: Option<u16>,
    },
    /// The response slot of an extra info says something else than that it is none.
    #[error("FE-10: status {status} in the slot of an extra info")]
    NotNull {
        /// What it says.
        status: i16,
    },
    /// A status that does not exist.
    #[error("the transmit response to {id} has status {status}")]
    UnknownStatus {
        /// The slot.
        id: u16,
        /// What the response says.
        status: i16,
    },
    /// The slots of one packet are not of one mind.
    #[error("slot {id} of a packet has status {said}, the slots before it {before}")]
    Divided {
        /// The slot.
        id: u16,
        /// What it says.
        said: i16,
        /// What was said before.
        before: i16,
    },
    /// A grant is still in use after its response.
    #[error("FE-05: after the response to {id}, {still}")]
    StillMapped {
        /// The slot.
        id: u16,
        /// Which grant.
        still: StillInUse,
    },
    /// Receive responses must stand in their requests' slots.
    #[error("FE-07: a receive response to {said} in the slot of {due}")]
    RxOrder {
        /// The id it repeats.
        said: u16,
        /// The id of the request in that slot.
        due: u16,
    },
    /// The data is not inside the buffer, or not where it has to be.
    #[error("FE-08: {len} bytes at {offset} of a buffer, the headroom is {headroom}")]
    RxPlace {
        /// Where.
        offset: u16,
        /// How many.
        len: i16,
        /// Where it should be in the first buffer.
        headroom: u16,
    },
    /// A frame whose end is not there, or that has no bytes.
    #[error("FE-08: a frame that ends after {slots} slots, with {what} missing")]
    Unfinished {
        /// Responses of it.
        slots: usize,
        /// What is missing.
        what: &'static str,
    },
    /// Linux drops longer ones.
    #[error("FE-09: a frame in {0} buffers")]
    TooManySlots(usize),
    /// An extra info that is none, or none for this direction, or makes no sense.
    #[error("FE-09: {0}")]
    Extra(String),
    /// Something that this frontend has not agreed to.
    #[error("NET-14: {0}, which was not agreed to")]
    NotAgreed(String),
    /// Windows frontends take it for a reason to stop the machine.
    #[error("FE-12: flags {flags:#x} on a frame that is to be cut up")]
    GsoFlags {
        /// What was said.
        flags: u16,
    },
    /// A checksum that is not what the flags say.
    #[error("FE-13: flags {flags:#x} on an {ip} frame whose checksum is {found}")]
    Checksum {
        /// What was said.
        flags: u16,
        /// Of which protocol.
        ip: Ip,
        /// What it is.
        found: String,
    },
    /// Bytes of a buffer have changed that are not those of the frame.
    #[error("NET-27: byte {at} of a buffer has changed, outside of the frame's {len} at {offset}")]
    WroteOutside {
        /// Which byte.
        at: usize,
        /// Where the frame's bytes are.
        offset: u16,
        /// How many there are.
        len: usize,
    },
    /// What the ABI does not define must be 0 (XSA-216).
    #[error("RNG-03: {what} is {found:#x} instead of 0")]
    Padding {
        /// What.
        what: &'static str,
        /// What it is.
        found: u32,
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
