//! What the backend daemons share above the wire: device supervision, workers, fd passing.
//!
//! A broker is privileged, small, and single-threaded. It parses hostile strings and never sees a
//! guest's memory; a worker, one per guest, sees that memory and never the store, a path or
//! another guest. What a worker needs is opened here and sent to it.
//!
//! The walk of a device: a watch fires → [`Supervisor`] notes which device → it looks, and
//! [`xenbus::Handshake`] decides → the daemon's [`Driver`] says what to advertise and what to
//! connect → [`ToWorker::Connect`](message::ToWorker) with descriptors goes to the guest's worker,
//! which is started if there is none → [`FromWorker::Connected`](message::FromWorker) → the
//! frontend is told. A worker that dies takes its guest's devices along and nothing else.
//!
//! A broker that ends leaves its workers serving. The next one finds them by their records, leaves
//! their devices alone and can end them.

pub mod acl;
mod attend;
pub mod board;
pub mod channel;
pub mod cli;
pub mod config;
mod connect;
pub mod control;
pub mod daemon;
mod device;
pub mod driver;
mod fleet;
pub mod glob;
pub mod hypervisor;
mod incumbent;
pub mod instance;
mod memory;
pub mod message;
pub mod owner;
mod pace;
mod past_errors;
pub mod preflight;
mod reports;
mod rescan;
pub mod supervisor;
mod sys;
pub mod throttle;
pub mod worker;

pub use driver::{Connection, Driver, Refused};
pub use hypervisor::Hypervisor;
pub use pace::Bucket;
pub use supervisor::{BrokerError, Settings, Supervisor};
