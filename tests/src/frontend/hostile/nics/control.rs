//! NET-20: what no frontend should say on the control ring, and what none should do to that ring.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use gntdev::Access;
use ring_proto::RingMemory;
use ring_proto::netif::{ControlAnswer, ControlSent, control_type};

use super::NetMove;
use super::attacker::NetAttacker;
use super::ring::move_index;
use crate::frontend::Chance;
use crate::frontend::buffers::Lent;
use crate::frontend::hostile::meanwhile::meanwhile;

const REQ_PROD: usize = 0;
const RSP_PROD: usize = 2;
const RSP_EVENT: usize = 3;
/// Words of the header, and those of it that belong to the frontend for good.
const HEADER: usize = 16;
const PRIVATE: std::ops::Range<usize> = 4..HEADER;
const SLOTS: u32 = 128;
/// Words of a slot.
const WORDS: usize = 4;

const NOT_SUPPORTED: u32 = 1;
const INVALID: u32 = 2;

/// The moves.
pub const MOVES: &[NetMove] = &[
    NetMove::new("NET-20", "entries outside of the table", outside),
    NetMove::new("NET-20", "queues that do not exist", no_queue),
    NetMove::new("NET-20", "keys and tables that are too long", too_long),
    NetMove::new("NET-20", "types that do not exist", unknown_types),
    NetMove::new("NET-20", "kinds and algorithms that do not exist", unknown),
    NetMove::new("NET-20", "pages that are not there", no_page),
    NetMove::new("NET-20", "the rings themselves as key and table", rings),
    NetMove::new("NET-20", "nonsense without end", nonsense),
    NetMove::new("NET-20", "a table that changes under frames", changes),
    NetMove::new("RNG-01", "one control message too many", |a| {
        overrun(a, SLOTS + 1)
    })
    .closes(),
    NetMove::new("RNG-01", "2^31 control messages", |a| overrun(a, 1 << 31)).closes(),
    NetMove::new("RNG-01", "control messages are taken back", |a| {
        overrun(a, u32::MAX)
    })
    .closes(),
    NetMove::new("RNG-01", "control messages at the wrap-around", |a| {
        overrun(a, SLOTS + 1)
    })
    .starting_at(u32::MAX - 5)
    .closes(),
    NetMove::new("RNG-02", "control messages change", messages_change),
    NetMove::new("RNG-03", "only control answers are written", header),
    NetMove::new("RNG-04", "the control ring is never empty", flood),
    NetMove::new("RNG-05", "events of the control ring without end", storm),
    NetMove::new("RNG-06", "one id for all control messages", same_ids),
];

const fn sent(kind: u16, data: [u32; 3]) -> ControlSent {
    ControlSent { id: 9, kind, data }
}

const fn algorithm(number: u32) -> ControlSent {
    sent(control_type::SET_HASH_ALGORITHM, [number, 0, 0])
}

const fn kinds(bits: u32) -> ControlSent {
    sent(control_type::SET_HASH_FLAGS, [bits, 0, 0])
}

const fn size(entries: u32) -> ControlSent {
    sent(control_type::SET_HASH_MAPPING_SIZE, [entries, 0, 0])
}

const fn key(page: &Lent, len: u32) -> ControlSent {
    sent(control_type::SET_HASH_KEY, [page.gref.raw(), len, 0])
}

const fn entries(page: &Lent, count: u32, offset: u32) -> ControlSent {
    let data = [page.gref.raw(), count, offset];
    sent(control_type::SET_HASH_MAPPING, data)
}

fn one(attacker: &mut NetAttacker, message: ControlSent) -> anyhow::Result<ControlAnswer> {
    let answers = attacker.order(&[message])?;
    answers.into_iter().next().context("no answer")
}

/// A message that must have this status, and no data.
fn gets(attacker: &mut NetAttacker, message: ControlSent, status: u32) -> anyhow::Result<()> {
    let answer = one(attacker, message)?;
    ensure!(
        (answer.status, answer.data) == (status, 0),
        "{answer:?} to {message:?} instead of status {status}"
    );
    Ok(())
}

fn refused(attacker: &mut NetAttacker, message: ControlSent) -> anyhow::Result<()> {
    gets(attacker, message, INVALID)
}

/// Hashing with a table of eight entries.
fn begin(attacker: &mut NetAttacker) -> anyhow::Result<()> {
    for message in [algorithm(1), kinds(15), size(8)] {
        gets(attacker, message, 0)?;
    }
    Ok(())
}

/// XSA-270: sums that wrap around, and ends behind the table's.
fn outside(attacker: &mut NetAttacker) -> anyhow::Result<()> {
    let page = attacker.page(&[0; 4096])?;
    refused(attacker, entries(&page, 1, 0))?;
    begin(attacker)?;
    for (count, offset) in [
        (9, 0),
        (1, 8),
        (8, 1),
        (128, 0),
        (129, 0),
        (1, 128),
        (1024, 0),
        (1025, 0),
        (u32::MAX, 0),
        (u32::MAX, 1),
        (u32::MAX, 2),
        (1, u32::MAX),
        (2, u32::MAX),
        (8, u32::MAX - 7),
        (8, u32::MAX - 6),
        (1 << 31, 1 << 31),
        (1 << 30, 0),
        (0, 9),
    ] {
        refused(attacker, entries(&page, count, offset))?;
    }
    for (count, offset) in [(0, 0), (0, 8), (8, 0), (1, 7)] {
        gets(attacker, entries(&page, count, offset), 0)?;
    }
    // A table that was made shorter ends where it ends now.
    gets(attacker, size(4), 0)?;
    refused(attacker, entries(&page, 8, 0))?;
    refused(attacker, entries(&page, 1, 4))?;
    gets(attacker, size(0), 0)?;
    refused(attacker, entries(&page, 1, 0))
}

/// Of one queue, there is none but 0.
fn no_queue(attacker: &mut NetAttacker) -> anyhow::Result<()> {
    begin(attacker)?;
    for queue in [1_u32, 2, 255, 256, 1 << 16, 1 << 31, u32::MAX] {
        for place in 0..8_usize {
            let mut table = [0; 32];
            table[4 * place..][..4].copy_from_slice(&queue.to_le_bytes());
            let page = attacker.page(&table)?;
            refused(attacker, entries(&page, 8, 0))?;
        }
    }
    frames_come(attacker)
}

fn too_long(attacker: &mut NetAttacker) -> anyhow::Result<()> {
    let page = attacker.page(&[0; 4096])?;
    begin(attacker)?;
    for len in [41, 255, 4096, 4097, 1 << 16, 1 << 31, u32::MAX] {
        refused(attacker, key(&page, len))?;
    }
    for entries in [129, 255, 1024, 1 << 16, 1 << 31, u32::MAX] {
        refused(attacker, size(entries))?;
    }
    for len in [0, 1, 40] {
        gets(attacker, key(&page, len), 0)?;
    }
    gets(attacker, size(128), 0)?;
    gets(attacker, entries(&page, 128, 0), 0)
}

fn unknown_types(attacker: &mut NetAttacker) -> anyhow::Result<()> {
    // 0, static grants, which are not offered, and the rest.
    let unknown = [0].into_iter().chain(8..=300).chain([0x7fff, u16::MAX]);
    for kind in unknown {
        gets(attacker, sent(kind, [1, 2, 3]), NOT_SUPPORTED)?;
    }
    Ok(())
}

fn unknown(attacker: &mut NetAttacker) -> anyhow::Result<()> {
    refused(attacker, kinds(1))?;
    for number in [2, 255, 1 << 31, u32::MAX] {
        refused(attacker, algorithm(number))?;
    }
    begin(attacker)?;
    for bit in 4..32 {
        refused(attacker, kinds(1 << bit))?;
        refused(attacker, kinds(15 | 1 << bit))?;
    }
    refused(attacker, kinds(u32::MAX))?;
    frames_come(attacker)
}

fn no_page(attacker: &mut NetAttacker) -> anyhow::Result<()> {
    begin(attacker)?;
    for gref in [0, 1, 9999, 1 << 20, 1 << 31, u32::MAX] {
        let set_key = |len| sent(control_type::SET_HASH_KEY, [gref, len, 0]);
        let set_table = |count| sent(control_type::SET_HASH_MAPPING, [gref, count, 0]);
        for message in [set_key(40), set_key(1), set_table(8), set_table(1)] {
            refused(attacker, message)?;
        }
        // Of no bytes the page is not looked at.
        gets(attacker, set_key(0), 0)?;
        gets(attacker, set_table(0), 0)?;
    }
    // One that was taken back.
    let page = attacker.page(&[0; 64])?;
    gets(attacker, key(&page, 40), 0)?;
    attacker.domain().end_access(page.gref)?;
    refused(attacker, key(&page, 40))?;
    frames_come(attacker)
}

/// Their contents are bytes like any others.
fn rings(attacker: &mut NetAttacker) -> anyhow::Result<()> {
    begin(attacker)?;
    for gref in [attacker.control.gref, attacker.tx.gref, attacker.rx.gref] {
        let gref = gref.raw();
        gets(attacker, sent(control_type::SET_HASH_KEY, [gref, 40, 0]), 0)?;
        let table = sent(control_type::SET_HASH_MAPPING, [gref, 8, 0]);
        one(attacker, table)?;
    }
    frames_come(attacker)
}

/// Messages of any kind, with numbers that are mostly near what makes sense.
fn nonsense(attacker: &mut NetAttacker) -> anyhow::Result<()> {
    let page = attacker.page(&[0; 4096])?;
    let mut chance = Chance::new(20);
    let short = |chance: &mut Chance, below| u16::try_from(chance.below(below)).unwrap_or(0);
    for _ in 0..300 {
        let mut messages = Vec::new();
        for _ in 0..1 + chance.below(SLOTS as usize) {
            let mut data = [0; 3];
            for word in &mut data {
                *word = match chance.below(5) {
                    0 => page.gref.raw(),
                    1 => u32::from(short(&mut chance, 140)),
                    2 => 0_u32.wrapping_sub(short(&mut chance, 140).into()),
                    3 => u32::from(short(&mut chance, 2)),
                    _ => u32::from(short(&mut chance, 0x1_0000)) << chance.below(17),
                };
            }
            messages.push(ControlSent {
                id: short(&mut chance, 0x1_0000),
                kind: short(&mut chance, 12),
                data,
            });
        }
        attacker.order(&messages)?;
    }
    frames_come(attacker)
}

/// Whatever was agreed on, frames reach the guest's one queue.
fn frames_come(attacker: &mut NetAttacker) -> anyhow::Result<()> {
    let page = attacker.lend(Access::ReadWrite)?;
    for id in 0..64 {
        attacker.post(id, page.gref)?;
    }
    attacker.kick()?;
    for _ in 0..8 {
        let frame = [&attacker.mac()[..], &[2, 0, 0, 0, 0, 1, 8, 6], &[7; 46]].concat();
        attacker.peer.send(&frame)?;
        let answer = attacker.received()?;
        ensure!((answer.flags, answer.status) == (0, 60), "{answer:?}");
    }
    Ok(())
}

/// The guest says something new for every frame.
fn changes(attacker: &mut NetAttacker) -> anyhow::Result<()> {
    let lent = attacker.lend(Access::ReadWrite)?;
    let buffer = lent.gref;
    let until = Instant::now() + Duration::from_millis(500);
    let frame = [&attacker.mac()[..], &[2, 0, 0, 0, 0, 1, 8, 6], &[7; 46]].concat();
    let mut round = 0_u32;
    while Instant::now() < until {
        round += 1;
        while attacker.post(1, buffer).is_ok() {}
        attacker.kick()?;
        attacker.peer.send(&frame)?;
        attacker.order(&[algorithm(round & 1), kinds(15), size(round % 129)])?;
        while attacker.rx.ring.take_response::<2>()?.is_some() {}
    }
    Ok(())
}

fn overrun(attacker: &mut NetAttacker, by: u32) -> anyhow::Result<()> {
    attacker.order(&[algorithm(1); 7])?;
    move_index(&attacker.control, by);
    attacker.ring_control()
}

/// Each word may be another when it is looked at again.
fn messages_change(attacker: &mut NetAttacker) -> anyhow::Result<()> {
    let pages = Arc::clone(&attacker.control.pages);
    let page = attacker.page(&[0; 4096])?;
    let gref = page.gref.raw();
    let change = |chance: &mut Chance| {
        let slot = HEADER + chance.below(SLOTS as usize) * WORDS;
        let number = |chance: &mut Chance| u32::try_from(chance.below(140)).unwrap_or(0);
        let kind = u32::try_from(chance.below(9)).unwrap_or(0) << 16;
        for (at, word) in [kind, gref, number(chance), number(chance)]
            .into_iter()
            .enumerate()
        {
            pages.words()[slot + at].store(word, Ordering::Relaxed);
        }
    };
    let until = Instant::now() + Duration::from_millis(300);
    meanwhile(change, || {
        while Instant::now() < until {
            let words = attacker.control.words();
            let answered = words[RSP_PROD].load(Ordering::Acquire);
            words[REQ_PROD].store(answered.wrapping_add(100), Ordering::Release);
            attacker.ring_control()?;
            std::thread::yield_now();
        }
        Ok(())
    })
}

/// FE-24 and XSA-216: the backend writes its own two indices, and whole answers.
fn header(attacker: &mut NetAttacker) -> anyhow::Result<()> {
    let load = |attacker: &NetAttacker| -> Vec<u32> {
        let words = attacker.control.words().iter();
        words.map(|word| word.load(Ordering::Acquire)).collect()
    };
    let before = load(attacker);
    for _ in 0..2 * SLOTS {
        let message = sent(control_type::GET_HASH_MAPPING_SIZE, [u32::MAX; 3]);
        let answer = one(attacker, message)?;
        ensure!((answer.status, answer.data) == (0, 128), "{answer:?}");
    }
    let after = load(attacker);
    for at in PRIVATE {
        ensure!(before[at] == after[at], "FE-24: word {at} has changed");
    }
    let end = HEADER + SLOTS as usize * WORDS;
    for (slot, words) in after[HEADER..end].chunks_exact(WORDS).enumerate() {
        ensure!(words[1..] == [0, 128, 0], "slot {slot}: {words:x?}");
    }
    ensure!(before[end..] == after[end..], "something behind the slots");
    Ok(())
}

/// The ring is never empty for a second, each message brings a page, and an event is wanted for every
/// answer.
fn flood(attacker: &mut NetAttacker) -> anyhow::Result<()> {
    let page = attacker.page(&[0; 4096])?;
    begin(attacker)?;
    let until = Instant::now() + Duration::from_secs(1);
    let mut answers = 0_u64;
    while Instant::now() < until {
        let message = entries(&page, 8, 0).encode();
        while attacker.control.ring.push_request(&message).is_ok() {}
        let _asked_for = attacker.control.ring.publish();
        attacker.ring_control()?;
        let words = attacker.control.words();
        let rsp_prod = words[RSP_PROD].load(Ordering::Acquire);
        words[RSP_EVENT].store(rsp_prod.wrapping_add(1), Ordering::Release);
        while attacker.control.ring.take_response::<3>()?.is_some() {
            answers += 1;
        }
    }
    ensure!(answers > 1000, "only {answers} answers in a second");
    Ok(())
}

fn storm(attacker: &mut NetAttacker) -> anyhow::Result<()> {
    let until = Instant::now() + Duration::from_secs(1);
    while Instant::now() < until {
        for _ in 0..1000 {
            attacker.ring_control()?;
        }
    }
    // It is heard all the same, if later.
    gets(attacker, algorithm(1), 0)
}

fn same_ids(attacker: &mut NetAttacker) -> anyhow::Result<()> {
    for count in [1, 100, SLOTS as usize] {
        let answers = attacker.order(&vec![algorithm(1); count])?;
        let done = answers.iter().all(|answer| answer.status == 0);
        ensure!(done, "{answers:?}");
    }
    Ok(())
}
