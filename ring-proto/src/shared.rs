//! The page that both sides can write: where each index lives and how it is reached.

use crate::sync::AtomicU32;

/// Memory that a ring lives in: 32-bit words that another domain may change at any moment.
///
/// A `&[AtomicU32]` can be read and written, but nobody can make a `&[u8]` of it, so every use of a
/// guest's bytes is a copy by construction. All words must stay the same memory for the life of the
/// value: implementations return the same slice on every call.
pub trait RingMemory {
    /// The words, in address order from the start of the first page.
    fn words(&self) -> &[AtomicU32];
}

impl RingMemory for &[AtomicU32] {
    fn words(&self) -> &[AtomicU32] {
        self
    }
}

impl RingMemory for Vec<AtomicU32> {
    fn words(&self) -> &[AtomicU32] {
        self
    }
}

impl RingMemory for Box<[AtomicU32]> {
    fn words(&self) -> &[AtomicU32] {
        self
    }
}

impl<M: RingMemory + ?Sized> RingMemory for std::sync::Arc<M> {
    fn words(&self) -> &[AtomicU32] {
        (**self).words()
    }
}
