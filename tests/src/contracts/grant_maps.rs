//! What mapping promises.

use anyhow::{bail, ensure};
use gntdev::{Access, Gntdev, GrantError, LocalPages, Mapping, PAGE_SIZE};
use ring_proto::{GrantRef, RingMemory};
use std::sync::atomic::Ordering;

use super::Peer;

/// A reference beyond every grant table.
pub(super) const BEYOND: GrantRef = GrantRef::new(0x0fff_fff0);

fn map(
    peer: &dyn Peer,
    grants: &Gntdev,
    grefs: &[GrantRef],
    access: Access,
) -> Result<Mapping, GrantError> {
    grants.map(peer.domid(), grefs, access)
}

fn ensure_refused(outcome: Result<Mapping, GrantError>, asked: usize) -> anyhow::Result<()> {
    match outcome {
        Err(GrantError::MapRefused { pages, .. }) if pages == asked => Ok(()),
        other => bail!("not refused, but {other:?}"),
    }
}

fn ensure_in_use(peer: &dyn Peer, gref: GrantRef, expected: bool) -> anyhow::Result<()> {
    // A guest that cannot tell proves it by `conclude`, or not at all.
    let seen = peer.in_use(gref).unwrap_or(expected);
    ensure!(seen == expected, "grant {gref} in use: {seen}");
    Ok(())
}

pub(super) fn a_mapping_shows_both_sides_the_same_bytes(peer: &mut dyn Peer) -> anyhow::Result<()> {
    let grants = peer.open_grants()?;
    let gref = peer.grant(Access::ReadWrite)?;
    peer.write(gref, 4092, b"past")?;
    let mapping = map(peer, &grants, &[gref], Access::ReadWrite)?;
    let mut seen = [0; 4];
    mapping.read(4092, &mut seen)?;
    ensure!(&seen == b"past", "what was there is not seen");
    peer.write(gref, 0, b"from the guest")?;
    let mut seen = [0; 14];
    mapping.read(0, &mut seen)?;
    ensure!(&seen == b"from the guest", "the guest's write is not seen");
    mapping.write(100, b"from the backend")?;
    let mut seen = [0; 16];
    peer.read(gref, 100, &mut seen)?;
    ensure!(&seen == b"from the backend", "our write is not seen");
    ensure!(mapping.words().len() == PAGE_SIZE / 4, "words are missing");
    mapping.words()[8].store(0x0403_0201, Ordering::Release);
    let mut seen = [0; 4];
    peer.read(gref, 32, &mut seen)?;
    ensure!(
        seen == 0x0403_0201_u32.to_ne_bytes(),
        "our word is not seen"
    );
    Ok(mapping.unmap()?)
}

pub(super) fn pages_lie_in_the_order_asked_for(peer: &mut dyn Peer) -> anyhow::Result<()> {
    let grants = peer.open_grants()?;
    let mut grefs = Vec::new();
    for page in 0..16u8 {
        let gref = peer.grant(Access::ReadWrite)?;
        peer.write(gref, 0, &[page])?;
        grefs.push((page, gref));
    }
    // No order that an allocator would produce.
    grefs.sort_by_key(|(page, _)| page.wrapping_mul(7) % 16);
    let order: Vec<GrantRef> = grefs.iter().map(|&(_, gref)| gref).collect();
    let mapping = map(peer, &grants, &order, Access::ReadWrite)?;
    ensure!(mapping.pages() == 16, "{} pages", mapping.pages());
    for (at, &(page, gref)) in grefs.iter().enumerate() {
        let mut seen = [0xff];
        mapping.read(at * PAGE_SIZE, &mut seen)?;
        ensure!(seen == [page], "page {page} is not at {at}");
        ensure_in_use(peer, gref, true)?;
    }
    mapping.unmap()?;
    for (_, gref) in grefs {
        ensure_in_use(peer, gref, false)?;
    }
    Ok(())
}

pub(super) fn a_read_only_mapping_reads(peer: &mut dyn Peer) -> anyhow::Result<()> {
    let grants = peer.open_grants()?;
    for access in [Access::ReadOnly, Access::ReadWrite] {
        let gref = peer.grant(access)?;
        peer.write(gref, 8, b"readable")?;
        let mapping = map(peer, &grants, &[gref], Access::ReadOnly)?;
        let mut seen = [0; 8];
        mapping.read(8, &mut seen)?;
        ensure!(&seen == b"readable", "{seen:?}");
        ensure!(
            mapping.write(8, b"no") == Err(GrantError::ReadOnly),
            "written to a read-only mapping"
        );
        ensure!(
            mapping.words().is_empty(),
            "words that may not be stored to"
        );
        mapping.unmap()?;
    }
    Ok(())
}

pub(super) fn a_read_only_grant_refuses_writers(peer: &mut dyn Peer) -> anyhow::Result<()> {
    let grants = peer.open_grants()?;
    let gref = peer.grant(Access::ReadOnly)?;
    ensure_refused(map(peer, &grants, &[gref], Access::ReadWrite), 1)?;
    ensure_in_use(peer, gref, false)
}

pub(super) fn an_unknown_reference_is_refused(peer: &mut dyn Peer) -> anyhow::Result<()> {
    let grants = peer.open_grants()?;
    ensure_refused(map(peer, &grants, &[BEYOND], Access::ReadWrite), 1)?;
    ensure_refused(map(peer, &grants, &[BEYOND], Access::ReadOnly), 1)?;
    // The handle is none the worse for it.
    let gref = peer.grant(Access::ReadWrite)?;
    Ok(map(peer, &grants, &[gref], Access::ReadWrite)?.unmap()?)
}

pub(super) fn a_revoked_reference_is_refused(peer: &mut dyn Peer) -> anyhow::Result<()> {
    let grants = peer.open_grants()?;
    let gref = peer.grant(Access::ReadWrite)?;
    peer.revoke(gref)?;
    ensure_refused(map(peer, &grants, &[gref], Access::ReadOnly), 1)
}

pub(super) fn gnt_01_one_bad_page_of_a_batch_leaves_none_mapped(
    peer: &mut dyn Peer,
) -> anyhow::Result<()> {
    const PAGES: usize = 4;
    let grants = peer.open_grants()?;
    for bad in 0..PAGES {
        let mut grefs = Vec::new();
        for at in 0..PAGES {
            grefs.push(if at == bad {
                BEYOND
            } else {
                peer.grant(Access::ReadWrite)?
            });
        }
        ensure_refused(map(peer, &grants, &grefs, Access::ReadWrite), PAGES)?;
        for gref in grefs.into_iter().filter(|&gref| gref != BEYOND) {
            ensure_in_use(peer, gref, false)?;
            // Mapping it alone still works, and ending it afterwards too.
            map(peer, &grants, &[gref], Access::ReadWrite)?.unmap()?;
            peer.revoke(gref)?;
        }
    }
    Ok(())
}

pub(super) fn unmapping_gives_the_page_back(peer: &mut dyn Peer) -> anyhow::Result<()> {
    let grants = peer.open_grants()?;
    let gref = peer.grant(Access::ReadWrite)?;
    for _ in 0..3 {
        let mapping = map(peer, &grants, &[gref], Access::ReadWrite)?;
        ensure_in_use(peer, gref, true)?;
        mapping.unmap()?;
        ensure_in_use(peer, gref, false)?;
    }
    peer.revoke(gref)
}

pub(super) fn dropping_gives_the_page_back(peer: &mut dyn Peer) -> anyhow::Result<()> {
    let grants = peer.open_grants()?;
    let gref = peer.grant(Access::ReadWrite)?;
    drop(map(peer, &grants, &[gref], Access::ReadWrite)?);
    ensure_in_use(peer, gref, false)?;
    ensure!(grants.failed_unmaps() == 0, "unmapping failed unseen");
    peer.revoke(gref)
}

pub(super) fn one_page_is_mapped_twice(peer: &mut dyn Peer) -> anyhow::Result<()> {
    let grants = peer.open_grants()?;
    let gref = peer.grant(Access::ReadWrite)?;
    let first = map(peer, &grants, &[gref], Access::ReadWrite)?;
    let second = map(peer, &grants, &[gref, gref], Access::ReadOnly)?;
    first.write(64, b"once")?;
    for at in [64, PAGE_SIZE + 64] {
        let mut seen = [0; 4];
        second.read(at, &mut seen)?;
        ensure!(&seen == b"once", "the mappings differ");
    }
    first.unmap()?;
    ensure_in_use(peer, gref, true)?;
    peer.write(gref, 64, b"more")?;
    let mut seen = [0; 4];
    second.read(64, &mut seen)?;
    ensure!(&seen == b"more", "the second mapping went with the first");
    second.unmap()?;
    ensure_in_use(peer, gref, false)
}

pub(super) fn a_mapping_outlives_its_handle(peer: &mut dyn Peer) -> anyhow::Result<()> {
    let grants = peer.open_grants()?;
    let gref = peer.grant(Access::ReadWrite)?;
    let mapping = map(peer, &grants, &[gref], Access::ReadWrite)?;
    drop(grants);
    peer.write(gref, 0, b"alive")?;
    let mut seen = [0; 5];
    mapping.read(0, &mut seen)?;
    ensure!(&seen == b"alive", "{seen:?}");
    mapping.unmap()?;
    ensure_in_use(peer, gref, false)
}

pub(super) fn ranges_outside_a_mapping_are_refused(peer: &mut dyn Peer) -> anyhow::Result<()> {
    let grants = peer.open_grants()?;
    let gref = peer.grant(Access::ReadWrite)?;
    let mapping = map(peer, &grants, &[gref], Access::ReadWrite)?;
    let local = LocalPages::new(2)?;
    for (at, len) in [(4096, 1), (4095, 2), (0, 4097), (usize::MAX, 1)] {
        let size = 4096;
        let outside = Err(GrantError::OutOfRange { at, len, size });
        ensure!(mapping.copy_to(at, &local, 0, len) == outside, "{at} {len}");
        ensure!(
            mapping.copy_from(at, &local, 0, len) == outside,
            "{at} {len}"
        );
    }
    ensure!(
        mapping.copy_to(0, &local, 8191, 2).is_err(),
        "ours is short"
    );
    mapping.copy_to(4096, &local, 8192, 0)?;
    Ok(mapping.unmap()?)
}

pub(super) fn mapped_bytes_are_copied_by_range(peer: &mut dyn Peer) -> anyhow::Result<()> {
    let grants = peer.open_grants()?;
    let grefs = [
        peer.grant(Access::ReadWrite)?,
        peer.grant(Access::ReadWrite)?,
    ];
    let mapping = map(peer, &grants, &grefs, Access::ReadWrite)?;
    let local = LocalPages::new(1)?;
    peer.write(grefs[0], 4094, b"ab")?;
    peer.write(grefs[1], 0, b"cd")?;
    // Across the border of the two pages, to an odd address.
    mapping.copy_to(4094, &local, 1, 4)?;
    let mut seen = [0; 6];
    local.read(0, &mut seen)?;
    ensure!(&seen == b"\0abcd\0", "{seen:?}");
    mapping.copy_from(4095, &local, 0, 6)?;
    let mut seen = [0; 5];
    peer.read(grefs[1], 0, &mut seen)?;
    ensure!(&seen == b"abcd\0", "{seen:?}");
    Ok(mapping.unmap()?)
}

pub(super) fn no_pages_are_no_mapping(peer: &mut dyn Peer) -> anyhow::Result<()> {
    let outcome = map(peer, &peer.open_grants()?, &[], Access::ReadWrite);
    ensure!(
        matches!(outcome, Err(GrantError::BadCount { pages: 0 })),
        "{outcome:?}"
    );
    Ok(())
}

pub(super) fn a_grant_handle_is_passed_on(peer: &mut dyn Peer) -> anyhow::Result<()> {
    let grants = peer.open_grants()?;
    let kind = grants.kind();
    let grants = Gntdev::adopt(kind, grants.into_fd()?)?;
    let gref = peer.grant(Access::ReadWrite)?;
    let mapping = map(peer, &grants, &[gref], Access::ReadWrite)?;
    let kept = grants.into_fd();
    ensure!(
        matches!(kept, Err(GrantError::StillMapped)),
        "given away with pages mapped"
    );
    Ok(mapping.unmap()?)
}
