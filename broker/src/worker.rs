//! A worker process: the broker's side of it and its own.

mod link;
mod process;

pub use self::link::{Link, LinkError};
pub use self::process::{Command, Exit, Worker};
