//! The Xen split-driver wire: ids, ring arithmetic, blkif messages.
#![forbid(unsafe_code)]

mod back;
pub mod blkif;
mod front;
mod ids;
mod shared;
pub mod sync;

pub use back::{AttachError, BackRing, Claim, Indices, Overrun};
pub use front::{FrontRing, Full, ResponseOverrun};
pub use ids::{DomId, GrantRef, Sector};
pub use shared::{Notify, RingMemory, RingShape, TooSmall};
