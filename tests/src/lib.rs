//! Tests.

pub mod verify;
