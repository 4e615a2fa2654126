//! Addresses, and waiting for one frame.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use anyhow::Context;
use pv_tests::frontend::netfront::frame::is_filler;
use pv_tests::frontend::netfront::{Received, Wire};
use pv_tests::network::Seen;

const PATIENCE: Duration = Duration::from_secs(10);

pub(crate) const fn guest_v4() -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(192, 0, 2, 2))
}

pub(crate) const fn host_v4() -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1))
}

pub(crate) const fn guest_v6() -> IpAddr {
    IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 2))
}

pub(crate) const fn host_v6() -> IpAddr {
    IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1))
}

/// The next frame that a queue of the guest gets, hellos left out.
pub(crate) fn receive(wire: &mut Wire, queue: usize) -> anyhow::Result<Received> {
    wire.next(queue, |frame| !is_filler(&frame.bytes))
}

/// The next frame that the host's end gets.
pub(crate) fn seen(wire: &mut Wire) -> anyhow::Result<Seen> {
    let seen = wire.peer.wait(PATIENCE, |_| true)?;
    seen.context("the host gets nothing of the guest")
}
