//! The simulated hypervisor: event channels as eventfds, guest memory as memfds, grants checked.
//!
//! A server on `hypervisor.sock` plays Xen for backends (through the `sim` side of the `evtchn` and
//! `gntdev` crates), for guests ([`GuestDomain`]) and for the toolstack ([`Control`]). It is
//! stricter than Xen: what a backend does wrong without Xen minding is a [`Violation`], kept until
//! a test asks.
//!
//! - `server`, `datagram`: the socket, one thread, one request at a time
//! - `request`: from words to operations
//! - `state`: what there is: domains, and what was done wrong
//! - `ports`: event channels, as `xen/common/event_channel.c` has them
//! - `grants`: who has what mapped, as `xen/common/grant_table.c` has it
//! - [`client`]: the guest's and the toolstack's side
//!
//! Domain 0 is where backends run. Other domains are numbered from 1 and never reuse a number.

pub mod client;
mod datagram;
mod grants;
mod ports;
mod request;
mod server;
mod state;
pub(crate) mod sys;
#[cfg(test)]
mod tests;
pub mod wire;

pub use client::{Control, GuestDomain, GuestPages, GuestPort, SimError, StillInUse};
pub use server::Server;
pub use state::Violation;
