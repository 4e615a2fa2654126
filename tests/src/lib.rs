//! Tests.

pub mod bench;
pub mod contracts;
pub mod daemon;
pub mod demo;
pub mod frontend;
pub mod realxen;
pub mod scene;
pub mod sim;
pub mod toolstack;
pub mod verify;
