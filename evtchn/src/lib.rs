//! Xen event channels: one-bit signals between two domains.
//!
//! A guest allocates a port, publishes its number in xenstore, and a backend binds it. From then on
//! each side can *notify* the other; notifications that arrive before the last one was looked at are
//! one notification.
//!
//! The walk of a backend: [`Evtchn::open`] → [`Evtchn::restrict`] to the one guest →
//! [`Evtchn::bind`] its [`RemotePort`] → sleep on [`Evtchn::wait_fd`] → [`Evtchn::pending`] yields
//! ports, each now masked → work → [`Evtchn::unmask`] → look at the ring once more → sleep.
//!
//! Event channels outlive the process that serves them: when a backend dies its end closes, and Xen
//! returns the guest's port to "unbound, for the same domain". A successor binds the same
//! [`RemotePort`] again, and finds its new port pending, so that nothing the guest signalled in
//! between is missed (`xen/common/event_channel.c`, `evtchn_close` and `evtchn_bind_interdomain`).
//! The other direction is not repaired: the successor has to notify the guest once.
//!
//! - [`handle`]: [`Evtchn`], the one type callers use, over either hypervisor
//! - [`port`]: the two kinds of port number
//! - [`error`]: what can go wrong, and whose doing it was
//! - [`Bell`]: the ports that wake one thread; slows down a guest that rings for nothing (`storm`)
//! - `device`, `sys`: the `/dev/xen/evtchn` device and its ioctls
//! - `sim`: the simulated hypervisor's client (feature `sim`)

mod bell;
mod device;
pub mod error;
pub mod handle;
pub mod port;
#[cfg(feature = "sim")]
pub mod sim;
mod storm;
mod sys;

pub use bell::Bell;
pub use error::EvtchnError;
pub use handle::Evtchn;
pub use port::{Kind, LocalPort, RemotePort};
