//! What copying promises.

use anyhow::ensure;
use gntdev::{Access, CopyDirection, CopySegment, GrantError, GrantStatus, LocalPages, PAGE_SIZE};
use ring_proto::{DomId, GrantRef};

use super::Peer;
use super::grant_maps::BEYOND;
use CopyDirection::{FromGuest, ToGuest};

/// A domain that does not exist, in either world.
const NOBODY: DomId = DomId::new(0x7ee0);

/// Offsets and lengths at the borders of a page.
const RANGES: [(u16, u16); 6] = [(0, 4096), (0, 1), (4095, 1), (1, 4095), (512, 1024), (3, 7)];

/// Bytes that differ from their neighbours, and from those of another `seed`.
fn pattern(len: usize, seed: u8) -> Vec<u8> {
    let bytes = (0..len).map(|at| at.to_le_bytes()[0].wrapping_mul(31).wrapping_add(seed));
    bytes.map(|byte| byte | 1).collect()
}

fn ensure_okay(segments: &[CopySegment]) -> anyhow::Result<()> {
    for (at, segment) in segments.iter().enumerate() {
        ensure!(segment.status.is_okay(), "segment {at}: {}", segment.status);
    }
    Ok(())
}

fn local_bytes(pages: &LocalPages, at: usize, len: usize) -> anyhow::Result<Vec<u8>> {
    let mut bytes = vec![0; len];
    pages.read(at, &mut bytes)?;
    Ok(bytes)
}

fn guest_page(peer: &mut dyn Peer, gref: GrantRef) -> anyhow::Result<Vec<u8>> {
    let mut bytes = vec![0; PAGE_SIZE];
    peer.read(gref, 0, &mut bytes)?;
    Ok(bytes)
}

pub(super) fn bytes_come_from_the_guest(peer: &mut dyn Peer) -> anyhow::Result<()> {
    let grants = peer.open_grants()?;
    let gref = peer.grant(Access::ReadOnly)?;
    let data = pattern(PAGE_SIZE, 1);
    peer.write(gref, 0, &data)?;
    for (guest_at, len) in RANGES {
        let pages = peer.memory(2)?;
        let mut segments = [CopySegment::new(gref, guest_at, 100, len, FromGuest)];
        grants.copy(peer.domid(), &pages, &mut segments)?;
        ensure_okay(&segments)?;
        let (at, len) = (usize::from(guest_at), usize::from(len));
        let seen = local_bytes(&pages, 0, pages.len())?;
        ensure!(seen[100..100 + len] == data[at..at + len], "{at} {len}");
        ensure!(seen[..100].iter().all(|&b| b == 0), "bytes before");
        ensure!(seen[100 + len..].iter().all(|&b| b == 0), "bytes after");
    }
    Ok(())
}

pub(super) fn bytes_go_to_the_guest(peer: &mut dyn Peer) -> anyhow::Result<()> {
    let grants = peer.open_grants()?;
    let pages = peer.memory(2)?;
    let data = pattern(2 * PAGE_SIZE, 2);
    pages.write(0, &data)?;
    for (guest_at, len) in RANGES {
        let gref = peer.grant(Access::ReadWrite)?;
        let mut segments = [CopySegment::new(gref, guest_at, 100, len, ToGuest)];
        grants.copy(peer.domid(), &pages, &mut segments)?;
        ensure_okay(&segments)?;
        let (at, len) = (usize::from(guest_at), usize::from(len));
        let seen = guest_page(peer, gref)?;
        ensure!(seen[at..at + len] == data[100..100 + len], "{at} {len}");
        ensure!(seen[..at].iter().all(|&b| b == 0), "bytes before");
        ensure!(seen[at + len..].iter().all(|&b| b == 0), "bytes after");
    }
    Ok(())
}

pub(super) fn our_side_may_cross_pages(peer: &mut dyn Peer) -> anyhow::Result<()> {
    let grants = peer.open_grants()?;
    let pages = peer.memory(3)?;
    let gref = peer.grant(Access::ReadWrite)?;
    let data = pattern(PAGE_SIZE, 3);
    for local_at in [1, 4000, 4095, 8191] {
        peer.write(gref, 0, &data)?;
        let mut there = [CopySegment::new(gref, 0, local_at, 4096, FromGuest)];
        grants.copy(peer.domid(), &pages, &mut there)?;
        ensure_okay(&there)?;
        ensure!(local_bytes(&pages, local_at, 4096)? == data, "{local_at}");
        peer.write(gref, 0, &[0; PAGE_SIZE])?;
        let mut back = [CopySegment::new(gref, 0, local_at, 4096, ToGuest)];
        grants.copy(peer.domid(), &pages, &mut back)?;
        ensure_okay(&back)?;
        ensure!(guest_page(peer, gref)? == data, "{local_at} back");
    }
    Ok(())
}

pub(super) fn gnt_01_a_segment_that_crosses_a_page_fails_alone(
    peer: &mut dyn Peer,
) -> anyhow::Result<()> {
    let grants = peer.open_grants()?;
    let gref = peer.grant(Access::ReadWrite)?;
    peer.write(gref, 0, &pattern(PAGE_SIZE, 4))?;
    let pages = peer.memory(4)?;
    for bad in 0..3 {
        for direction in [FromGuest, ToGuest] {
            let mut segments =
                [0, 1, 2].map(|at| CopySegment::new(gref, 0, at * PAGE_SIZE, 16, direction));
            segments[bad].guest_at = 4090;
            grants.copy(peer.domid(), &pages, &mut segments)?;
            for (at, segment) in segments.iter().enumerate() {
                let expected = if at == bad {
                    GrantStatus::BadCopyArg
                } else {
                    GrantStatus::Okay
                };
                ensure!(segment.status == expected, "{at}: {}", segment.status);
            }
        }
    }
    Ok(())
}

pub(super) fn gnt_01_a_bad_reference_fails_alone_at_every_position(
    peer: &mut dyn Peer,
) -> anyhow::Result<()> {
    // More than one of the kernel's batches of 16.
    const COUNT: usize = 20;
    let grants = peer.open_grants()?;
    let data = pattern(64, 5);
    let gref = peer.grant(Access::ReadOnly)?;
    peer.write(gref, 0, &data)?;
    for bad in 0..COUNT {
        let pages = peer.memory(1)?;
        let mut segments: Vec<_> = (0..COUNT)
            .map(|at| CopySegment::new(gref, 0, at * 64, 64, FromGuest))
            .collect();
        segments[bad].gref = BEYOND;
        grants.copy(peer.domid(), &pages, &mut segments)?;
        for (at, segment) in segments.iter().enumerate() {
            let seen = local_bytes(&pages, at * 64, 64)?;
            if at == bad {
                ensure!(
                    segment.status == GrantStatus::BadGrantRef,
                    "{}",
                    segment.status
                );
                ensure!(seen.iter().all(|&b| b == 0), "bytes of nowhere");
            } else {
                ensure!(segment.status.is_okay(), "{at}: {}", segment.status);
                ensure!(seen == data, "{at}: wrong bytes");
            }
        }
    }
    Ok(())
}

pub(super) fn hundreds_of_segments_go_in_one_call(peer: &mut dyn Peer) -> anyhow::Result<()> {
    const PIECE: u16 = 128;
    let grants = peer.open_grants()?;
    let mut sources = Vec::new();
    for seed in 0..8 {
        let gref = peer.grant(Access::ReadOnly)?;
        peer.write(gref, 0, &pattern(PAGE_SIZE, seed))?;
        sources.push(gref);
    }
    let pages = peer.memory(8)?;
    let piece = usize::from(PIECE);
    // Every piece of every page, the last page first.
    let mut segments = Vec::new();
    for (page, &gref) in sources.iter().enumerate() {
        for at in (0..4096).step_by(piece) {
            let to = (7 - page) * PAGE_SIZE + usize::from(at);
            segments.push(CopySegment::new(gref, at, to, PIECE, FromGuest));
        }
    }
    ensure!(segments.len() == 256, "{} segments", segments.len());
    grants.copy(peer.domid(), &pages, &mut segments)?;
    ensure_okay(&segments)?;
    for seed in 0..8u8 {
        let at = (7 - usize::from(seed)) * PAGE_SIZE;
        let seen = local_bytes(&pages, at, PAGE_SIZE)?;
        ensure!(seen == pattern(PAGE_SIZE, seed), "page {seed}");
    }
    Ok(())
}

pub(super) fn a_read_only_grant_is_read_but_not_written(peer: &mut dyn Peer) -> anyhow::Result<()> {
    let grants = peer.open_grants()?;
    let gref = peer.grant(Access::ReadOnly)?;
    let pages = peer.memory(1)?;
    pages.write(0, b"intruder")?;
    let mut segments = [
        CopySegment::new(gref, 0, 0, 8, ToGuest),
        CopySegment::new(gref, 0, 64, 8, FromGuest),
    ];
    grants.copy(peer.domid(), &pages, &mut segments)?;
    ensure!(!segments[0].status.is_okay(), "written to a read-only page");
    ensure!(segments[1].status.is_okay(), "{}", segments[1].status);
    let seen = guest_page(peer, gref)?;
    ensure!(seen.iter().all(|&b| b == 0), "the page was written to");
    Ok(())
}

pub(super) fn gnt_06_a_revoked_reference_is_not_copied(peer: &mut dyn Peer) -> anyhow::Result<()> {
    let grants = peer.open_grants()?;
    // Before: dom0 as its own guest would get the reference again for its own memory.
    let pages = peer.memory(1)?;
    let gref = peer.grant(Access::ReadWrite)?;
    peer.revoke(gref)?;
    for direction in [FromGuest, ToGuest] {
        let mut segments = [CopySegment::new(gref, 0, 0, 8, direction)];
        grants.copy(peer.domid(), &pages, &mut segments)?;
        ensure!(!segments[0].status.is_okay(), "{direction:?} copied");
    }
    Ok(())
}

pub(super) fn an_unknown_domain_is_not_copied(peer: &mut dyn Peer) -> anyhow::Result<()> {
    let grants = peer.open_grants()?;
    let pages = peer.memory(1)?;
    let mut segments = [CopySegment::new(GrantRef::new(8), 0, 0, 8, FromGuest); 3];
    grants.copy(NOBODY, &pages, &mut segments)?;
    for segment in segments {
        ensure!(
            segment.status == GrantStatus::BadDomain,
            "{}",
            segment.status
        );
    }
    Ok(())
}

pub(super) fn a_range_outside_of_our_memory_copies_nothing(
    peer: &mut dyn Peer,
) -> anyhow::Result<()> {
    let grants = peer.open_grants()?;
    let gref = peer.grant(Access::ReadOnly)?;
    peer.write(gref, 0, &pattern(PAGE_SIZE, 6))?;
    let pages = peer.memory(1)?;
    for local_at in [4089, 4096, usize::MAX] {
        let mut segments = [
            CopySegment::new(gref, 0, 0, 8, FromGuest),
            CopySegment::new(gref, 0, local_at, 8, FromGuest),
        ];
        let outcome = grants.copy(peer.domid(), &pages, &mut segments);
        let (at, len, size) = (local_at, 8, 4096);
        ensure!(
            outcome == Err(GrantError::OutOfRange { at, len, size }),
            "{outcome:?}"
        );
        ensure!(segments.iter().all(|s| !s.status.is_okay()), "okay");
        let seen = local_bytes(&pages, 0, 8)?;
        ensure!(seen.iter().all(|&b| b == 0), "something was copied");
    }
    Ok(())
}

pub(super) fn gnt_05_a_copied_page_is_not_in_use(peer: &mut dyn Peer) -> anyhow::Result<()> {
    let grants = peer.open_grants()?;
    let gref = peer.grant(Access::ReadWrite)?;
    let pages = peer.memory(1)?;
    for direction in [FromGuest, ToGuest] {
        let mut segments = [CopySegment::new(gref, 0, 0, 4096, direction)];
        grants.copy(peer.domid(), &pages, &mut segments)?;
        ensure_okay(&segments)?;
        ensure!(peer.in_use(gref) != Some(true), "in use after a copy");
    }
    peer.revoke(gref)
}

pub(super) fn no_segments_are_no_error(peer: &mut dyn Peer) -> anyhow::Result<()> {
    let grants = peer.open_grants()?;
    let pages = peer.memory(1)?;
    grants.copy(peer.domid(), &pages, &mut [])?;
    let gref = peer.grant(Access::ReadOnly)?;
    let mut nothing = [CopySegment::new(gref, 0, 0, 0, FromGuest)];
    grants.copy(peer.domid(), &pages, &mut nothing)?;
    ensure_okay(&nothing)
}
