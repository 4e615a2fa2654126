//! What each side leaves to the other: checksums, and packets to be cut up.

use std::net::IpAddr;
use std::num::NonZeroU16;

use anyhow::ensure;
use pv_tests::frontend::netfront::frame::{Cut, Parts, Segment, Sum, tcp_flag};
use pv_tests::frontend::netfront::wire::HOST;
use pv_tests::frontend::netfront::{NetShape, Packet, Received, Wire};
use pv_tests::network::Undone;
use pv_tests::toolstack::NicLine;
use ring_proto::netif::{Extra, Gso, Ip, rx_flag, tx_flag};

use super::support::datagram;
use super::{MAC, NO_OFFLOADS, guest_v4, guest_v6, host_v4, host_v6, receive, seen, with_wire};

const BOTH: u16 = rx_flag::CSUM_BLANK | rx_flag::DATA_VALIDATED;

const MSS: u16 = 1400;

/// As a Linux guest without IPv6 checksums.
const ONLY_V4: NetShape = NetShape {
    blank_v6: false,
    ..NetShape::LINUX
};

fn nic() -> NicLine {
    NicLine::new(0, MAC)
}

fn addresses(ip: Ip) -> (IpAddr, IpAddr) {
    match ip {
        Ip::V4 => (guest_v4(), host_v4()),
        Ip::V6 => (guest_v6(), host_v6()),
    }
}

fn payload(len: usize) -> Vec<u8> {
    (0_u8..251).cycle().take(len).collect()
}

/// A segment of the guest.
fn out(ip: Ip, payload: &[u8]) -> Segment<'_> {
    Segment {
        stations: (HOST, MAC),
        addresses: addresses(ip),
        ports: (1000, 80),
        seq: 7,
        ack: 9,
        flags: tcp_flag::ACK,
        options: &[],
        payload,
    }
}

/// A segment for the guest.
fn into(ip: Ip, payload: &[u8]) -> Segment<'_> {
    let (guest, host) = addresses(ip);
    Segment {
        stations: (MAC, HOST),
        addresses: (host, guest),
        ports: (80, 1000),
        ..out(ip, payload)
    }
}

fn gso(ip: Ip) -> Gso {
    let size = NonZeroU16::new(MSS).expect("it is not 0");
    Gso { ip, size }
}

fn send(wire: &mut Wire, frame: &[u8], flags: u16, extras: &[Extra]) -> anyhow::Result<()> {
    let packet = Packet {
        bytes: frame,
        cuts: &Cut::pages(frame.len()),
        flags,
        extras,
    };
    let status = wire.answer(0, &packet)?;
    ensure!(status == 0, "status {status}");
    Ok(())
}

/// Where the checksum of a segment is to be put.
fn place(segment: &Segment<'_>) -> Option<(u16, u16)> {
    u16::try_from(segment.start()).ok().map(|start| (start, 16))
}

#[test]
fn net_09_a_checksum_that_the_guest_leaves_blank() -> anyhow::Result<()> {
    with_wire(&nic(), &[NetShape::LINUX, NetShape::LEAST], |wire| {
        for ip in [Ip::V4, Ip::V6] {
            let payload = payload(999);
            let segment = out(ip, &payload);
            let frame = segment.frame(Sum::Blank);
            for flags in [
                tx_flag::CSUM_BLANK,
                tx_flag::CSUM_BLANK | tx_flag::DATA_VALIDATED,
            ] {
                send(wire, &frame, flags, &[])?;
                let seen = seen(wire)?;
                ensure!(seen.bytes == frame, "{ip}: other bytes");
                let undone = Undone {
                    checksum: place(&segment),
                    ..Undone::default()
                };
                let found = Undone {
                    headers: 0,
                    ..seen.undone
                };
                ensure!(found == undone, "{ip}: {:?}", seen.undone);
            }
        }
        Ok(())
    })
}

#[test]
fn net_10_nobody_believes_a_guest_that_its_checksum_is_right() -> anyhow::Result<()> {
    with_wire(&nic(), &[NetShape::LINUX], |wire| {
        for sum in [Sum::Whole, Sum::Wrong] {
            let frame = out(Ip::V4, b"believe me").frame(sum);
            send(wire, &frame, tx_flag::DATA_VALIDATED, &[])?;
            let seen = seen(wire)?;
            ensure!(seen.bytes == frame && seen.undone == Undone::default());
        }
        Ok(())
    })
}

#[test]
fn a_long_packet_of_the_guest_stays_whole() -> anyhow::Result<()> {
    with_wire(&nic(), &[NetShape::LINUX, NO_OFFLOADS], |wire| {
        for ip in [Ip::V4, Ip::V6] {
            for len in [usize::from(MSS) + 1, 20_000, 65_000] {
                let payload = payload(len);
                let segment = out(ip, &payload);
                let frame = segment.frame(Sum::Blank);
                let flags = tx_flag::CSUM_BLANK | tx_flag::DATA_VALIDATED;
                send(wire, &frame, flags, &[Extra::gso(gso(ip))])?;
                let seen = seen(wire)?;
                ensure!(seen.bytes == frame, "{ip}, {len}: other bytes");
                let kind = match ip {
                    Ip::V4 => Undone::TCPV4,
                    Ip::V6 => Undone::TCPV6,
                };
                ensure!(seen.undone.cut == Some((kind, MSS)), "{:?}", seen.undone);
                ensure!(seen.undone.checksum == place(&segment));
            }
        }
        Ok(())
    })
}

#[test]
fn a_blank_checksum_for_a_guest_that_takes_it() -> anyhow::Result<()> {
    with_wire(&nic(), &[NetShape::LINUX], |wire| {
        for ip in [Ip::V4, Ip::V6] {
            let received = bring(wire, &into(ip, &payload(1000)))?;
            ensure!(received.flags == BOTH, "flags {:#x}", received.flags);
        }
        Ok(())
    })
}

/// Brings a frame with a blank checksum; it must come as it was, or complete.
fn bring(wire: &mut Wire, segment: &Segment<'_>) -> anyhow::Result<Received> {
    let undone = Undone {
        checksum: place(segment),
        ..Undone::default()
    };
    let blank = segment.frame(Sum::Blank);
    wire.peer.send_undone(&blank, undone)?;
    let received = receive(wire, 0)?;
    let expected = if received.flags & rx_flag::CSUM_BLANK != 0 {
        blank
    } else {
        segment.frame(Sum::Whole)
    };
    ensure!(received.bytes == expected, "other bytes");
    Ok(received)
}

/// A tap knows one switch for both protocols, so where a guest takes the one and not the other, the
/// worker completes what the kernel leaves.
#[test]
fn net_14_a_guest_that_takes_blank_checksums_of_one_protocol_only() -> anyhow::Result<()> {
    for takes in [Ip::V4, Ip::V6] {
        let shape = NetShape {
            blank_v4: takes == Ip::V4,
            blank_v6: takes == Ip::V6,
            ..NetShape::LINUX
        };
        with_wire(&nic(), &[shape], |wire| {
            for ip in [Ip::V4, Ip::V6] {
                for len in [1, 2, 1000, 1001, 1024, 1400] {
                    let received = bring(wire, &into(ip, &payload(len)))?;
                    let expected = if ip == takes {
                        BOTH
                    } else {
                        rx_flag::DATA_VALIDATED
                    };
                    ensure!(received.flags == expected, "{ip}: {:#x}", received.flags);
                }
            }
            Ok(())
        })?;
    }
    Ok(())
}

#[test]
fn net_14_a_guest_that_takes_no_blank_checksum() -> anyhow::Result<()> {
    with_wire(&nic(), &[NetShape::LEAST, NO_OFFLOADS], |wire| {
        for ip in [Ip::V4, Ip::V6] {
            let received = bring(wire, &into(ip, &payload(1001)))?;
            ensure!(received.flags & rx_flag::CSUM_BLANK == 0);
        }
        Ok(())
    })
}

/// UDP's checksum may come to 0, which would say that there is none.
#[test]
fn net_14_datagrams_for_a_guest_that_takes_no_blank_checksum() -> anyhow::Result<()> {
    with_wire(&nic(), &[NetShape::LEAST, NO_OFFLOADS, ONLY_V4], |wire| {
        for ip in [Ip::V4, Ip::V6] {
            if wire.front.shape().takes_blank(ip) {
                continue;
            }
            for len in [0, 1, 2, 999, 1000, 1400] {
                for comes_to_none in [false, len > 1] {
                    let mut bytes = payload(len);
                    if comes_to_none {
                        bytes[..2].fill(0);
                        let rest = datagram(&into(ip, &bytes), Sum::Whole);
                        let at = into(ip, &bytes).start() + 6;
                        bytes[..2].copy_from_slice(&rest[at..at + 2]);
                    }
                    let segment = into(ip, &bytes);
                    let undone = Undone {
                        checksum: Some((u16::try_from(segment.start())?, 6)),
                        ..Undone::default()
                    };
                    wire.peer
                        .send_undone(&datagram(&segment, Sum::Blank), undone)?;
                    let received = receive(wire, 0)?;
                    let whole = datagram(&segment, Sum::Whole);
                    let field = &whole[segment.start() + 6..segment.start() + 8];
                    ensure!(
                        !comes_to_none || field == [0xff; 2],
                        "{ip}, {len}: {field:?}"
                    );
                    ensure!(received.bytes == whole, "{ip}, {len}: other bytes");
                    ensure!(received.flags & rx_flag::CSUM_BLANK == 0);
                }
            }
        }
        Ok(())
    })
}

/// Brings a packet that is to be cut up; what came, in order.
fn bring_long(wire: &mut Wire, ip: Ip, len: usize) -> anyhow::Result<Vec<Received>> {
    let payload = payload(len);
    let segment = into(ip, &payload);
    let kind = match ip {
        Ip::V4 => Undone::TCPV4,
        Ip::V6 => Undone::TCPV6,
    };
    let undone = Undone {
        checksum: place(&segment),
        valid: false,
        cut: Some((kind, MSS)),
        headers: u16::try_from(segment.headers())?,
    };
    wire.peer.send_undone(&segment.frame(Sum::Blank), undone)?;
    let (mut came, mut total) = (Vec::new(), Vec::new());
    while total.len() < len {
        let frame = receive(wire, 0)?;
        let parts = Parts::of(&frame.bytes).and_then(|parts| parts.tcp());
        let tcp = parts.expect("it is TCP");
        let expected = segment.seq + u32::try_from(total.len())?;
        ensure!(tcp.seq == expected, "seq {} behind {expected}", tcp.seq);
        total.extend_from_slice(tcp.payload);
        came.push(frame);
    }
    ensure!(total == payload, "{ip}, {len}: other bytes");
    Ok(came)
}

#[test]
fn a_long_packet_for_a_guest_that_takes_it() -> anyhow::Result<()> {
    with_wire(&nic(), &[NetShape::LINUX], |wire| {
        for ip in [Ip::V4, Ip::V6] {
            for len in [usize::from(MSS) + 1, 4096, 20_000, 65_535 - 74] {
                let came = bring_long(wire, ip, len)?;
                let [one] = &*came else {
                    anyhow::bail!("{} frames", came.len());
                };
                ensure!(one.gso == Some(gso(ip)), "{:?}", one.gso);
            }
        }
        Ok(())
    })
}

#[test]
fn net_14_a_long_packet_for_a_guest_that_does_not() -> anyhow::Result<()> {
    let only_v4 = NetShape {
        gso_v6: false,
        ..NetShape::LINUX
    };
    let only_v6 = NetShape {
        gso_v4: false,
        ..NetShape::LINUX
    };
    // What it says of GSO counts for nothing without several pages or without checksums.
    let no_sg = NetShape {
        sg: false,
        ..NetShape::LINUX
    };
    let no_sums = NetShape {
        blank_v4: false,
        blank_v6: false,
        ..NetShape::LINUX
    };
    for (shape, ips) in [
        (NetShape::LEAST, &[Ip::V4, Ip::V6][..]),
        (NO_OFFLOADS, &[Ip::V4, Ip::V6]),
        (only_v4, &[Ip::V6]),
        (only_v6, &[Ip::V4]),
        (no_sg, &[Ip::V4, Ip::V6]),
        (no_sums, &[Ip::V4, Ip::V6]),
    ] {
        with_wire(&nic(), &[shape], |wire| {
            for &ip in ips {
                let came = bring_long(wire, ip, 20_000)?;
                ensure!(came.iter().all(|frame| frame.gso.is_none()));
                ensure!(came.iter().all(|frame| frame.bytes.len() <= 1514));
            }
            Ok(())
        })?;
    }
    Ok(())
}
