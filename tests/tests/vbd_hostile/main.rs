//! Every hostile move against the real daemon, with a good guest beside it that must not notice.
//!
//! After each move the whole set of oracles is looked at: the device ends as it must (O2), the
//! neighbour's verified load goes on (O3), everything is given back (O4), the disk holds what it
//! must (O5), the guest can be destroyed (O6), the log has few lines about it (O7), neither
//! hypervisor nor store has anything to complain about, and nobody has panicked (O1).

mod arena;
mod connections;

use anyhow::{Context, ensure};
use gntdev::GrantStatus;
use pv_tests::frontend::Shape;
use pv_tests::frontend::hostile::attacker::read;
use pv_tests::frontend::hostile::{Attacker, Ending, Move, moves};
use pv_tests::scene::check_image;
use pv_tests::toolstack::XVDA;
use ring_proto::blkif::{RawSegment, op};

use crate::arena::Arena;

/// Plays all moves of one id.
fn play(id: &str) -> anyhow::Result<()> {
    let mut arena = Arena::open()?;
    let of_id: Vec<Move> = moves().into_iter().filter(|m| m.id == id).collect();
    ensure!(!of_id.is_empty(), "there is no move {id}");
    for one in of_id {
        let step = play_one(&mut arena, &one);
        step.with_context(|| format!("{id}: {}\n{}", one.name, arena.scene.told()))?;
    }
    arena.close()
}

fn play_one(arena: &mut Arena, one: &Move) -> anyhow::Result<()> {
    let before = arena.neighbour.requests();
    let (guest, device, model, line) = arena.newcomer(one.read_only)?;
    let mut attacker = Attacker::connect(device, &one.shape, one.start)?;
    (one.play)(&mut attacker)?;
    match one.ending {
        Ending::Serves => attacker.is_served()?,
        Ending::Closed => arena.scene.wait_refused(&guest, XVDA)?,
        Ending::Either => {}
    }
    if one.harmless {
        check_image(&line.target, &model)?;
    }
    arena.clear(&guest, before)?;
    if one.harmless {
        check_image(&line.target, &model)?;
    }
    Ok(())
}

pv_tests::plays! {
    rng_01_impossible_indices => "RNG-01",
    rng_02_slots_change_while_they_are_read => "RNG-02",
    rng_03_only_what_is_defined_is_written => "RNG-03",
    rng_04_a_ring_that_is_never_empty => "RNG-04",
    rng_06_ids_are_echoed => "RNG-06",
    rng_07_the_ring_as_data => "RNG-07",
    gnt_01_bad_references => "GNT-01",
    gnt_03_fresh_references => "GNT-03",
    gnt_06_references_of_the_wrong_kind => "GNT-06",
    blk_01_outside_of_the_disk => "BLK-01",
    blk_02_numbers_of_segments => "BLK-02",
    blk_03_first_and_last_sectors => "BLK-03",
    blk_05_indirect_nonsense => "BLK-05",
    blk_06_writes_to_a_read_only_disk => "BLK-06",
    blk_07_unknown_operations => "BLK-07",
    blk_08_flushes_with_data => "BLK-08",
    blk_09_discards => "BLK-09",
    blk_10_a_discard_of_everything => "BLK-10",
    blk_13_one_page_for_all => "BLK-13",
    blk_14_nothing_of_a_bad_write_is_written => "BLK-14",
    blk_15_equal_ids => "BLK-15",
}

/// The hypervisor refuses one page of many, for each of its reasons.
#[test]
fn gnt_01_the_hypervisor_refuses_one_of_many() -> anyhow::Result<()> {
    let mut arena = Arena::open()?;
    for persistent in [false, true] {
        let before = arena.neighbour.requests();
        let (guest, device, model, line) = arena.newcomer(false)?;
        let shape = Shape {
            persistent,
            ..Shape::LINUX
        };
        let mut attacker = Attacker::connect(device, &shape, 0)?;
        let control = arena.scene.machine().control()?;
        for status in [
            GrantStatus::GeneralError,
            GrantStatus::BadGrantRef,
            GrantStatus::PermissionDenied,
            GrantStatus::BadPage,
            GrantStatus::NoDeviceSpace,
        ] {
            for nth in [1, 2, 6, 11] {
                let lent = (0..11).map(|_| attacker.lend(gntdev::Access::ReadWrite));
                let lent = lent.collect::<anyhow::Result<Vec<_>>>()?;
                let segments: Vec<_> = lent.iter().map(|l| RawSegment::new(l.gref, 0, 7)).collect();
                control.fail_copy(guest.domid(), nth, status)?;
                control.fail_map(guest.domid(), nth, status)?;
                let what = format!("{status:?} at {nth}, persistent {persistent}");
                // A page that cannot be mapped may be copied instead.
                attacker.expect(&what, read(0, &segments), op::READ, &[-1, 0])?;
                control.fail_copy(guest.domid(), 0, status)?;
                control.fail_map(guest.domid(), 0, status)?;
                attacker.is_served().with_context(|| what)?;
            }
        }
        check_image(&line.target, &model)?;
        arena.clear(&guest, before)?;
    }
    arena.close()
}
