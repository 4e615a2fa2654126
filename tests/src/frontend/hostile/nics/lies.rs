//! NET-08 and NET-09: packets that are not what is said about them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::num::NonZeroU16;

use anyhow::ensure;
use ring_proto::netif::{Extra, Gso, Ip, TxSent, tx_flag};

use super::NetMove;
use super::attacker::{NetAttacker, slot};
use crate::frontend::buffers::Lent;
use crate::frontend::netfront::frame::{Segment, Sum, tcp_flag};
use crate::frontend::netfront::wire::HOST;

pub(super) const MSS: u16 = 1400;
/// Leaves room for more headers.
const LESS: u16 = 1300;
pub(super) const BLANK: u16 = tx_flag::CSUM_BLANK | tx_flag::DATA_VALIDATED;

/// The moves.
pub const MOVES: &[NetMove] = &[
    NetMove::new("NET-08", "sizes of pieces", sizes),
    NetMove::new("NET-08", "ways to cut up that do not exist", ways),
    NetMove::new("NET-08", "headers that are not those of long TCP", not_tcp),
    NetMove::new("NET-08", "TCP flags of no stream", not_a_stream),
    NetMove::new("NET-08", "bytes behind the IP packet", trailers),
    NetMove::new("NET-08", "headers in front of TCP", behind_headers),
    NetMove::new(
        "NET-09",
        "blank checksums where there are none",
        no_checksum,
    ),
];

pub(super) fn segment(ip: Ip, mac: [u8; 6], payload: &[u8]) -> Segment<'_> {
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
    let (slots, pages) = laid_out(attacker, frame, flags, extras)?;
    let sent = attacker.expect(what, &slots, statuses);
    give_back(attacker, pages)?;
    sent
}

/// Ends the grants of some pages.
pub(super) fn give_back(attacker: &NetAttacker, pages: Vec<Lent>) -> anyhow::Result<()> {
    for page in pages {
        attacker.domain().end_access(page.gref)?;
    }
    Ok(())
}

/// A frame as the slots of one packet, and the pages that they are about.
pub(super) fn laid_out(
    attacker: &NetAttacker,
    frame: &[u8],
    flags: u16,
    extras: &[Extra],
) -> anyhow::Result<(Vec<TxSent>, Vec<Lent>)> {
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
    Ok((slots, pages))
}

pub(super) fn gso(ip: Ip, size: u16) -> Extra {
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

/// Pieces of a segment that starts or ends a connection, or has an urgent byte, would each do so.
fn not_a_stream(attacker: &mut NetAttacker) -> anyhow::Result<()> {
    let payload = vec![0x33; 20_000];
    for ip in [Ip::V4, Ip::V6] {
        let plain = segment(ip, attacker.mac(), &payload);
        let mut through = 0;
        for flags in 0..=u8::MAX {
            let frame = Segment { flags, ..plain }.frame(Sum::Blank);
            let stream = flags & (tcp_flag::SYN | tcp_flag::RST | tcp_flag::URG) == 0;
            through += usize::from(stream);
            let status = if stream { 0 } else { -1 };
            let what = format!("{ip}: TCP flags {flags:#x}");
            packet(attacker, &what, &frame, BLANK, &[gso(ip, MSS)], &[status])?;
        }
        let seen = attacker.forget_seen()?;
        ensure!(seen == through, "{seen} of {through} frames got through");
    }
    Ok(())
}

/// The kernel would make a piece of the stream out of them.
fn trailers(attacker: &mut NetAttacker) -> anyhow::Result<()> {
    let payload = vec![0x44; 20_000];
    for ip in [Ip::V4, Ip::V6] {
        let mut frame = segment(ip, attacker.mac(), &payload).frame(Sum::Blank);
        for more in [1, 7, 1400, 20_000] {
            let whole = frame.len();
            frame.resize(whole + more, 0x55);
            for flags in [BLANK, 0] {
                let what = format!("{ip}: {more} bytes behind it, flags {flags}");
                packet(attacker, &what, &frame, flags, &[gso(ip, MSS)], &[-1])?;
            }
            frame.truncate(whole);
        }
    }
    ensure!(attacker.forget_seen()? == 0, "something got through");
    Ok(())
}

/// A frame with some bytes in between, behind what comes before the IP packet or the IP header; the
/// type in front of them changed to that of theirs.
fn inserted(frame: &[u8], at: usize, kind: (usize, &[u8]), bytes: &[u8]) -> Vec<u8> {
    let mut frame = [&frame[..at], bytes, &frame[at..]].concat();
    let (place, value) = kind;
    frame[place..place + value.len()].copy_from_slice(value);
    frame
}

/// TCP over IPv6 with extension headers, the first of this kind.
fn extended(plain: &Segment<'_>, first: u8, extensions: &[u8]) -> Vec<u8> {
    let frame = plain.frame(Sum::Blank);
    let len = u16::try_from(frame.len() - 54 + extensions.len());
    let mut frame = inserted(&frame, 54, (20, &[first]), extensions);
    frame[18..20].copy_from_slice(&len.unwrap_or(0).to_be_bytes());
    frame
}

/// Headers of options for the destination, in front of TCP; each is so many times 8 bytes longer
/// than 8.
fn options(headers: usize, more: u8) -> Vec<u8> {
    let one = 8 + 8 * usize::from(more);
    let mut extensions = vec![0; headers * one];
    for (at, header) in extensions.chunks_exact_mut(one).enumerate() {
        let next = if at + 1 == headers { 6 } else { 60 };
        // Filled up with one option.
        let option = u8::try_from(one - 4).unwrap_or(0);
        header[..4].copy_from_slice(&[next, more, 1, option]);
    }
    extensions
}

/// VLAN tags and IPv6 extension headers, as many as anybody has, and more.
fn behind_headers(attacker: &mut NetAttacker) -> anyhow::Result<()> {
    let payload = vec![0x66; 20_000];
    for ip in [Ip::V4, Ip::V6] {
        let plain = segment(ip, attacker.mac(), &payload).frame(Sum::Blank);
        let mut frame = plain.clone();
        for tags in 1..=4 {
            let inner = [0, 5, frame[12], frame[13]];
            frame = inserted(&frame, 14, (12, &[0x81, 0]), &inner);
            let status = if tags <= 2 { 0 } else { -1 };
            let what = format!("{ip}: {tags} tags");
            packet(attacker, &what, &frame, BLANK, &[gso(ip, LESS)], &[status])?;
            ensure!(
                attacker.forget_seen()? == usize::from(status == 0),
                "{what}"
            );
        }
    }
    let plain = segment(Ip::V6, attacker.mac(), &payload);
    for (headers, more, status) in [(1, 0, 0), (7, 0, 0), (9, 0, -1), (3, 7, -1), (1, 30, -1)] {
        let one = 8 + 8 * usize::from(more);
        let frame = extended(&plain, 60, &options(headers, more));
        let what = format!("{headers} extension headers of {one} bytes");
        for flags in [BLANK, 0] {
            packet(
                attacker,
                &what,
                &frame,
                flags,
                &[gso(Ip::V6, LESS)],
                &[status],
            )?;
        }
        let seen = attacker.forget_seen()?;
        ensure!(
            seen == if status == 0 { 2 } else { 0 },
            "{what}: {seen} frames"
        );
    }
    // A fragment header, of all that there is and of a part.
    for (offset, status) in [([0, 0], 0), ([0, 1], -1), ([1, 0], -1)] {
        let frame = extended(&plain, 44, &[6, 0, offset[0], offset[1], 0, 0, 0, 9]);
        let what = format!("fragment {offset:?}");
        packet(
            attacker,
            &what,
            &frame,
            BLANK,
            &[gso(Ip::V6, LESS)],
            &[status],
        )?;
        ensure!(
            attacker.forget_seen()? == usize::from(status == 0),
            "{what}"
        );
    }
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
    // So far behind that nobody looks for it there.
    let plain = segment(Ip::V6, attacker.mac(), &payload);
    for (headers, more) in [(9, 0), (3, 7), (1, 30), (2, 25)] {
        let frame = extended(&plain, 60, &options(headers, more));
        let what = format!("behind {headers} headers and {more}");
        packet(attacker, &what, &frame, BLANK, &[], &[-1])?;
    }
    ensure!(attacker.forget_seen()? == 0, "something got through");
    Ok(())
}
