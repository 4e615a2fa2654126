//! GNT: references that lead nowhere, or to the wrong place.

use anyhow::ensure;
use gntdev::Access;
use ring_proto::netif::tx_flag;
use ring_proto::{DomId, GrantRef};

use super::NetMove;
use super::attacker::{NetAttacker, chain, slot};
use crate::frontend::netfront::frame::numbered;
use crate::frontend::netfront::wire::HOST;

/// The moves.
pub const MOVES: &[NetMove] = &[
    NetMove::new("GNT-01", "one bad reference among good ones", one_bad),
    NetMove::new("GNT-01", "bad packets between good ones", bad_between_good),
    NetMove::new("GNT-01", "one bad buffer among good ones", one_bad_buffer),
    NetMove::new("GNT-06", "references of others", references_of_others),
    NetMove::new("GNT-06", "buffers that may only be read", read_only_buffers),
];

/// Nobody may use these: beyond the table, never granted, and granted to another domain.
fn bad_references(attacker: &NetAttacker) -> anyhow::Result<Vec<GrantRef>> {
    let lent = attacker.lend(Access::ReadWrite)?;
    let domain = attacker.domain();
    let foreign = domain.grant_to(DomId::new(31), lent.memory.frame(0), Access::ReadWrite)?;
    // A frame that the guest does not have, and the grant table itself.
    let nowhere = domain.grant(0x00ff_ffff, Access::ReadWrite)?;
    let table = domain.grant(0, Access::ReadWrite)?;
    // Emptied, and still ours, so that nothing else is granted under that number.
    domain.set_entry(lent.gref, 0, DomId::new(0), 0);
    Ok(vec![
        GrantRef::new(u32::MAX),
        GrantRef::new(16_384),
        lent.gref,
        foreign,
        nowhere,
        table,
    ])
}

fn one_bad(attacker: &mut NetAttacker) -> anyhow::Result<()> {
    let page = attacker.page(&[0x44; 4096])?;
    for bad in bad_references(attacker)? {
        for count in [1, 2, 5, 19] {
            for position in 0..count {
                let mut slots = chain(&page, 60 * count, &vec![60; usize::from(count) - 1]);
                let more = if position + 1 < count {
                    tx_flag::MORE_DATA
                } else {
                    0
                };
                let size = if position == 0 { 60 * count } else { 60 };
                slots[usize::from(position)] = slot(bad, 0, position, more, size);
                let what = format!("reference {bad} in slot {position} of {count}");
                attacker.expect(&what, &slots, &[-1])?;
            }
        }
    }
    Ok(())
}

/// In one sweep: each packet has its own fate.
fn bad_between_good(attacker: &mut NetAttacker) -> anyhow::Result<()> {
    let frame = numbered(HOST, attacker.mac(), 1 << 50, 200);
    let page = attacker.page(&frame)?;
    for bad in bad_references(attacker)? {
        let mut slots = Vec::new();
        for id in 0..50 {
            let gref = if id % 3 == 1 { bad } else { page.gref };
            slots.push(slot(gref, 0, id, 0, 200));
        }
        attacker.push(&slots)?;
        attacker.kick()?;
        let mut good = 0;
        for (id, one) in slots.iter().enumerate() {
            let status = if id % 3 == 1 { -1 } else { 0 };
            good += usize::from(status == 0);
            attacker.answers("one of many", std::slice::from_ref(one), &[status])?;
        }
        let mut seen = 0;
        while let Some(came) = attacker.peer.take()? {
            ensure!(came.bytes == frame, "another frame");
            seen += 1;
        }
        ensure!(seen == good, "{seen} frames instead of {good}");
    }
    Ok(())
}

fn one_bad_buffer(attacker: &mut NetAttacker) -> anyhow::Result<()> {
    let page = attacker.lend(Access::ReadWrite)?;
    let bad = bad_references(attacker)?;
    for id in 0..240_u16 {
        let at = usize::from(id / 2) % bad.len();
        let gref = if id % 2 == 1 { bad[at] } else { page.gref };
        attacker.post(id, gref)?;
    }
    attacker.kick()?;
    let frame = numbered(attacker.mac(), HOST, 5, 1400);
    for id in 0..200_u16 {
        attacker.peer.send(&frame)?;
        let answer = attacker.received()?;
        let expected = if id % 2 == 1 { -1 } else { 1400 };
        ensure!(
            (answer.id, answer.status) == (id, expected),
            "{answer:?} instead of {id}, {expected}"
        );
    }
    Ok(())
}

/// Reserved entries, and numbers that mean something in other guests' tables only.
fn references_of_others(attacker: &mut NetAttacker) -> anyhow::Result<()> {
    for reference in (0..8).chain(1000..1100) {
        let slots = [slot(GrantRef::new(reference), 0, 1, 0, 100)];
        let what = format!("reference {reference}");
        attacker.expect(&what, &slots, &[-1])?;
    }
    Ok(())
}

fn read_only_buffers(attacker: &mut NetAttacker) -> anyhow::Result<()> {
    let page = attacker.lend(Access::ReadOnly)?;
    ensure!(page.memory.write(0, &[0x77; 4096]), "a page is short");
    for id in 0..100 {
        attacker.post(id, page.gref)?;
    }
    attacker.kick()?;
    let frame = numbered(attacker.mac(), HOST, 5, 1400);
    for _ in 0..50 {
        attacker.peer.send(&frame)?;
        let answer = attacker.received()?;
        ensure!(answer.status == -1, "{answer:?}");
    }
    let mut bytes = vec![0; 4096];
    ensure!(page.memory.read(0, &mut bytes), "a page is short");
    ensure!(bytes == [0x77; 4096], "it was written all the same");
    Ok(())
}
