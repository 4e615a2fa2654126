//! What event channels and grants promise, checked against the simulated hypervisor and against a
//! real one, by the same code.
//!
//! A simulation that is wrong makes every test on it worthless, and a device wrapper that is wrong is
//! found out too late. So each case here runs on both: under `cargo test` on the simulated machine,
//! and by the `pv-contracts` program in a real dom0.
//!
//! - [`peer`]: the other side of every case, a guest
//! - `sim_peer`, `xen_peer`: a simulated guest; dom0 itself, playing its own guest
//! - `events`, `event_ports`, `grant_maps`, `grant_copies`: the cases
//! - [`suite`]: running them
//! - [`store`]: the same for xenstore, with its own cases

mod event_ports;
mod events;
mod grant_copies;
mod grant_maps;
pub mod peer;
mod sim_peer;
pub mod store;
pub mod suite;
mod sys;
mod xen_peer;

pub use peer::Peer;
pub use sim_peer::SimPeer;
pub use suite::{Case, Tally, cases, run};
pub use xen_peer::XenPeer;
