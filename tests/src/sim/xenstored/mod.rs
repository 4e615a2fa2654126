//! The simulated xenstored: the real wire protocol, one tree, and faults on demand.
//!
//! A server on `xenstored.sock` plays xenstored for domain 0: toolstack, backends and tests. Every
//! other domain gets a socket of its own, `xenstored-N.sock`, when it is introduced, and whoever
//! connects there *is* domain N: it may write below its own nodes and read what the permissions
//! allow. It is stricter than xenstored: bringing a removed backend directory back is a violation,
//! kept until a test asks for it through [`Control`], and so is a request that breaks the protocol.
//!
//! - `server`: the sockets, one thread, one request at a time
//! - `session`: what belongs to one connection: watches, transactions, what is still to be sent
//! - `requests`, `nodes`: from messages to operations, and their answers
//! - `tree`, `change`, `access`: the nodes, what can be done to them, and by whom
//! - `transaction`: operations put aside until they are committed, or not
//! - `events`: who is told of what
//! - `graves`: removed backend directories
//! - `faults`: what a test makes go wrong
//! - [`Control`]: the toolstack's and the test's side
//!
//! What a conflict is, when watches fire and what is refused follows the C xenstored of Xen 4.17
//! (`tools/xenstore`).

mod access;
mod change;
mod control;
mod events;
mod faults;
mod graves;
mod nodes;
mod requests;
mod server;
mod session;
mod transaction;
mod tree;

pub use control::{Control, domain_socket, socket};
pub use server::Server;
