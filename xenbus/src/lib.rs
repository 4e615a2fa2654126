//! The xenstore client, and the split-driver handshake.
//!
//! xenstore is how toolstack, guests and backends talk before there is a ring: a small tree of text
//! nodes with permissions, watches and transactions, served by xenstored. A backend is told there
//! what to serve, tells there what it can do, and finds there the guest's grant references and
//! event channels.
//!
//! 1. Nothing waits for ever: every call has a deadline, and a connection that missed one is given
//!    up ([`Store`]).
//! 2. Nothing a guest writes costs more than a bound: watch events are folded ([`WatchEvent`]),
//!    values are parsed strictly and within limits ([`BlockOffer`]), transactions are retried a
//!    few times only.
//! 3. A removed directory stays removed ([`switch_state`]).
//! 4. What to do next is decided by a pure function of what is ([`Handshake::decide`]), not of what
//!    happened.
//! 5. Which guest a device belongs to is told by our own path, never by the guest
//!    ([`BackendPath`]).
//!
//! The walk of a device: a watch on [`Class::directory`] fires → [`BackendPath::containing`] names
//! the device → [`Snapshot::read`] → [`Handshake::decide`] → its [`Action`]s, among them
//! [`BlockOffer::read`] before connecting, and [`switch_state`] → the next watch fires.
//!
//! The client is our own because no other had a usable licence and watches, transactions, bounds
//! and deadlines. It speaks the protocol of Xen's `docs/misc/xenstore.txt` over xenstored's socket
//! or `/dev/xen/xenbus`.

#![forbid(unsafe_code)]

mod endpoint;
mod errno;
mod error;
mod error_node;
mod events;
mod exchange;
mod handshake;
mod nodes;
mod number;
mod offer;
mod path;
mod perms;
mod request;
mod snapshot;
mod state;
mod store;
mod switch;
mod transaction;
pub mod wire;

pub use endpoint::Endpoint;
pub use errno::Errno;
pub use error::StoreError;
pub use error_node::{ErrorNode, TEXT_MAX};
pub use events::{PER_WATCH, WatchEvent};
pub use handshake::{Action, Connects, Event, Handshake, Phase, Why};
pub use number::{NotANumber, decimal, flag};
pub use offer::{
    BadOffer, BlockOffer, Clipped, ControlOffer, LiveOffer, NetworkLimits, NetworkOffer,
    OfferError, OfferFault, OfferLimits, PORT_MAX, QueueOffer, RingOffer, Values, XDP_HEADROOM_MAX,
};
pub use path::{BackendPath, Class, DOMID_MAX};
pub use perms::{Permissions, Right};
pub use snapshot::{Hotplug, Seen, Snapshot};
pub use state::State;
pub use store::{PATIENCE, Store};
pub use switch::{Key, Switched, announce, switch_state, switch_state_with};
pub use transaction::{TRIES, Transaction};
