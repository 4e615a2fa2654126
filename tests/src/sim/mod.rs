//! The simulated machine: real kernel objects, a fake hypervisor, the real daemons.
//!
//! A directory with two sockets is a machine: `hypervisor.sock` for event channels and grants,
//! `xenstored.sock` for xenstore.

pub mod hypervisor;
mod machine;
pub mod xenstored;

pub use machine::Machine;
