//! Tests.

pub mod sim;
pub mod verify;
