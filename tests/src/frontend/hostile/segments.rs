//! BLK: segments that make no sense, in the slot or in pages of their own.

use anyhow::ensure;
use gntdev::Access;
use ring_proto::GrantRef;
use ring_proto::blkif::{RawSegment, Sent, op};

use super::Move;
use super::attacker::{Attacker, describe, indirect, read};

/// The moves.
pub const MOVES: &[Move] = &[
    Move::new("BLK-02", "impossible numbers of segments", counts),
    Move::new("BLK-02", "the same, persistent", counts).persistent(),
    Move::new(
        "BLK-03",
        "all 65536 pairs of first and last sector",
        all_pairs,
    ),
    Move::new("BLK-03", "bad pairs in descriptor pages", pairs_in_pages),
    Move::new(
        "BLK-05",
        "indirect requests that wrap nonsense",
        wrapped_nonsense,
    ),
    Move::new("BLK-05", "descriptor pages used twice", pages_twice),
];

fn counts(attacker: &mut Attacker) -> anyhow::Result<()> {
    let lent = attacker.lend(Access::ReadWrite)?;
    let page = attacker.lend(Access::ReadOnly)?;
    let segments = [RawSegment::new(lent.gref, 0, 7); 11];
    describe(&page.memory, &[segments[0]; 512])?;
    for operation in [op::READ, op::WRITE] {
        for nr_segments in (12..=255).chain([0]) {
            let request = Sent::Direct {
                operation,
                nr_segments,
                handle: 0,
                id: 1,
                sector: 0,
                segments: &segments,
            };
            let what = format!("{nr_segments} segments in a slot");
            attacker.expect(&what, request, operation, &[-1])?;
        }
        let pages = [page.gref; 8];
        for nr_segments in [0, 257, 511, 512, 513, 4095, 4096, 4097, 32768, 65535] {
            let request = indirect(operation, nr_segments, 0, &pages);
            let what = format!("{nr_segments} segments in pages");
            attacker.expect(&what, request, operation, &[-1])?;
        }
    }
    attacker.is_served()
}

fn all_pairs(attacker: &mut Attacker) -> anyhow::Result<()> {
    let lent = attacker.lend(Access::ReadWrite)?;
    let mut requests = Vec::with_capacity(1 << 16);
    for first in 0..=255 {
        for last in 0..=255 {
            let segments = [RawSegment::new(lent.gref, first, last)];
            let request = Sent::Direct {
                operation: op::READ,
                nr_segments: 1,
                handle: 0,
                id: u64::from(first) << 8 | u64::from(last),
                sector: 0,
                segments: &segments,
            };
            requests.push(request.encode(attacker.abi()));
        }
    }
    let mut seen = vec![false; 1 << 16];
    for answer in attacker.ask_all(&requests)? {
        let (first, last) = (answer.id >> 8, answer.id & 255);
        let expected = if first <= last && last < 8 { 0 } else { -1 };
        ensure!(
            answer.status == expected && answer.operation == op::READ,
            "sectors {first} to {last} of a page: {answer:?}"
        );
        let twice = std::mem::replace(&mut seen[usize::try_from(answer.id)?], true);
        ensure!(!twice, "FE-03: {} is answered twice", answer.id);
    }
    Ok(())
}

fn pairs_in_pages(attacker: &mut Attacker) -> anyhow::Result<()> {
    let lent = attacker.lend(Access::ReadWrite)?;
    let page = attacker.lend(Access::ReadOnly)?;
    for (first, last) in [
        (0, 8),
        (1, 0),
        (7, 6),
        (8, 8),
        (255, 255),
        (0, 255),
        (255, 0),
    ] {
        for position in [0, 100, 255] {
            let mut segments = [RawSegment::new(lent.gref, 0, 7); 256];
            segments[position] = RawSegment::new(lent.gref, first, last);
            describe(&page.memory, &segments)?;
            for operation in [op::READ, op::WRITE] {
                let what = format!("sectors {first} to {last} in segment {position}");
                let pages = [page.gref];
                let request = indirect(operation, 256, 0, &pages);
                attacker.expect(&what, request, operation, &[-1])?;
            }
        }
    }
    attacker.is_served()
}

fn wrapped_nonsense(attacker: &mut Attacker) -> anyhow::Result<()> {
    let lent = attacker.lend(Access::ReadWrite)?;
    let page = attacker.lend(Access::ReadOnly)?;
    describe(&page.memory, &[RawSegment::new(lent.gref, 0, 7); 512])?;
    for operation in 2..=255 {
        let pages = [page.gref];
        let request = indirect(operation, 4, 0, &pages);
        let what = format!("operation {operation} in an indirect request");
        attacker.expect(&what, request, operation, &[-1])?;
    }
    for gref in [0, 1, 16_383, 16_384, u32::MAX] {
        let pages = [GrantRef::new(gref)];
        let request = indirect(op::READ, 4, 0, &pages);
        let what = format!("descriptors in reference {gref}");
        attacker.expect(&what, request, op::READ, &[-1])?;
    }
    // No page at all: reference 0.
    attacker.expect("no page", indirect(op::READ, 4, 0, &[]), op::READ, &[-1])?;
    // A page of zeros: reference 0, sector 0 to 0.
    let zeros = attacker.lend(Access::ReadOnly)?;
    let pages = [zeros.gref];
    let request = indirect(op::READ, 256, 0, &pages);
    attacker.expect("a page of zeros", request, op::READ, &[-1])?;
    attacker.is_served()
}

fn pages_twice(attacker: &mut Attacker) -> anyhow::Result<()> {
    let lent = attacker.lend(Access::ReadWrite)?;
    let page = attacker.lend(Access::ReadWrite)?;
    describe(&page.memory, &[RawSegment::new(lent.gref, 0, 7); 256])?;
    let pages = [page.gref; 8];
    let request = indirect(op::READ, 256, 0, &pages);
    attacker.expect("one page eight times", request, op::READ, &[0, -1])?;
    // Direct, with the descriptor page as its data, at the same time as it is used.
    let segments = [RawSegment::new(page.gref, 0, 7)];
    for _ in 0..50 {
        describe(&page.memory, &[RawSegment::new(lent.gref, 0, 7); 256])?;
        let both = [
            indirect(op::READ, 256, 0, &[page.gref]).encode(attacker.abi()),
            read(0, &segments).encode(attacker.abi()),
        ];
        for answer in attacker.ask_all(&both)? {
            ensure!(matches!(answer.status, 0 | -1), "{answer:?}");
        }
    }
    Ok(())
}
