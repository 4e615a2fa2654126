//! What the backend daemons share above the wire: device supervision, workers, fd passing.

pub mod channel;
pub mod message;
mod sys;
pub mod worker;
