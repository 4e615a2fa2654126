//! Tests.

pub mod contracts;
pub mod daemon;
pub mod frontend;
pub mod scene;
pub mod sim;
pub mod toolstack;
pub mod verify;
