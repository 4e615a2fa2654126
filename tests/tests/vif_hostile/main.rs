//! Every hostile move against the real daemon, with a good guest beside it that must not notice.
//!
//! After each move the whole set of oracles is looked at: the interface ends as it must (O2), the
//! neighbour's verified traffic goes on (O3), everything is given back (O4), nothing that was refused
//! has got to the other end (O5), the guest can be destroyed (O6), the log has few lines about it
//! (O7), neither hypervisor nor store has anything to complain about, and nobody has panicked (O1).

mod arena;
mod connections;

use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use gntdev::GrantStatus;
use pv_tests::frontend::hostile::Ending;
use pv_tests::frontend::hostile::nics::attacker::{chain, data};
use pv_tests::frontend::hostile::nics::{NetMove, moves};

use crate::arena::Arena;

/// Plays all moves of one id.
fn play(id: &str) -> anyhow::Result<()> {
    let mut arena = Arena::open()?;
    let of_id: Vec<NetMove> = moves().into_iter().filter(|m| m.id == id).collect();
    ensure!(!of_id.is_empty(), "there is no move {id}");
    for one in of_id {
        let step = play_one(&mut arena, &one);
        step.with_context(|| format!("{id}: {}\n{}", one.name, arena.scene.told()))?;
    }
    arena.close()
}

fn play_one(arena: &mut Arena, one: &NetMove) -> anyhow::Result<()> {
    let (newcomer, mut attacker) = arena.attacker(one.start)?;
    attacker.is_served().context("before it")?;
    (one.play)(&mut attacker)?;
    match one.ending {
        Ending::Serves => attacker.is_served()?,
        Ending::Closed => arena.is_closed(&newcomer)?,
        Ending::Either => {}
    }
    arena.clear(&newcomer)
}

pv_tests::plays! {
    rng_01_impossible_indices => "RNG-01",
    rng_02_slots_and_frames_change_while_they_are_read => "RNG-02",
    rng_03_only_what_is_defined_is_written => "RNG-03",
    rng_04_a_ring_that_is_never_empty => "RNG-04",
    rng_05_events_for_nothing => "RNG-05",
    rng_06_ids_are_echoed => "RNG-06",
    rng_07_the_rings_as_data => "RNG-07",
    gnt_01_bad_references => "GNT-01",
    gnt_06_references_of_the_wrong_kind => "GNT-06",
    net_01_packets_without_end => "NET-01",
    net_02_slots_that_make_no_sense => "NET-02",
    net_03_headers_over_several_slots => "NET-03",
    net_04_many_slots_and_few_bytes => "NET-04",
    net_05_slots_without_bytes => "NET-05",
    net_06_frames_that_are_none => "NET-06",
    net_07_frames_that_are_too_long => "NET-07",
    net_08_lies_about_long_packets => "NET-08",
    net_09_lies_about_checksums => "NET-09",
    net_13_most_packets_are_dropped => "NET-13",
    net_20_control_messages => "NET-20",
    net_21_joining_without_end => "NET-21",
}

/// A guest that sends the shortest frames as fast as it can does not keep another one's frames up:
/// as long as it goes on, the neighbour's thousand frames go both ways, each of them verified.
#[test]
fn net_11_a_flood_of_short_frames_holds_up_nobody_else() -> anyhow::Result<()> {
    let mut arena = Arena::open()?;
    let (newcomer, mut attacker) = arena.attacker(0)?;
    let page = attacker.page(&[0xee; 64])?;
    let flood: Vec<_> = (0..200).map(|id| data(&page, id, 0, 14)).collect();
    let (mut sent, before) = (0, arena.frames());
    let deadline = Instant::now() + Duration::from_secs(60);
    attacker.push(&flood)?;
    attacker.kick()?;
    while arena.frames() < before + 1000 {
        // Each is answered, and another one takes its place at once: the ring is never empty.
        for slot in &flood {
            attacker.answers("a short frame", std::slice::from_ref(slot), &[0])?;
            attacker.push(std::slice::from_ref(slot))?;
            sent += 1;
            if sent % 32 == 0 {
                attacker.kick()?;
            }
        }
        ensure!(Instant::now() < deadline, "the neighbour is stuck");
    }
    attacker.kick()?;
    for slot in &flood {
        attacker.answers("a last frame", std::slice::from_ref(slot), &[0])?;
    }
    ensure!(sent > 1000, "{sent} frames are no flood");
    attacker.forget_seen()?;
    arena.clear(&newcomer)?;
    arena.close()
}

/// The hypervisor refuses one page of many, for each of its reasons.
#[test]
fn gnt_01_the_hypervisor_refuses_one_of_many() -> anyhow::Result<()> {
    let mut arena = Arena::open()?;
    let (newcomer, mut attacker) = arena.attacker(0)?;
    let control = arena.scene.machine().control()?;
    let page = attacker.page(&[0x44; 64])?;
    for status in [
        GrantStatus::GeneralError,
        GrantStatus::BadGrantRef,
        GrantStatus::PermissionDenied,
        GrantStatus::BadPage,
        GrantStatus::NoDeviceSpace,
    ] {
        for nth in [1, 2, 10, 19] {
            let slots = chain(&page, 60 * 19, &[60; 18]);
            control.fail_copy(newcomer.guest.domid(), nth, status)?;
            let what = format!("{status:?} at {nth}");
            attacker.expect(&what, &slots, &[-1])?;
            control.fail_copy(newcomer.guest.domid(), 0, status)?;
            attacker.is_served().context(what)?;
        }
    }
    arena.clear(&newcomer)?;
    arena.close()
}
