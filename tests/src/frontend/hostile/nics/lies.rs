//! NET-08 and NET-09: packets that are not what is said about them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::num::NonZeroU16;

use anyhow::ensure;
use ring_proto::netif::{Extra, Gso, Ip, TxSent, tx_flag};

use super::NetMove;
use super::attacker::{NetAttacker, slot};
use crate::frontend::netfront::frame::{Segment, Sum, tcp_flag};
use crate::frontend::netfront::wire::HOST;

const MSS: u16 = 1400;
const BLANK: u16 = tx_flag::CSUM_BLANK | tx_flag::DATA_VALIDATED;

/// The moves.
pub const MOVES: &[NetMove] = &[
    NetMove::new("NET-08", "sizes of pieces", sizes),
    NetMove::new("NET-08", "ways to cut up that do not exist", ways),
    NetMove::new("NET-08", "headers that are not those of long TCP", not_tcp),
    NetMove::new(
        "NET-09",
        "blank checksums where there are none",
        no_checksum,
    ),
];

fn segment(ip: Ip, mac: [u8; 6], payload: &[u8]) -> Segment<'_> {
    let addresses = match ip {
        Ip::V4 => (
            IpAddr::V4(Ipv4Addr::new(192, 0, 2, 2)),
            IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)),
        ),
        Ip::V6 => (
            IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 2)),
            IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1)),
        ),
    };
    Segment {
        stations: (HOST, mac),
        addresses,
        ports: (1000, 80),
        seq: 7,
        ack: 9,
        flags: tcp_flag::ACK,
        options: &[],
        payload,
    }
}

/// Sends a frame as one packet with these extra infos; its status must be one of these.
fn packet(
    attacker: &mut NetAttacker,
    what: &str,
    frame: &[u8],
    flags: u16,
    extras: &[Extra],
    statuses: &[i16],
) -> anyhow::Result<()> {
    let mut slots = Vec::new();
    let mut pages = Vec::new();
    let chunks = frame.chunks(4096).count();
    for (at, bytes) in frame.chunks(4096).enumerate() {
        let page = attacker.page(bytes)?;
        let id = u16::try_from(at)?;
        let more = if at + 1 < chunks {
            tx_flag::MORE_DATA
        } else {
            0
        };
        if at == 0 {
            let info = if extras.is_empty() {
                0
            } else {
                tx_flag::EXTRA_INFO
            };
            let total = u16::try_from(frame.len())?;
            slots.push(slot(page.gref, 0, id, flags | more | info, total));
            for (at, &extra) in extras.iter().enumerate() {
                let last = at + 1 == extras.len();
                slots.push(TxSent::Extra(if last { extra } else { extra.followed() }));
            }
        } else {
            slots.push(slot(page.gref, 0, id, more, u16::try_from(bytes.len())?));
        }
        pages.push(page);
    }
    let sent = attacker.expect(what, &slots, statuses);
    for page in pages {
        attacker.domain().end_access(page.gref)?;
    }
    sent
}

fn gso(ip: Ip, size: u16) -> Extra {
    match NonZeroU16::new(size) {
        Some(size) => Extra::gso(Gso { ip, size }),
        None => Extra::new(Extra::GSO, [0, 0, 1, 0, 0, 0]),
    }
}

/// 64 KiB in pieces of a byte would be the work of 64 Ki frames, pieces that are longer than frames
/// may be would go round the MTU.
fn sizes(attacker: &mut NetAttacker) -> anyhow::Result<()> {
    let payload = vec![0x11; 60_000];
    for ip in [Ip::V4, Ip::V6] {
        let frame = segment(ip, attacker.mac(), &payload).frame(Sum::Blank);
        for size in [0, 1, 2, 87, 100, 255, 2000, u16::MAX] {
            let what = format!("{ip}, pieces of {size}");
            packet(attacker, &what, &frame, BLANK, &[gso(ip, size)], &[-1])?;
        }
        ensure!(attacker.forget_seen()? == 0, "something got through");
        for size in [256, MSS] {
            let what = format!("{ip}, pieces of {size}");
            packet(attacker, &what, &frame, BLANK, &[gso(ip, size)], &[0])?;
        }
        ensure!(
            attacker.forget_seen()? == 2,
            "good ones did not get through"
        );
    }
    Ok(())
}

fn ways(attacker: &mut NetAttacker) -> anyhow::Result<()> {
    let payload = vec![0x22; 20_000];
    let frame = segment(Ip::V4, attacker.mac(), &payload).frame(Sum::Blank);
    let [low, high] = MSS.to_le_bytes();
    for kind in [0, 3, 4, 5, 0x80, 0xff] {
        let extra = Extra::new(Extra::GSO, [low, high, kind, 0, 0, 0]);
        let what = format!("GSO type {kind}");
        packet(attacker, &what, &frame, BLANK, &[extra], &[-1])?;
    }
    // The protocol of the other version.
    packet(
        attacker,
        "TCPv6 in IPv4",
        &frame,
        BLANK,
        &[gso(Ip::V6, MSS)],
        &[-1],
    )?;
    let frame = segment(Ip::V6, attacker.mac(), &payload).frame(Sum::Blank);
    packet(
        attacker,
        "TCPv4 in IPv6",
        &frame,
        BLANK,
        &[gso(Ip::V4, MSS)],
        &[-1],
    )?;
    ensure!(attacker.forget_seen()? == 0, "something got through");
    Ok(())
}

/// A change of a good frame, and where it is.
struct Change {
    what: &'static str,
    at: usize,
    bytes: &'static [u8],
}

const fn change(what: &'static str, at: usize, bytes: &'static [u8]) -> Change {
    Change { what, at, bytes }
}

/// What makes of TCP over IPv4 something else.
const V4: &[Change] = &[
    change("ARP", 12, &[8, 6]),
    change("no IP", 12, &[0x88, 0xb5]),
    change("IPv6 by its Ethernet type only", 12, &[0x86, 0xdd]),
    change("IP version 5", 14, &[0x55]),
    change("an IP header of 16 bytes", 14, &[0x44]),
    change("an IP header of 60 bytes", 14, &[0x4f]),
    change("an IP packet of 20 bytes", 16, &[0, 20]),
    change("an IP packet of 0 bytes", 16, &[0, 0]),
    change("an IP packet longer than the frame", 16, &[0xff, 0xff]),
    change("a first fragment", 20, &[0x20, 0]),
    change("a later fragment", 20, &[0, 100]),
    change("ICMP", 23, &[1]),
    change("UDP", 23, &[17]),
    change("SCTP", 23, &[132]),
    change("a TCP header of 0 bytes", 46, &[0]),
    change("a TCP header of 16 bytes", 46, &[0x40]),
];

/// What makes of TCP over IPv6 something else.
const V6: &[Change] = &[
    change("IPv4 by its Ethernet type only", 12, &[8, 0]),
    change("IP version 4", 14, &[0x45]),
    change("a payload of 0 bytes", 18, &[0, 0]),
    change("a payload of 19 bytes", 18, &[0, 19]),
    change("a payload longer than the frame", 18, &[0xff, 0xff]),
    change("ICMPv6", 20, &[58]),
    change("nothing", 20, &[59]),
    change("a fragment", 20, &[44]),
    change("UDP", 20, &[17]),
];

fn not_tcp(attacker: &mut NetAttacker) -> anyhow::Result<()> {
    let payload = vec![0; 20_000];
    for (ip, changes) in [(Ip::V4, V4), (Ip::V6, V6)] {
        let good = segment(ip, attacker.mac(), &payload).frame(Sum::Blank);
        for Change { what, at, bytes } in changes {
            let mut frame = good.clone();
            frame[*at..at + bytes.len()].copy_from_slice(bytes);
            for flags in [BLANK, 0] {
                let what = format!("{ip}: {what}, flags {flags}");
                packet(attacker, &what, &frame, flags, &[gso(ip, MSS)], &[-1])?;
            }
        }
        // Cut off inside of its headers.
        for len in 14..segment(ip, attacker.mac(), &[]).headers() {
            let what = format!("{ip}: {len} bytes");
            packet(attacker, &what, &good[..len], BLANK, &[gso(ip, MSS)], &[-1])?;
        }
    }
    ensure!(attacker.forget_seen()? == 0, "something got through");
    Ok(())
}

fn no_checksum(attacker: &mut NetAttacker) -> anyhow::Result<()> {
    let payload = vec![0; 1000];
    for (ip, changes) in [(Ip::V4, V4), (Ip::V6, V6)] {
        let blank = segment(ip, attacker.mac(), &payload).frame(Sum::Blank);
        for Change { what, at, bytes } in changes {
            // UDP has a checksum, too; and neither options nor what is behind the field matter to it.
            let good = ["UDP", "TCP header", "60 bytes", "19 bytes"];
            if good.iter().any(|good| what.contains(good)) {
                continue;
            }
            let mut frame = blank.clone();
            frame[*at..at + bytes.len()].copy_from_slice(bytes);
            let what = format!("{ip}: {what}");
            packet(attacker, &what, &frame, BLANK, &[], &[-1])?;
        }
        for len in 14..segment(ip, attacker.mac(), &[]).headers() {
            let what = format!("{ip}: {len} bytes");
            packet(attacker, &what, &blank[..len], BLANK, &[], &[-1])?;
        }
    }
    ensure!(attacker.forget_seen()? == 0, "something got through");
    Ok(())
}
