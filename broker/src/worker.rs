//! A worker process: the broker's side of it and its own.
//!
//! The broker's side is [`Worker`], a child process on a control socket. The process itself
//! [`run`]s: it takes orders from its [`Link`], has its [`Backend`] make queues of them, and gives
//! each a thread.

mod crew;
mod link;
mod orders;
mod process;
mod reporter;

pub use self::crew::{DeviceError, Queue, Recruit};
pub use self::link::{Link, LinkError};
pub use self::orders::{Backend, run};
pub use self::process::{Command, Exit, Worker};
pub use self::reporter::Reporter;
