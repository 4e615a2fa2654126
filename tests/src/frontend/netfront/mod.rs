//! Network frontends that follow a script, as Linux `xen-netfront` does it, and as distrustful.
//!
//! What Linux disables an interface for, drops a frame for, or would be harmed by is an error here
//! ([`NetMisbehaviour`], named after the rules FE-01 to FE-24 of the threat catalogue). Directions are
//! the guest's.
//!
//! - [`shape`]: what a connection looks like: queues, event channels, features
//! - [`offer`]: what is written to xenstore, and what the backend says there
//! - [`frame`]: frames, what is in them, and how they are cut into slots
//! - [`tx`], [`rx`]: one ring each, every response checked
//! - [`control`]: the ring on which hashing is agreed on
//! - [`queue`]: two rings and their event channels
//! - [`vif`]: an interface, connected and closed
//! - [`wire`]: an interface and who is at its other end: verified frames both ways

pub mod control;
pub mod fault;
pub mod frame;
pub mod offer;
pub mod queue;
pub mod rx;
pub mod shape;
pub mod tx;
pub mod vif;
pub mod wire;

pub use control::Control;
pub use fault::NetMisbehaviour;
pub use queue::NetQueue;
pub use rx::Received;
pub use shape::NetShape;
pub use tx::{Packet, Sent};
pub use vif::Netfront;
pub use wire::{Traffic, Wire};
