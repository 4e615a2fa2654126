//! BLK: requests that make no sense, whatever their segments.

use anyhow::ensure;
use gntdev::Access;
use ring_proto::blkif::{RawSegment, Sent, op};

use super::Move;
use super::attacker::{Attacker, describe, direct, discard, indirect, read, write};

/// The moves.
pub const MOVES: &[Move] = &[
    Move::new(
        "BLK-01",
        "sectors that the disk does not have",
        outside_the_disk,
    ),
    Move::new("BLK-01", "the same, persistent", outside_the_disk).persistent(),
    Move::new(
        "BLK-06",
        "everything that writes, on a read-only disk",
        writes,
    )
    .read_only(),
    Move::new("BLK-06", "the same, persistent", writes)
        .read_only()
        .persistent(),
    Move::new(
        "BLK-07",
        "all operations that do not exist",
        unknown_operations,
    ),
    Move::new("BLK-08", "flushes and barriers with data", flush_with_data).writes(),
    Move::new("BLK-09", "discards that cannot be", impossible_discards),
    Move::new("BLK-10", "the whole disk at once", discard_all).writes(),
    Move::new("BLK-15", "numbers that are used twice", equal_ids),
];

fn outside_the_disk(attacker: &mut Attacker) -> anyhow::Result<()> {
    let lent = attacker.lend(Access::ReadWrite)?;
    let page = attacker.lend(Access::ReadOnly)?;
    let size = attacker.disk().sectors;
    let one = [RawSegment::new(lent.gref, 0, 0)];
    let eight = [RawSegment::new(lent.gref, 0, 7)];
    let beyond = [
        size,
        size + 1,
        1 << 54,
        1 << 55,
        1 << 63,
        u64::MAX - 7,
        u64::MAX,
    ];
    for sector in beyond {
        for segments in [&one, &eight] {
            let what = format!("sector {sector} of {size}");
            attacker.expect(&what, read(sector, segments), op::READ, &[-1])?;
            attacker.expect(&what, write(sector, segments), op::WRITE, &[-1])?;
            describe(&page.memory, segments)?;
            let pages = [page.gref];
            let request = indirect(op::WRITE, 1, sector, &pages);
            attacker.expect(&what, request, op::WRITE, &[-1])?;
        }
    }
    for before_end in 1..8 {
        let what = format!("eight sectors, {before_end} before the end");
        let sector = size - before_end;
        attacker.expect(&what, read(sector, &eight), op::READ, &[-1])?;
        attacker.expect(&what, write(sector, &eight), op::WRITE, &[-1])?;
    }
    attacker.expect("the last sector", read(size - 1, &one), op::READ, &[0])?;
    attacker.expect("the last eight", read(size - 8, &eight), op::READ, &[0])
}

fn writes(attacker: &mut Attacker) -> anyhow::Result<()> {
    let lent = attacker.lend(Access::ReadWrite)?;
    let page = attacker.lend(Access::ReadOnly)?;
    let segments = [RawSegment::new(lent.gref, 0, 7)];
    describe(&page.memory, &segments)?;
    attacker.expect("a write", write(0, &segments), op::WRITE, &[-1])?;
    let pages = [page.gref];
    let request = indirect(op::WRITE, 1, 0, &pages);
    attacker.expect("an indirect write", request, op::WRITE, &[-1])?;
    let request = direct(op::FLUSH, 0, &segments);
    attacker.expect("a flush with data", request, op::FLUSH, &[-1])?;
    for segments in [&segments[..], &[]] {
        let request = direct(op::WRITE_BARRIER, 0, segments);
        attacker.expect("a barrier", request, op::WRITE_BARRIER, &[-1, -2])?;
    }
    for flags in [0, 1, 255] {
        let request = discard(flags, 0, 1024);
        attacker.expect("a discard", request, op::DISCARD, &[-1, -2])?;
    }
    let flush = direct(op::FLUSH, 0, &[]);
    attacker.expect("an empty flush", flush, op::FLUSH, &[0])?;
    attacker.is_served()
}

fn unknown_operations(attacker: &mut Attacker) -> anyhow::Result<()> {
    let lent = attacker.lend(Access::ReadWrite)?;
    let segments = [RawSegment::new(lent.gref, 0, 7)];
    for operation in (4..=255).filter(|&o| o != op::DISCARD && o != op::INDIRECT) {
        let what = format!("operation {operation}");
        attacker.expect(&what, direct(operation, 0, &segments), operation, &[-2])?;
        attacker.expect(&what, direct(operation, u64::MAX, &[]), operation, &[-2])?;
    }
    attacker.is_served()
}

fn flush_with_data(attacker: &mut Attacker) -> anyhow::Result<()> {
    let lent = attacker.lend(Access::ReadWrite)?;
    let bytes = [0x5c; 4096];
    ensure!(lent.memory.write(0, &bytes), "page is short");
    let segments = [RawSegment::new(lent.gref, 0, 7)];
    let request = direct(op::FLUSH, 64, &segments);
    attacker.expect("a flush with data", request, op::FLUSH, &[0])?;
    ensure!(lent.memory.write(0, &[0; 4096]), "page is short");
    attacker.expect("what it wrote", read(64, &segments), op::READ, &[0])?;
    let mut found = [0; 4096];
    ensure!(lent.memory.read(0, &mut found), "page is short");
    ensure!(found == bytes, "a flush did not write its data");
    // Never offered, so never executed in part.
    let request = direct(op::WRITE_BARRIER, 64, &segments);
    attacker.expect("a barrier", request, op::WRITE_BARRIER, &[-2])?;
    let size = attacker.disk().sectors;
    let request = direct(op::FLUSH, size, &segments);
    attacker.expect("a flush beyond the end", request, op::FLUSH, &[-1])?;
    // Of an empty flush, the sector means nothing.
    for sector in [0, size, u64::MAX] {
        let request = direct(op::FLUSH, sector, &[]);
        attacker.expect("an empty flush", request, op::FLUSH, &[0])?;
    }
    Ok(())
}

fn impossible_discards(attacker: &mut Attacker) -> anyhow::Result<()> {
    ensure!(
        attacker.disk().discard.is_some(),
        "discards are not offered"
    );
    let size = attacker.disk().sectors;
    for (sector, sectors) in [
        (0, size + 1),
        (1, size),
        (size, 1),
        (size, 8),
        (size - 1, 2),
        (0, u64::MAX),
        (u64::MAX, 1),
        (u64::MAX, u64::MAX),
        (1 << 63, 1 << 63),
        (8, u64::MAX - 7),
        (1 << 55, 1),
        (0, 1 << 55),
    ] {
        for flags in [0, 1, 0xfe] {
            let what = format!("{sectors} sectors from {sector}, flags {flags}");
            attacker.expect(&what, discard(flags, sector, sectors), op::DISCARD, &[-1])?;
        }
    }
    for sector in [0, 7, size, u64::MAX] {
        attacker.expect("nothing", discard(0, sector, 0), op::DISCARD, &[0])?;
    }
    // Less than a unit: rounded inwards, nothing is left of it.
    attacker.expect("a sector", discard(0, 3, 1), op::DISCARD, &[0])?;
    attacker.is_served()
}

fn discard_all(attacker: &mut Attacker) -> anyhow::Result<()> {
    let size = attacker.disk().sectors;
    let lent = attacker.lend(Access::ReadWrite)?;
    let segments = [RawSegment::new(lent.gref, 0, 7)];
    let mut requests = vec![discard(0, 0, size).encode(attacker.abi())];
    requests.extend([read(0, &segments).encode(attacker.abi()); 16]);
    for answer in attacker.ask_all(&requests)? {
        ensure!(answer.status == 0, "{answer:?}");
    }
    Ok(())
}

/// Reads, flushes, discards and nonsense under one number: each is answered, as what it is.
fn equal_ids(attacker: &mut Attacker) -> anyhow::Result<()> {
    let lent = attacker.lend(Access::ReadWrite)?;
    let segments = [RawSegment::new(lent.gref, 0, 7)];
    let kinds: [(Sent<'_>, u8, i16); 4] = [
        (read(0, &segments), op::READ, 0),
        (direct(op::FLUSH, 0, &[]), op::FLUSH, 0),
        (discard(0, 0, 0), op::DISCARD, 0),
        (direct(99, 0, &[]), 99, -2),
    ];
    let abi = attacker.abi();
    let requests: Vec<_> = (0..64)
        .flat_map(|_| kinds.iter().map(|k| k.0.encode(abi)))
        .collect();
    let answers = attacker.ask_all(&requests)?;
    for (_, operation, status) in kinds {
        let alike = |a: &&ring_proto::blkif::Answer| a.operation == operation && a.status == status;
        let count = answers.iter().filter(alike).count();
        ensure!(
            count == 64,
            "{count} of 64 answers to operation {operation}"
        );
    }
    Ok(())
}
