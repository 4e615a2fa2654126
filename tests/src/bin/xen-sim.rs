//! The simulated hypervisor.

fn main() {}
