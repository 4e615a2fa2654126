//! The other side of the machine: guests, and the toolstack that makes and ends them.
//!
//! - [`GuestDomain`]: a guest's memory and grant table, for scripted frontends
//! - [`GuestPages`], [`GuestPort`]: its pages and its event channels
//! - [`Control`]: what a toolstack and a test want to know and do

mod control;
mod domain;
mod link;
mod pages;
mod port;

pub use control::{Control, DomainState};
pub use domain::{GuestDomain, StillInUse};
pub use link::SimError;
pub use pages::GuestPages;
pub use port::GuestPort;
