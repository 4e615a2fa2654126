//! Tests.

pub mod contracts;
pub mod frontend;
pub mod sim;
pub mod verify;
