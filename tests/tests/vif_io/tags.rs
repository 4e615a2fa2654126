//! Frames with VLAN tags for the guest. netif has no words about what is behind a tag, and Linux's
//! frontend throws away what it is told about it: the guest gets such frames whole and complete,
//! whatever it takes of others.

use std::net::IpAddr;

use anyhow::ensure;
use pv_tests::frontend::netfront::frame::{Parts, Segment, Sum, numbered, tcp_flag};
use pv_tests::frontend::netfront::wire::HOST;
use pv_tests::frontend::netfront::{NetShape, Received, Wire};
use pv_tests::network::{Peer, Undone};
use pv_tests::toolstack::NicLine;
use ring_proto::netif::{Ip, rx_flag};

use super::support::datagram;
use super::{MAC, NO_OFFLOADS, guest_v4, guest_v6, host_v4, host_v6, receive, with_wire};

const MSS: u16 = 1400;

const TAG: [u8; 4] = [0x81, 0, 0, 5];
const OUTER: [u8; 4] = [0x88, 0xa8, 0, 9];

const SHAPES: [NetShape; 3] = [NetShape::LINUX, NO_OFFLOADS, NetShape::LEAST];

fn addresses(ip: Ip) -> (IpAddr, IpAddr) {
    match ip {
        Ip::V4 => (host_v4(), guest_v4()),
        Ip::V6 => (host_v6(), guest_v6()),
    }
}

fn segment(ip: Ip, payload: &[u8]) -> Segment<'_> {
    Segment {
        stations: (MAC, HOST),
        addresses: addresses(ip),
        ports: (80, 1000),
        seq: 7,
        ack: 9,
        flags: tcp_flag::ACK,
        options: &[],
        payload,
    }
}

fn tagged(frame: &[u8], tags: &[u8]) -> Vec<u8> {
    [&frame[..12], tags, &frame[12..]].concat()
}

/// A frame of the guest without its tags, which must be these.
fn untagged(received: &Received, tags: &[u8]) -> anyhow::Result<Vec<u8>> {
    let bytes = &received.bytes;
    let found = bytes.get(12..12 + tags.len());
    ensure!(found == Some(tags), "tagged {found:02x?}");
    let told = received.flags & rx_flag::CSUM_BLANK != 0 || received.gso.is_some();
    ensure!(!told, "{:#x}, {:?}", received.flags, received.gso);
    Ok([&bytes[..12], &bytes[12 + tags.len()..]].concat())
}

#[test]
fn net_14_blank_checksums_behind_tags_are_completed() -> anyhow::Result<()> {
    with_wire(&NicLine::new(0, MAC), &SHAPES, |wire| {
        for (ip, tags) in [Ip::V4, Ip::V6]
            .into_iter()
            .flat_map(|ip| [TAG.to_vec(), [OUTER, TAG].concat()].map(|tags| (ip, tags)))
        {
            for len in [0, 1, 1000, 1001, 1400] {
                let payload = vec![0x5a; len];
                let segment = segment(ip, &payload);
                let start = segment.start() + tags.len();
                let frames = [
                    (segment.frame(Sum::Blank), segment.frame(Sum::Whole), 16),
                    (
                        datagram(&segment, Sum::Blank),
                        datagram(&segment, Sum::Whole),
                        6,
                    ),
                ];
                for (blank, whole, offset) in frames {
                    let undone = Undone {
                        checksum: Some((u16::try_from(start)?, offset)),
                        ..Undone::default()
                    };
                    wire.peer.send_undone(&tagged(&blank, &tags), undone)?;
                    let got = untagged(&receive(wire, 0)?, &tags)?;
                    ensure!(
                        got == whole,
                        "{ip}, {len}, {} tags: other bytes",
                        tags.len() / 4
                    );
                }
            }
        }
        Ok(())
    })
}

#[test]
fn net_14_long_packets_behind_tags_are_cut_up() -> anyhow::Result<()> {
    with_wire(&NicLine::new(0, MAC), &SHAPES, |wire| {
        for ip in [Ip::V4, Ip::V6] {
            for len in [usize::from(MSS) + 1, 20_000, 65_000] {
                bring(wire, ip, len)?;
            }
        }
        Ok(())
    })
}

/// As many at once as leave the guest no room for all of their pieces: they come when there is, and
/// what comes behind them stays behind them.
#[test]
fn net_14_more_pieces_than_there_is_room_for() -> anyhow::Result<()> {
    for buffers in [20, 40] {
        let shape = NetShape {
            buffers,
            ..NetShape::LINUX
        };
        with_wire(&NicLine::new(0, MAC), &[shape], |wire| {
            let payload = payload(60_000);
            for _ in 0..10 {
                send(&wire.peer, Ip::V4, &payload)?;
            }
            let last = numbered(MAC, HOST, 1 << 40, 1000);
            wire.peer.send(&last)?;
            for _ in 0..10 {
                collect(wire, Ip::V4, &payload)?;
            }
            ensure!(receive(wire, 0)?.bytes == last, "another frame");
            Ok(())
        })?;
    }
    Ok(())
}

/// A guest closes, or is closed, with pieces under way.
#[test]
fn a_guest_that_goes_with_pieces_under_way() -> anyhow::Result<()> {
    let shape = NetShape {
        buffers: 20,
        ..NetShape::LINUX
    };
    with_wire(&NicLine::new(0, MAC), &[shape, shape], |wire| {
        send(&wire.peer, Ip::V4, &payload(60_000))?;
        receive(wire, 0).map(drop)
    })
}

fn payload(len: usize) -> Vec<u8> {
    (0_u8..251).cycle().take(len).collect()
}

fn bring(wire: &mut Wire, ip: Ip, len: usize) -> anyhow::Result<()> {
    let payload = payload(len);
    send(&wire.peer, ip, &payload)?;
    collect(wire, ip, &payload)
}

/// Sends a tagged segment that is to be cut up.
fn send(peer: &Peer, ip: Ip, payload: &[u8]) -> anyhow::Result<()> {
    let segment = segment(ip, payload);
    let kind = match ip {
        Ip::V4 => Undone::TCPV4,
        Ip::V6 => Undone::TCPV6,
    };
    let more = TAG.len();
    let undone = Undone {
        checksum: Some((u16::try_from(segment.start() + more)?, 16)),
        valid: false,
        cut: Some((kind, MSS)),
        headers: u16::try_from(segment.headers() + more)?,
    };
    peer.send_undone(&tagged(&segment.frame(Sum::Blank), &TAG), undone)
}

/// Takes its pieces, each of them a whole segment, in order.
fn collect(wire: &mut Wire, ip: Ip, payload: &[u8]) -> anyhow::Result<()> {
    let mut total = Vec::new();
    while total.len() < payload.len() {
        let frame = receive(wire, 0)?;
        ensure!(frame.bytes.len() <= 1518, "{} bytes", frame.bytes.len());
        let frame = untagged(&frame, &TAG)?;
        ensure!(
            Sum::of(&frame) == Some((ip, Sum::Whole)),
            "{:?}",
            Sum::of(&frame)
        );
        let tcp = Parts::of(&frame).and_then(|parts| parts.tcp());
        let tcp = tcp.expect("it is TCP");
        let expected = 7 + u32::try_from(total.len())?;
        ensure!(tcp.seq == expected, "seq {} behind {expected}", tcp.seq);
        total.extend_from_slice(tcp.payload);
    }
    ensure!(total == payload, "{ip}, {}: other bytes", payload.len());
    Ok(())
}
