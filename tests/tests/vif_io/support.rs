//! Addresses, datagrams, and waiting for one frame.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use anyhow::Context;
use pv_tests::frontend::netfront::frame::{Segment, Sum, is_filler};
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

/// UDP with the payload, the addresses and the ports of a segment.
pub(crate) fn datagram(segment: &Segment<'_>, sum: Sum) -> Vec<u8> {
    let start = segment.start();
    let mut frame = segment.frame(Sum::Whole);
    frame.splice(start + 4..segment.headers(), [0; 4]);
    let len = u16::try_from(frame.len() - start).unwrap_or(0);
    frame[start + 4..start + 6].copy_from_slice(&len.to_be_bytes());
    let (addresses, place) = match segment.addresses.0 {
        IpAddr::V4(_) => (26..34, 16),
        IpAddr::V6(_) => (22..54, 18),
    };
    let total = match segment.addresses.0 {
        IpAddr::V4(_) => len + 20,
        IpAddr::V6(_) => len,
    };
    frame[place..place + 2].copy_from_slice(&total.to_be_bytes());
    if segment.addresses.0.is_ipv4() {
        frame[23] = UDP;
        frame[24..26].fill(0);
        let header = !folded(&[&frame[14..34]]);
        frame[24..26].copy_from_slice(&header.to_be_bytes());
    } else {
        frame[20] = UDP;
    }
    let pseudo = [&frame[addresses], &len.to_be_bytes(), &[0, UDP]].concat();
    let checksum = match sum {
        Sum::Blank => folded(&[&pseudo]),
        // 0 says that there is none.
        Sum::Whole => match !folded(&[&pseudo, &frame[start..]]) {
            0 => 0xffff,
            whole => whole,
        },
        Sum::Wrong => !folded(&[&pseudo, &frame[start..]]) ^ 0x5555,
    };
    frame[start + 6..start + 8].copy_from_slice(&checksum.to_be_bytes());
    frame
}

const UDP: u8 = 17;

/// The Internet checksum's sum; all but the last piece have an even length.
fn folded(pieces: &[&[u8]]) -> u16 {
    let words = pieces.iter().flat_map(|piece| piece.chunks(2));
    let mut sum: u64 = words
        .map(|pair| {
            u64::from(u16::from_be_bytes([
                pair[0],
                pair.get(1).copied().unwrap_or(0),
            ]))
        })
        .sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    u16::try_from(sum).unwrap_or(0)
}
