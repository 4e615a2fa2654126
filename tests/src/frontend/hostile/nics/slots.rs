//! NET-01 to NET-07: packets in slots that make no sense, or that nobody would choose.

use anyhow::{Context, ensure};
use ring_proto::netif::{Extra, Ip, TxSent, tx_flag};

use super::NetMove;
use super::attacker::{NetAttacker, chain, data, slot, with_extras};
use super::lies::{BLANK, MSS, gso, segment};
use crate::frontend::buffers::Lent;
use crate::frontend::netfront::frame::{Segment, Sum, numbered};
use crate::frontend::netfront::wire::HOST;

/// Slots that a packet may have, that it may have without being an attack, and one more.
const MOST: u16 = 19;
const HARMLESS: u16 = 21;

/// Bytes of the longest frame on an ordinary network, with a VLAN tag.
const LONGEST: u16 = 1518;

/// The moves.
pub const MOVES: &[NetMove] = &[
    NetMove::new("NET-01", "a packet that is never finished", unfinished),
    NetMove::new("NET-01", "a packet as long as the ring", |a| {
        endless(a, 256)
    })
    .closes(),
    NetMove::new("NET-02", "as many slots as can be, and more", many_slots),
    NetMove::new("NET-02", "more slots than any driver uses", |a| {
        endless(a, HARMLESS + 1)
    })
    .closes(),
    NetMove::new("NET-02", "longer parts than the whole", oversum),
    NetMove::new("NET-02", "a first slot that leaves its page", |a| {
        crossing(a, 0, 1)
    })
    .closes(),
    NetMove::new("NET-02", "a second slot that leaves its page", |a| {
        crossing(a, 1, 2)
    })
    .closes(),
    NetMove::new("NET-02", "an offset behind the page", |a| {
        let page = a.page(&[1; 4096])?;
        a.push(&[slot(page.gref, 4096, 1, 0, 60)])?;
        std::mem::forget(page);
        a.kick()
    })
    .closes(),
    NetMove::new("NET-03", "headers over three slots", split_headers),
    NetMove::new("NET-04", "many slots and few bytes", many_and_small),
    NetMove::new("NET-05", "slots without bytes", empty_slots),
    NetMove::new("NET-06", "frames that are none", too_short),
    NetMove::new("NET-07", "frames longer than the interface takes", too_long),
    NetMove::new("NET-08", "an unknown extra info", |a| extra(a, 77)).closes(),
    NetMove::new("NET-08", "extra info 0", |a| extra(a, 0)).closes(),
    NetMove::new("NET-08", "extra infos without end", endless_extras).closes(),
    NetMove::new("NET-21", "more multicast addresses than one needs", joins),
];

/// Nothing is answered until the rest comes, and then all of it is good.
fn unfinished(attacker: &mut NetAttacker) -> anyhow::Result<()> {
    let frame = numbered(HOST, attacker.mac(), 1 << 50, 300);
    let page = attacker.page(&frame)?;
    let slots = [
        slot(page.gref, 0, 1, tx_flag::MORE_DATA, 300),
        slot(page.gref, 100, 2, tx_flag::MORE_DATA, 100),
        slot(page.gref, 200, 3, 0, 100),
    ];
    for one in &slots {
        ensure!(
            attacker.tx.ring.take_response::<1>()?.is_none(),
            "a packet is answered before it is finished"
        );
        attacker.push(std::slice::from_ref(one))?;
        attacker.kick()?;
    }
    attacker.answers("a packet in parts", &slots, &[0])?;
    let seen = attacker.peer.take()?;
    ensure!(
        seen.is_some_and(|seen| seen.bytes == frame),
        "another frame"
    );
    // And one of which nothing more comes must not keep others' workers busy.
    attacker.push(&slots[..2])?;
    attacker.kick()?;
    attacker.push(&slots[2..])?;
    attacker.kick()?;
    attacker.answers("a second packet in parts", &slots, &[0])?;
    attacker.forget_seen()?;
    Ok(())
}

fn endless(attacker: &mut NetAttacker, slots: u16) -> anyhow::Result<()> {
    let page = attacker.page(&[0x55; 64])?;
    for id in 0..slots {
        attacker.push(&[data(&page, id, tx_flag::MORE_DATA, 60)])?;
    }
    std::mem::forget(page);
    attacker.kick()
}

fn many_slots(attacker: &mut NetAttacker) -> anyhow::Result<()> {
    let page = attacker.page(&[0x66; 64])?;
    for slots in 1..=HARMLESS {
        let packet = chain(&page, 60 * slots, &vec![60; usize::from(slots) - 1]);
        let status = if slots <= MOST { 0 } else { -1 };
        attacker.expect(&format!("{slots} slots"), &packet, &[status])?;
        let seen = attacker.forget_seen()?;
        ensure!(seen == usize::from(status == 0), "{seen} frames");
    }
    Ok(())
}

/// As buggy frontends do that send 64 KiB and more: the total overflows.
fn oversum(attacker: &mut NetAttacker) -> anyhow::Result<()> {
    let page = attacker.page(&[0x77; 4096])?;
    for (total, sizes) in [
        (100, vec![101]),
        (100, vec![60, 41]),
        (0, vec![1]),
        (14, vec![4096]),
        (60, vec![4096; 16]),
        (4095, vec![4096; 18]),
        (u16::MAX, vec![4096; 16]),
    ] {
        let packet = chain(&page, total, &sizes);
        attacker.expect(&format!("{total} of {sizes:?}"), &packet, &[-1])?;
    }
    Ok(())
}

fn crossing(attacker: &mut NetAttacker, at: usize, slots: u16) -> anyhow::Result<()> {
    let page = attacker.page(&[0x88; 4096])?;
    let mut packet = chain(&page, 60 * slots, &vec![60; usize::from(slots) - 1]);
    if let Some(TxSent::Data { offset, .. }) = packet.get_mut(at) {
        *offset = 4096 - 59;
    }
    std::mem::forget(page);
    attacker.push(&packet)?;
    attacker.kick()
}

/// However the headers of a packet to be cut up are scattered, the other end gets them in one piece.
fn split_headers(attacker: &mut NetAttacker) -> anyhow::Result<()> {
    let payload = vec![0x77; 3000];
    for ip in [Ip::V4, Ip::V6] {
        let plain = segment(ip, attacker.mac(), &payload);
        let options = &[1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 2];
        let long = Segment { options, ..plain };
        let (headers, frame) = (long.headers(), long.frame(Sum::Blank));
        let page = attacker.page(&frame)?;
        for first in 1..=headers {
            for second in first..=headers {
                let what = format!("{ip}: cut at {first} and {second}");
                let slots = cut_at(&page, frame.len(), &[first, second], gso(ip, MSS))?;
                attacker.expect(&what, &slots, &[0])?;
                let seen = attacker.peer.take()?;
                let seen = seen.with_context(|| format!("{what}: nothing is seen"))?;
                ensure!(seen.bytes == frame, "{what}: other bytes");
                // What the kernel has in one piece.
                let undone = seen.undone;
                ensure!(usize::from(undone.headers) >= headers, "{what}: {undone:?}");
            }
        }
        attacker.domain().end_access(page.gref)?;
    }
    Ok(())
}

/// The slots of a packet of `len` bytes in one page, cut at some places.
fn cut_at(page: &Lent, len: usize, cuts: &[usize], info: Extra) -> anyhow::Result<Vec<TxSent>> {
    let ends = cuts.iter().copied().chain([len]);
    let starts = [0].into_iter().chain(cuts.iter().copied());
    let mut slots = Vec::new();
    for (start, end) in starts.zip(ends) {
        let more = if end < len { tx_flag::MORE_DATA } else { 0 };
        let (flags, size) = match slots.len() {
            0 => (BLANK | tx_flag::EXTRA_INFO, len),
            _ => (0, end - start),
        };
        let id = u16::try_from(slots.len())?;
        let (offset, size) = (u16::try_from(start)?, u16::try_from(size)?);
        slots.push(slot(page.gref, offset, id, flags | more, size));
        if id == 0 {
            slots.push(TxSent::Extra(info));
        }
    }
    Ok(slots)
}

fn many_and_small(attacker: &mut NetAttacker) -> anyhow::Result<()> {
    let page = attacker.page(&[0x99; 4096])?;
    for slots in 1..=MOST {
        for total in [0, 1, 13, 14, 127, 128, 129] {
            for rest in [0, 1, 7] {
                let behind = rest * (slots - 1);
                let packet = chain(&page, total, &vec![rest; usize::from(slots) - 1]);
                let good = total >= 14 && behind < total;
                let status = if good { 0 } else { -1 };
                let what = format!("{slots} slots, {total} bytes, {rest} each");
                attacker.expect(&what, &packet, &[status])?;
                let mut seen = Vec::new();
                while let Some(came) = attacker.peer.take()? {
                    seen.push(came.bytes.len());
                }
                let expected: &[usize] = &[total.into()];
                let expected = if good { expected } else { &[] };
                ensure!(seen == expected, "{what}: frames of {seen:?} bytes");
            }
        }
    }
    Ok(())
}

fn empty_slots(attacker: &mut NetAttacker) -> anyhow::Result<()> {
    let page = attacker.page(&[0xaa; 4096])?;
    for (total, sizes, good) in [
        (60, &[0_u16][..], true),
        (60, &[0, 0, 0], true),
        (60, &[20, 0, 20], true),
        (60, &[0, 59, 0], true),
        (60, &[60], false),
        (60, &[0, 60], false),
        (0, &[], false),
        (0, &[0, 0], false),
    ] {
        let packet = chain(&page, total, sizes);
        let what = format!("{total} bytes, {sizes:?}");
        attacker.expect(&what, &packet, &[if good { 0 } else { -1 }])?;
        let seen = attacker.forget_seen()?;
        ensure!(seen == usize::from(good), "{what}: {seen} frames");
    }
    Ok(())
}

fn too_short(attacker: &mut NetAttacker) -> anyhow::Result<()> {
    let page = attacker.page(&[0xbb; 64])?;
    for size in 0..=64 {
        let status = if size < 14 { -1 } else { 0 };
        let what = format!("{size} bytes");
        attacker.expect(&what, &[data(&page, 1, 0, size)], &[status])?;
        let seen = attacker.forget_seen()?;
        ensure!(seen == usize::from(status == 0), "{what}: {seen} frames");
    }
    Ok(())
}

fn too_long(attacker: &mut NetAttacker) -> anyhow::Result<()> {
    let page = attacker.page(&[0xcc; 4096])?;
    for size in [LONGEST, LONGEST + 1, 2000, 4096] {
        let status = if size <= LONGEST { 0 } else { -1 };
        let what = format!("{size} bytes");
        attacker.expect(&what, &[data(&page, 1, 0, size)], &[status])?;
    }
    for pages in 2..=15_u16 {
        let packet = chain(&page, 4096 * pages, &vec![4096; usize::from(pages) - 1]);
        attacker.expect(&format!("{pages} pages"), &packet, &[-1])?;
    }
    let seen = attacker.forget_seen()?;
    ensure!(seen == 1, "{seen} frames");
    Ok(())
}

fn extra(attacker: &mut NetAttacker, kind: u8) -> anyhow::Result<()> {
    let page = attacker.page(&[0xdd; 64])?;
    let packet = with_extras(&page, 0, 60, &[Extra::new(kind, [0; 6])]);
    std::mem::forget(page);
    attacker.push(&packet)?;
    attacker.kick()
}

fn endless_extras(attacker: &mut NetAttacker) -> anyhow::Result<()> {
    let page = attacker.page(&[0xee; 64])?;
    let packet = with_extras(&page, 0, 60, &[Extra::xdp(1); 200]);
    std::mem::forget(page);
    attacker.push(&packet)?;
    attacker.kick()
}

/// The list ends, and joining what is on it, leaving and joining again goes on.
fn joins(attacker: &mut NetAttacker) -> anyhow::Result<()> {
    let page = attacker.page(&[0; 64])?;
    let group = |number: u8| [1, 0, 0x5e, 0, 1, number];
    let edit = |kind, address| with_extras(&page, 0, 60, &[Extra::new(kind, address)]);
    for number in 0..200 {
        let status = if number < 64 { 0 } else { -1 };
        let join = edit(Extra::MULTICAST_ADD, group(number));
        attacker.expect(&format!("join {number}"), &join, &[status])?;
    }
    let again = edit(Extra::MULTICAST_ADD, group(5));
    attacker.expect("join again", &again, &[0])?;
    for number in 0..=255 {
        let leave = edit(Extra::MULTICAST_DEL, group(number));
        attacker.expect(&format!("leave {number}"), &leave, &[0])?;
    }
    let station = edit(Extra::MULTICAST_ADD, [2, 0, 0, 0, 0, 1]);
    attacker.expect("join a station", &station, &[-1])
}
