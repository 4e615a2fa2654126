//! RNG: indices that cannot be, slots that change, ids that are not unique.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use anyhow::ensure;
use gntdev::Access;
use ring_proto::RingMemory;
use ring_proto::blkif::{RawSegment, Sent, op};

use super::attacker::{Attacker, describe, direct, indirect, read, write};
use super::meanwhile::meanwhile;
use super::{Ending, Move};
use crate::frontend::{Chance, Protocol};

const REQ_PROD: usize = 0;
const RSP_PROD: usize = 2;
const RSP_EVENT: usize = 3;
/// Words of the header, and those of it that belong to the frontend for good.
const HEADER: usize = 16;
const PRIVATE: std::ops::Range<usize> = 4..HEADER;

/// The moves.
pub const MOVES: &[Move] = &[
    Move::new("RNG-01", "one request too many", one_too_many).closes(),
    Move::new("RNG-01", "one too many, order 1", one_too_many)
        .order(1)
        .closes(),
    Move::new("RNG-01", "one too many, order 2", one_too_many)
        .order(2)
        .closes(),
    Move::new("RNG-01", "one too many, order 3", one_too_many)
        .order(3)
        .closes(),
    Move::new("RNG-01", "one too many, order 4, 32-bit", one_too_many)
        .order(4)
        .protocol(Protocol::X86_32)
        .closes(),
    Move::new(
        "RNG-01",
        "one too many across the wrap-around",
        one_too_many,
    )
    .starting_at(u32::MAX - 5)
    .closes(),
    Move::new("RNG-01", "2^31 requests", |a| overrun(a, 1 << 31)).closes(),
    Move::new("RNG-01", "2^32 - 1 requests", |a| overrun(a, u32::MAX)).closes(),
    Move::new("RNG-01", "the producer goes back", goes_back).closes(),
    Move::new("RNG-02", "slots change while they are read", slots_change).writes(),
    Move::new(
        "RNG-02",
        "descriptors change while they are read",
        descriptors_change,
    )
    .writes(),
    Move::new(
        "RNG-03",
        "only what is defined is written",
        header_and_padding,
    ),
    Move::new("RNG-03", "the same, 32-bit", header_and_padding).protocol(Protocol::X86_32),
    Move::new(
        "RNG-04",
        "the ring is refilled as fast as it drains",
        refill,
    ),
    Move::new("RNG-06", "one id for all requests", same_ids),
    Move::new("RNG-06", "extreme ids, persistent", same_ids).persistent(),
    Move::new("RNG-07", "data in the ring itself", data_in_ring).ends_anyhow(),
    Move::new(
        "RNG-07",
        "descriptors in the data page",
        descriptors_in_data,
    ),
    Move::new("BLK-13", "one page for all segments", one_page_for_all),
    Move::new("BLK-13", "the same, persistent", one_page_for_all).persistent(),
];

impl Move {
    /// The ring's own bytes are overwritten: either ending is right.
    const fn ends_anyhow(mut self) -> Self {
        self.ending = Ending::Either;
        self.harmless = false;
        self
    }
}

/// Every slot holds a write that must not be executed.
fn fill_with_writes(attacker: &mut Attacker) -> anyhow::Result<()> {
    let lent = attacker.lend(Access::ReadOnly)?;
    let segments = [RawSegment::new(lent.gref, 0, 7)];
    for slot in 0..attacker.slots() {
        let request = write(u64::from(slot) * 8, &segments).encode(attacker.abi());
        attacker.push(&request)?;
    }
    // The page must outlive the requests, executed or not.
    std::mem::forget(lent);
    Ok(())
}

fn overrun(attacker: &mut Attacker, by: u32) -> anyhow::Result<()> {
    fill_with_writes(attacker)?;
    let req_prod = &attacker.words()[REQ_PROD];
    let now = req_prod.load(Ordering::Relaxed);
    req_prod.store(now.wrapping_add(by), Ordering::Release);
    attacker.ring_bell()
}

fn one_too_many(attacker: &mut Attacker) -> anyhow::Result<()> {
    overrun(attacker, attacker.slots() + 1)
}

fn goes_back(attacker: &mut Attacker) -> anyhow::Result<()> {
    for _ in 0..5 {
        attacker.is_served()?;
    }
    fill_with_writes(attacker)?;
    attacker.words()[REQ_PROD].fetch_sub(1, Ordering::AcqRel);
    attacker.ring_bell()
}

/// Waits until the backend has answered `count` more requests; the answers themselves are at the
/// mercy of the thread that changes the slots.
fn await_answers(attacker: &Attacker, from: u32, count: u32) -> anyhow::Result<()> {
    let deadline = Instant::now() + Duration::from_secs(20);
    let rsp_prod = &attacker.words()[RSP_PROD];
    loop {
        let done = rsp_prod.load(Ordering::Acquire).wrapping_sub(from);
        ensure!(done <= count, "FE-01: {done} answers to {count} requests");
        if done == count {
            return Ok(());
        }
        ensure!(Instant::now() < deadline, "{done} of {count} answers");
        std::thread::yield_now();
    }
}

/// Slots flip between what can be and what cannot be.
fn slots_change(attacker: &mut Attacker) -> anyhow::Result<()> {
    let lent = attacker.lend(Access::ReadWrite)?;
    let memory = attacker.memory();
    let stride = attacker.abi().stride_words();
    let slots = attacker.slots() as usize;
    let (gref, abi) = (lent.gref, attacker.abi());
    let change = move |chance: &mut Chance| {
        let words = memory.words();
        let slot = HEADER + chance.below(slots) * stride;
        let (first, last) = (random_byte(chance), random_byte(chance));
        let segments = [RawSegment::new(gref, first & 9, last & 9)];
        let sector = if chance.once_in(2) { 8 } else { chance.any() };
        let operation = random_byte(chance) % 8;
        let request = direct(operation, sector, &segments).encode(abi);
        let at = chance.below(request.len());
        words[slot + at].store(request[at], Ordering::Relaxed);
    };
    let segments = [RawSegment::new(lent.gref, 0, 7)];
    meanwhile(change, || {
        for _ in 0..300 {
            let from = attacker.words()[RSP_PROD].load(Ordering::Acquire);
            for _ in 0..slots {
                let request = read(0, &segments).encode(attacker.abi());
                attacker.push(&request)?;
            }
            attacker.kick()?;
            await_answers(attacker, from, attacker.slots())?;
            drain(attacker)?;
        }
        Ok(())
    })
}

/// Takes answers whose contents mean nothing.
fn drain(attacker: &mut Attacker) -> anyhow::Result<()> {
    for _ in 0..attacker.slots() {
        // The padding may have been changed by us.
        let _scrambled = attacker.take();
    }
    attacker.hush()
}

fn descriptors_change(attacker: &mut Attacker) -> anyhow::Result<()> {
    let lent = attacker.lend(Access::ReadWrite)?;
    let descriptors = Arc::new(attacker.lend(Access::ReadOnly)?);
    describe(
        &descriptors.memory,
        &[RawSegment::new(lent.gref, 0, 7); 512],
    )?;
    let page = Arc::clone(&descriptors);
    let gref = lent.gref;
    let change = move |chance: &mut Chance| {
        let (first, last) = (random_byte(chance), random_byte(chance));
        let segment = RawSegment::new(gref, first & 9, last & 9);
        let at = chance.below(512) * 2;
        for (offset, word) in segment.words().into_iter().enumerate() {
            page.memory.words()[at + offset].store(word, Ordering::Relaxed);
        }
    };
    meanwhile(change, || {
        for _ in 0..2000 {
            let pages = [descriptors.gref];
            let request = indirect(op::READ, 256, 0, &pages);
            attacker.expect("changing descriptors", request, op::READ, &[0, -1])?;
        }
        Ok(())
    })
}

fn random_byte(chance: &mut Chance) -> u8 {
    u8::try_from(chance.below(256)).unwrap_or(0)
}

/// FE-24 and XSA-216: the backend writes its own two indices and defined bytes of responses.
fn header_and_padding(attacker: &mut Attacker) -> anyhow::Result<()> {
    let lent = attacker.lend(Access::ReadWrite)?;
    let segments = [RawSegment::new(lent.gref, 0, 7)];
    let before: Vec<u32> = load(attacker);
    // `ask` looks at the padding of each; slots were filled with 0xa5 before the ring was made.
    for _ in 0..2 * attacker.slots() {
        attacker.expect("a read", read(0, &segments), op::READ, &[0])?;
        attacker.expect("an unknown", direct(77, 0, &[]), 77, &[-2])?;
    }
    let after: Vec<u32> = load(attacker);
    for at in PRIVATE {
        ensure!(
            before[at] == after[at],
            "FE-24: word {at} of the header has changed"
        );
    }
    // The tail of a slot is the request's, which is ours: behind a response nothing is written.
    let stride = attacker.abi().stride_words();
    for slot in 0..attacker.slots() as usize {
        let words = HEADER + slot * stride + 4..HEADER + (slot + 1) * stride;
        let request = direct(77, 0, &[]).encode(attacker.abi());
        let read = read(0, &segments).encode(attacker.abi());
        let same = |expected: &[u32]| after[words.clone()] == expected[4..];
        ensure!(
            same(&request) || same(&read),
            "slot {slot} is written beyond a response"
        );
    }
    Ok(())
}

fn load(attacker: &Attacker) -> Vec<u32> {
    let words = attacker.words().iter();
    words.map(|word| word.load(Ordering::Acquire)).collect()
}

/// The ring is never empty for a second, and an event is wanted for every response.
fn refill(attacker: &mut Attacker) -> anyhow::Result<()> {
    let until = Instant::now() + Duration::from_secs(1);
    let mut answers = 0_u64;
    while Instant::now() < until {
        while attacker
            .push(&direct(200, 0, &[]).encode(attacker.abi()))
            .is_ok()
        {}
        attacker.kick()?;
        let rsp_prod = attacker.words()[RSP_PROD].load(Ordering::Acquire);
        attacker.words()[RSP_EVENT].store(rsp_prod.wrapping_add(1), Ordering::Release);
        while attacker.take()?.is_some() {
            answers += 1;
        }
    }
    while attacker.open() > 0 {
        attacker.answer()?;
    }
    ensure!(answers > 1000, "only {answers} answers in a second");
    Ok(())
}

fn same_ids(attacker: &mut Attacker) -> anyhow::Result<()> {
    let lent = attacker.lend(Access::ReadWrite)?;
    let segments = [RawSegment::new(lent.gref, 0, 7)];
    for id in [0, 1, u64::MAX, u64::MAX - 1, 1 << 63] {
        let mut requests = Vec::new();
        for slot in 0..attacker.slots() * 4 {
            let request = Sent::Direct {
                operation: op::READ,
                nr_segments: 1,
                handle: 0,
                id,
                sector: u64::from(slot) * 8,
                segments: &segments,
            };
            requests.push(request.encode(attacker.abi()));
        }
        for answer in attacker.ask_all(&requests)? {
            ensure!(
                answer.id == id && answer.operation == op::READ && answer.status == 0,
                "one of many requests {id:#x} was answered with {answer:?}"
            );
        }
    }
    Ok(())
}

/// The disk is read into the ring's own page: garbage for whoever does it, and no more.
fn data_in_ring(attacker: &mut Attacker) -> anyhow::Result<()> {
    let segments = [RawSegment::new(attacker.ring_refs()[0], 0, 7)];
    let request = read(0, &segments).encode(attacker.abi());
    attacker.push(&request)?;
    attacker.kick()?;
    // The indices are what was on the disk now, at least for a moment.
    std::thread::sleep(Duration::from_millis(50));
    attacker.ring_bell()
}

fn descriptors_in_data(attacker: &mut Attacker) -> anyhow::Result<()> {
    let lent = attacker.lend(Access::ReadWrite)?;
    for _ in 0..50 {
        describe(&lent.memory, &[RawSegment::new(lent.gref, 0, 7); 256])?;
        let pages = [lent.gref];
        let request = indirect(op::READ, 256, 0, &pages);
        attacker.expect("descriptors in the data", request, op::READ, &[0, -1])?;
    }
    Ok(())
}

fn one_page_for_all(attacker: &mut Attacker) -> anyhow::Result<()> {
    let lent = attacker.lend(Access::ReadWrite)?;
    let segments = [RawSegment::new(lent.gref, 0, 7); 11];
    for _ in 0..50 {
        attacker.expect(
            "a page eleven times",
            read(0, &segments),
            op::READ,
            &[0, -1],
        )?;
    }
    Ok(())
}
