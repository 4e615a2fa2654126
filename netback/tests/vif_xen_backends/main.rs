//! The hotplug script, run as libxl runs it, on a host of its own: a network of its own, with a
//! xenstore made of files.

#![expect(clippy::unwrap_used, reason = "a test may panic, in its fixtures too")]

mod bridge;
mod failures;
mod host;
mod names;
mod nat;
mod packets;
mod route;
mod together;
mod wire;
