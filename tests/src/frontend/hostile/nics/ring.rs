//! RNG: indices that cannot be, slots that change, ids that are not unique, events for nothing.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use anyhow::ensure;
use gntdev::Access;
use ring_proto::RingMemory;

use super::NetMove;
use super::attacker::{BareRing, NetAttacker, data, slot};
use crate::frontend::Chance;
use crate::frontend::hostile::meanwhile::meanwhile;
use crate::frontend::netfront::frame::numbered;
use crate::frontend::netfront::wire::HOST;

const REQ_PROD: usize = 0;
const RSP_PROD: usize = 2;
const RSP_EVENT: usize = 3;
/// Words of the header, and those of it that belong to the frontend for good.
const HEADER: usize = 16;
const PRIVATE: std::ops::Range<usize> = 4..HEADER;
/// Slots of either ring, and words of one.
const SLOTS: u32 = 256;
const TX_WORDS: usize = 3;

/// The moves.
pub const MOVES: &[NetMove] = &[
    NetMove::new("RNG-01", "one packet too many", |a| overrun(a, SLOTS + 1)).closes(),
    NetMove::new("RNG-01", "one too many at the wrap-around", |a| {
        overrun(a, SLOTS + 1)
    })
    .starting_at(u32::MAX - 5)
    .closes(),
    NetMove::new("RNG-01", "2^31 packets", |a| overrun(a, 1 << 31)).closes(),
    NetMove::new("RNG-01", "2^32 - 1 packets", |a| overrun(a, u32::MAX)).closes(),
    NetMove::new("RNG-01", "the producer goes back", goes_back).closes(),
    NetMove::new("RNG-01", "one buffer too many", |a| overflow(a, SLOTS + 1)).closes(),
    NetMove::new("RNG-01", "2^31 buffers", |a| overflow(a, 1 << 31)).closes(),
    NetMove::new("RNG-01", "buffers are taken back", |a| {
        overflow(a, u32::MAX)
    })
    .closes(),
    NetMove::new("RNG-02", "slots change while they are read", slots_change).ends_anyhow(),
    NetMove::new("RNG-02", "frames change while they are read", frames_change),
    NetMove::new("RNG-03", "only what is defined is written", header_and_rest),
    NetMove::new(
        "RNG-04",
        "the ring is refilled as fast as it drains",
        refill,
    ),
    NetMove::new("RNG-05", "events without end, and nothing to do", storm),
    NetMove::new("RNG-06", "one id for all packets", same_ids),
    NetMove::new("RNG-06", "one id for all buffers", |a| {
        same_buffer_ids(a, 0)
    }),
    NetMove::new("RNG-06", "an extreme id for all buffers", |a| {
        same_buffer_ids(a, u16::MAX)
    }),
    NetMove::new("RNG-07", "the ring as a packet", ring_as_packet).ends_anyhow(),
    NetMove::new("RNG-07", "the receive ring as a buffer", |a| {
        ring_as_buffer(a, a.rx.gref)
    })
    .ends_anyhow(),
    NetMove::new("RNG-07", "the transmit ring as a buffer", |a| {
        ring_as_buffer(a, a.tx.gref)
    })
    .ends_anyhow(),
    NetMove::new("RNG-07", "one page for all buffers", one_page_for_all),
];

pub(super) fn move_index(ring: &BareRing, by: u32) {
    let req_prod = &ring.words()[REQ_PROD];
    let now = req_prod.load(Ordering::Relaxed);
    req_prod.store(now.wrapping_add(by), Ordering::Release);
}

/// Every slot holds a good packet that must not be sent.
fn fill_with_packets(attacker: &mut NetAttacker) -> anyhow::Result<()> {
    let frame = numbered(HOST, attacker.mac(), 1 << 50, 100);
    let page = attacker.page(&frame)?;
    for id in 0..256 {
        attacker.push(&[data(&page, id, 0, 100)])?;
    }
    // The page must outlive the packets, sent or not.
    std::mem::forget(page);
    Ok(())
}

fn overrun(attacker: &mut NetAttacker, by: u32) -> anyhow::Result<()> {
    fill_with_packets(attacker)?;
    move_index(&attacker.tx, by);
    attacker.ring_bell()
}

fn goes_back(attacker: &mut NetAttacker) -> anyhow::Result<()> {
    for _ in 0..5 {
        attacker.is_served()?;
    }
    fill_with_packets(attacker)?;
    move_index(&attacker.tx, u32::MAX);
    attacker.ring_bell()
}

fn overflow(attacker: &mut NetAttacker, by: u32) -> anyhow::Result<()> {
    let page = attacker.lend(Access::ReadWrite)?;
    for id in 0..256 {
        attacker.post(id, page.gref)?;
    }
    std::mem::forget(page);
    move_index(&attacker.rx, by);
    attacker.ring_bell()
}

/// Every bit of every slot may be another when it is looked at again. Most of what comes of it is no
/// packet at all, and sooner or later one that closes the interface.
fn slots_change(attacker: &mut NetAttacker) -> anyhow::Result<()> {
    let pages = Arc::clone(&attacker.tx.pages);
    let page = attacker.page(&[0x11; 4096])?;
    let gref = page.gref.raw();
    let change = |chance: &mut Chance| {
        let slot = HEADER + chance.below(SLOTS as usize) * TX_WORDS;
        let offset_and_flags = u32::try_from(chance.below(0x1_0000)).unwrap_or(0) & 0x000f_0fff;
        let size = u32::try_from(chance.below(200)).unwrap_or(0) << 16;
        for (at, word) in [gref, offset_and_flags, size].into_iter().enumerate() {
            pages.words()[slot + at].store(word, Ordering::Relaxed);
        }
    };
    let until = Instant::now() + Duration::from_millis(300);
    meanwhile(change, || {
        while Instant::now() < until {
            // Answers, too, are at the mercy of the thread.
            let words = attacker.tx.words();
            let answered = words[RSP_PROD].load(Ordering::Acquire);
            words[REQ_PROD].store(answered.wrapping_add(200), Ordering::Release);
            attacker.ring_bell()?;
            std::thread::yield_now();
        }
        Ok(())
    })?;
    attacker.forget_seen()?;
    Ok(())
}

/// What is sent is what was looked at: a frame of one kind or of the other, or a mixture that is
/// judged as such, but never more or fewer bytes.
fn frames_change(attacker: &mut NetAttacker) -> anyhow::Result<()> {
    let page = attacker.page(&[0; 4096])?;
    let memory = &page.memory;
    let change = |chance: &mut Chance| {
        let byte = u8::try_from(chance.below(256)).unwrap_or(0);
        let _inside = memory.write(chance.below(200), &[byte; 16]);
    };
    meanwhile(change, || {
        for flags in 0..2_u16 {
            for _ in 0..500 {
                let slots = [data(&page, 3, flags, 200)];
                attacker.expect("a changing frame", &slots, &[0, -1])?;
            }
        }
        Ok(())
    })?;
    while let Some(seen) = attacker.peer.take()? {
        ensure!(seen.bytes.len() == 200, "{} bytes", seen.bytes.len());
    }
    Ok(())
}

fn load(words: &[AtomicU32]) -> Vec<u32> {
    words.iter().map(|w| w.load(Ordering::Acquire)).collect()
}

/// FE-24 and XSA-216: the backend writes its own two indices and defined bytes of responses.
fn header_and_rest(attacker: &mut NetAttacker) -> anyhow::Result<()> {
    let (tx, rx) = (load(attacker.tx.words()), load(attacker.rx.words()));
    for _ in 0..2 * SLOTS {
        attacker.is_served()?;
    }
    let page = attacker.lend(Access::ReadWrite)?;
    for round in 0..2_u16 {
        for id in 0..128_u16 {
            attacker.post(round << 8 | id, page.gref)?;
        }
        attacker.kick()?;
        let frame = numbered(attacker.mac(), HOST, 5, 99);
        while attacker.rx.ring.open() > 64 {
            attacker.peer.send(&frame)?;
            let answer = attacker.received()?;
            ensure!((answer.flags, answer.status) == (0, 99), "{answer:?}");
        }
    }
    for (before, after) in [
        (tx, load(attacker.tx.words())),
        (rx, load(attacker.rx.words())),
    ] {
        for at in PRIVATE {
            ensure!(
                before[at] == after[at],
                "FE-24: header word {at} has changed"
            );
        }
    }
    // The tail of a slot is the request's: behind a response of four bytes nothing is written.
    let after = load(attacker.tx.words());
    for at in 0..SLOTS as usize {
        let tail = &after[HEADER + at * TX_WORDS + 1..][..2];
        // What `is_served` writes: offset, flags and id are 0, the size is 100.
        ensure!(tail == [0, 100 << 16], "slot {at}: {tail:x?}");
    }
    Ok(())
}

/// The ring is never empty for a second, and an event is wanted for every response.
fn refill(attacker: &mut NetAttacker) -> anyhow::Result<()> {
    let until = Instant::now() + Duration::from_secs(1);
    let page = attacker.page(&[0x22; 64])?;
    let mut answers = 0_u64;
    while Instant::now() < until {
        // Too short for a frame: refused without being looked at.
        while attacker.push(&[data(&page, 1, 0, 5)]).is_ok() {}
        attacker.kick()?;
        let words = attacker.tx.words();
        let rsp_prod = words[RSP_PROD].load(Ordering::Acquire);
        words[RSP_EVENT].store(rsp_prod.wrapping_add(1), Ordering::Release);
        while attacker.tx.ring.take_response::<1>()?.is_some() {
            answers += 1;
        }
    }
    while attacker.tx.ring.open() > 0 {
        attacker.answer()?;
    }
    ensure!(answers > 1000, "only {answers} answers in a second");
    Ok(())
}

fn storm(attacker: &mut NetAttacker) -> anyhow::Result<()> {
    let until = Instant::now() + Duration::from_secs(1);
    while Instant::now() < until {
        for _ in 0..1000 {
            attacker.ring_bell()?;
        }
    }
    Ok(())
}

fn same_ids(attacker: &mut NetAttacker) -> anyhow::Result<()> {
    let page = attacker.page(&[0x33; 64])?;
    for id in [0, 1, 255, 256, u16::MAX] {
        for count in [1, 100, 256] {
            let slots = vec![data(&page, id, 0, 5); count];
            attacker.push(&slots)?;
            attacker.kick()?;
            for one in slots {
                attacker.answers("one id for all", &[one], &[-1])?;
            }
        }
    }
    Ok(())
}

fn same_buffer_ids(attacker: &mut NetAttacker, id: u16) -> anyhow::Result<()> {
    let page = attacker.lend(Access::ReadWrite)?;
    for _ in 0..SLOTS {
        attacker.post(id, page.gref)?;
    }
    attacker.kick()?;
    let frame = numbered(attacker.mac(), HOST, 5, 60);
    for _ in 0..200 {
        attacker.peer.send(&frame)?;
        let answer = attacker.received()?;
        ensure!((answer.id, answer.status) == (id, 60), "{answer:?}");
    }
    Ok(())
}

fn ring_as_packet(attacker: &mut NetAttacker) -> anyhow::Result<()> {
    let gref = attacker.tx.gref;
    let slots = [slot(gref, 64, 1, 0, 1000)];
    attacker.expect("the ring itself", &slots, &[0, -1])?;
    attacker.forget_seen()?;
    Ok(())
}

fn ring_as_buffer(attacker: &mut NetAttacker, gref: ring_proto::GrantRef) -> anyhow::Result<()> {
    for id in 0..100 {
        attacker.post(id, gref)?;
    }
    attacker.kick()?;
    let frame = numbered(attacker.mac(), HOST, 5, 1400);
    for _ in 0..50 {
        attacker.peer.send(&frame)?;
    }
    // The indices are what was in a frame now.
    std::thread::sleep(Duration::from_millis(50));
    attacker.ring_bell()
}

fn one_page_for_all(attacker: &mut NetAttacker) -> anyhow::Result<()> {
    let page = attacker.lend(Access::ReadWrite)?;
    for id in 0..200 {
        attacker.post(id, page.gref)?;
    }
    attacker.kick()?;
    let frame = numbered(attacker.mac(), HOST, 5, 1400);
    for id in 0..100 {
        attacker.peer.send(&frame)?;
        let answer = attacker.received()?;
        ensure!((answer.id, answer.status) == (id, 1400), "{answer:?}");
    }
    Ok(())
}
