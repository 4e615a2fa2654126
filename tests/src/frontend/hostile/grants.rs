//! GNT: references that lead nowhere, to the wrong place, or to too many places.

use anyhow::{Context, ensure};
use gntdev::Access;
use ring_proto::blkif::{RawSegment, op};
use ring_proto::{DomId, GrantRef};

use super::Move;
use super::attacker::{Attacker, describe, indirect, read, write};

/// More than any table has.
const FAR: u32 = 0xffff_ffff;

/// Pages of one guest that backends may keep mapped, whatever the guest offers: 32 MiB.
const MOST_MAPPED: usize = 8192;

/// The moves.
pub const MOVES: &[Move] = &[
    Move::new("GNT-01", "one bad reference among good ones", one_bad),
    Move::new("GNT-01", "the same, persistent", one_bad).persistent(),
    Move::new("GNT-01", "one bad reference among 256", one_bad_of_many),
    Move::new("GNT-01", "the same, persistent", one_bad_of_many).persistent(),
    Move::new(
        "GNT-03",
        "a fresh reference for every page",
        fresh_references,
    )
    .persistent(),
    Move::new(
        "GNT-06",
        "reads into what may only be read",
        reads_into_read_only,
    ),
    Move::new("GNT-06", "the same, persistent", reads_into_read_only).persistent(),
    Move::new("GNT-06", "references of others", references_of_others),
    Move::new("GNT-06", "the same, persistent", references_of_others).persistent(),
    Move::new(
        "BLK-14",
        "a write with a bad reference writes nothing",
        write_one_bad,
    ),
    Move::new("BLK-14", "the same, persistent", write_one_bad).persistent(),
];

/// Nobody may use these: beyond the table, never granted, and granted to another domain.
fn bad_references(attacker: &Attacker) -> anyhow::Result<Vec<GrantRef>> {
    let lent = attacker.lend(Access::ReadWrite)?;
    let domain = attacker.domain();
    let foreign = domain.grant_to(DomId::new(31), lent.memory.frame(0), Access::ReadWrite)?;
    // A frame that the guest does not have.
    let nowhere = domain.grant(0x00ff_ffff, Access::ReadWrite)?;
    // The grant table itself.
    let table = domain.grant(0, Access::ReadWrite)?;
    // Emptied, and still ours, so that nothing else is granted under that number.
    domain.set_entry(lent.gref, 0, DomId::new(0), 0);
    Ok(vec![
        GrantRef::new(FAR),
        GrantRef::new(16_384),
        lent.gref,
        foreign,
        nowhere,
        table,
    ])
}

fn one_bad(attacker: &mut Attacker) -> anyhow::Result<()> {
    for bad in bad_references(attacker)? {
        for position in 0..11 {
            let lent = (0..11).map(|_| attacker.lend(Access::ReadWrite));
            let lent = lent.collect::<anyhow::Result<Vec<_>>>()?;
            let segment = |(at, page): (usize, &crate::frontend::buffers::Lent)| {
                RawSegment::new(if at == position { bad } else { page.gref }, 0, 7)
            };
            let segments: Vec<_> = lent.iter().enumerate().map(segment).collect();
            let what = format!("reference {bad} in segment {position}");
            attacker.expect(&what, read(0, &segments), op::READ, &[-1])?;
        }
    }
    attacker.is_served()
}

fn one_bad_of_many(attacker: &mut Attacker) -> anyhow::Result<()> {
    let page = attacker.lend(Access::ReadOnly)?;
    let good = attacker.lend(Access::ReadWrite)?;
    for bad in bad_references(attacker)? {
        for position in [0, 1, 127, 254, 255] {
            let mut segments = [RawSegment::new(good.gref, 0, 7); 256];
            segments[position] = RawSegment::new(bad, 0, 7);
            describe(&page.memory, &segments)?;
            let what = format!("reference {bad} in segment {position} of 256");
            let pages = [page.gref];
            let request = indirect(op::READ, 256, 0, &pages);
            attacker.expect(&what, request, op::READ, &[-1])?;
        }
        let pages = [bad];
        let request = indirect(op::READ, 16, 0, &pages);
        attacker.expect("a bad descriptor page", request, op::READ, &[-1])?;
    }
    attacker.is_served()
}

/// Persistent grants promise to be used again. These are not.
fn fresh_references(attacker: &mut Attacker) -> anyhow::Result<()> {
    for _ in 0..1000 {
        let lent = (0..11).map(|_| attacker.lend(Access::ReadWrite));
        let lent = lent.collect::<anyhow::Result<Vec<_>>>()?;
        let segments: Vec<_> = lent.iter().map(|l| RawSegment::new(l.gref, 0, 7)).collect();
        attacker.expect("fresh references", read(0, &segments), op::READ, &[0])?;
        // The pages stay granted: some of them are mapped, and will be for as long as we live.
        lent.into_iter().for_each(std::mem::forget);
    }
    let mapped = attacker.grants_in_use();
    ensure!(mapped <= MOST_MAPPED, "{mapped} pages are mapped");
    Ok(())
}

fn reads_into_read_only(attacker: &mut Attacker) -> anyhow::Result<()> {
    let lent = attacker.lend(Access::ReadOnly)?;
    let before = bytes_of(&lent.memory)?;
    for _ in 0..20 {
        let segments = [RawSegment::new(lent.gref, 0, 7)];
        attacker.expect("a read-only page", read(0, &segments), op::READ, &[-1])?;
    }
    ensure!(
        bytes_of(&lent.memory)? == before,
        "it was written all the same"
    );
    attacker.is_served()
}

fn bytes_of(page: &crate::sim::hypervisor::GuestPages) -> anyhow::Result<Vec<u8>> {
    let mut bytes = vec![0; 4096];
    page.read(0, &mut bytes)
        .then_some(bytes)
        .context("page is short")
}

/// Reserved entries, and numbers that mean something in other guests' tables only.
fn references_of_others(attacker: &mut Attacker) -> anyhow::Result<()> {
    for reference in (0..8).chain(200..300) {
        let segments = [RawSegment::new(GrantRef::new(reference), 0, 7)];
        let what = format!("reference {reference}");
        attacker.expect(&what, read(0, &segments), op::READ, &[-1])?;
    }
    attacker.is_served()
}

fn write_one_bad(attacker: &mut Attacker) -> anyhow::Result<()> {
    let good = attacker.lend(Access::ReadOnly)?;
    let writable = attacker.lend(Access::ReadWrite)?;
    let page = attacker.lend(Access::ReadOnly)?;
    for bad in bad_references(attacker)? {
        for position in [0, 5, 10] {
            for good in [good.gref, writable.gref] {
                let mut segments = [RawSegment::new(good, 0, 7); 11];
                segments[position] = RawSegment::new(bad, 0, 7);
                let what = format!("a write with reference {bad} in segment {position}");
                attacker.expect(&what, write(0, &segments), op::WRITE, &[-1])?;
                describe(&page.memory, &segments)?;
                let pages = [page.gref];
                let request = indirect(op::WRITE, 11, 0, &pages);
                attacker.expect(&what, request, op::WRITE, &[-1])?;
            }
        }
    }
    attacker.is_served()
}
