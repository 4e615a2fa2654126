//! The Xen split-driver wire: ids, ring arithmetic, blkif messages.
#![forbid(unsafe_code)]

mod ids;
mod shared;
pub mod sync;

pub use ids::{DomId, GrantRef, Sector};
pub use shared::RingMemory;
