//! CON: guests that connect, disconnect, write and die as no guest should.

use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use pv_tests::frontend::Device;
use pv_tests::frontend::hostile::{Attacker, Move, moves, offers, walks};
use pv_tests::frontend::{Load, Plan, Queue, Shape, keys};
use pv_tests::toolstack::XVDA;
use xenbus::State;

use crate::arena::Arena;

#[test]
fn con_01_connections_come_and_go_with_requests_under_way() -> anyhow::Result<()> {
    let mut arena = Arena::open()?;
    for round in 0..40_u32 {
        let before = arena.neighbour.requests();
        let (guest, device, mut model, _) = arena.newcomer(false)?;
        let shape = Shape {
            persistent: round.is_multiple_of(2),
            queues: 1 + round % 4,
            ..Shape::LINUX
        };
        let mut front = device.connect(shape)?;
        Load::new(&mut front, &mut model, Plan::MIXED).fill(usize::MAX)?;
        match round % 3 {
            0 => drop(front.vanish()),
            1 => drop(front.close()?),
            _ => drop(front.kexec()?),
        }
        arena.clear(&guest, before)?;
    }
    arena.close()
}

#[test]
fn con_02_a_broken_ring_is_torn_down_in_every_order() -> anyhow::Result<()> {
    let mut arena = Arena::open()?;
    let breaks: Vec<Move> = moves()
        .into_iter()
        .filter(|m| m.id == "RNG-01")
        .take(1)
        .collect();
    for order in 0..4 {
        let before = arena.neighbour.requests();
        let (guest, device, _, _) = arena.newcomer(false)?;
        let mut attacker = Attacker::connect(device, &breaks[0].shape, 0)?;
        (breaks[0].play)(&mut attacker)?;
        let toolstack = arena.scene.toolstack();
        match order {
            0 => arena.scene.wait_refused(&guest, XVDA)?,
            1 => toolstack.ask_to_close(guest.domid(), XVDA, true)?,
            2 => attacker.device().switch(State::Closed)?,
            _ => drop(guest.domain.destroy()?),
        }
        if order == 3 {
            arena.scene.machine().xenstored()?.release(guest.domid())?;
            arena.scene.toolstack().remove_devices(guest.domid())?;
            arena.scene.wait_buried(guest.domid())?;
        } else {
            arena.clear(&guest, before)?;
        }
    }
    arena.close()
}

#[test]
fn con_03_states_in_no_order() -> anyhow::Result<()> {
    let walked: [fn(&mut Device) -> anyhow::Result<()>; 3] = [
        walks::all_pairs,
        walks::impossible_states,
        walks::tear_at_the_directory,
    ];
    let mut arena = Arena::open()?;
    for walk in walked {
        for connected in [false, true] {
            let before = arena.neighbour.requests();
            let (guest, device, _, _) = arena.newcomer(false)?;
            let mut device = if connected {
                let mut attacker = Attacker::connect(device, &Shape::LINUX, 0)?;
                walk(attacker.device())?;
                attacker.into_device()
            } else {
                device
            };
            walk(&mut device)?;
            arena.clear(&guest, before)?;
        }
    }
    arena.close()
}

#[test]
fn con_04_values_that_make_no_sense() -> anyhow::Result<()> {
    let mut arena = Arena::open()?;
    for (key, values) in offers::nonsense() {
        for value in values {
            let step = refused(&mut arena, key, &value);
            let shown = value.escape_ascii().to_string();
            let shown = shown.get(..40).unwrap_or(&shown).to_owned();
            step.with_context(|| format!("{key} = {shown}\n{}", arena.scene.told()))?;
        }
    }
    arena.close()
}

/// A frontend that writes `value` for `key`, and everything else right, is refused.
fn refused(arena: &mut Arena, key: &str, value: &[u8]) -> anyhow::Result<()> {
    let before = arena.neighbour.requests();
    let (guest, mut device, _, _) = arena.newcomer(false)?;
    device.limits()?;
    let shape = Shape {
        order: (key == "ring-page-order").then_some(0),
        ..Shape::LINUX
    };
    let queue = Queue::new(&guest.domain, &shape)?;
    device.offer(&keys::offer(&shape, &[queue.keys()]))?;
    let path = format!("{}/{key}", device.frontend());
    device.store().write(&path, value)?;
    device.switch(State::Initialised)?;
    arena.scene.wait_refused(&guest, XVDA)?;
    arena.clear(&guest, before)
}

#[test]
fn con_05_a_watched_node_is_rewritten_without_end() -> anyhow::Result<()> {
    let mut arena = Arena::open()?;
    let before = arena.neighbour.requests();
    let (guest, mut device, _, _) = arena.newcomer(false)?;
    let storm = std::thread::spawn(move || -> anyhow::Result<u32> {
        let count = walks::rewrite_for(&mut device, Duration::from_secs(3))?;
        walks::hollow_offers(&mut device, 300)?;
        Ok(count)
    });
    let mut slowest = Duration::ZERO;
    while !storm.is_finished() {
        let started = Instant::now();
        let (other, device, _, _) = arena.newcomer(false)?;
        let front = device.connect(Shape::LINUX)?;
        slowest = slowest.max(started.elapsed());
        drop(front.close()?);
        arena.scene.destroy(&other)?;
    }
    let count = storm.join().expect("the storm does not panic")?;
    ensure!(count > 1000, "{count} writes are no storm");
    // A second, and what a machine with two busy processors adds.
    ensure!(
        slowest < Duration::from_secs(3),
        "another guest waited {slowest:?}"
    );
    arena.clear(&guest, before)?;
    arena.close()
}

/// A guest is destroyed at each step of its way.
#[test]
fn con_06_destroyed_at_every_step() -> anyhow::Result<()> {
    let mut arena = Arena::open()?;
    for step in 0..7 {
        let before = arena.neighbour.requests();
        let (guest, mut device, mut model, _) = arena.newcomer(false)?;
        match step {
            0 => {}
            1 => drop(device.limits()?),
            2 => {
                let queue = Queue::new(&guest.domain, &Shape::LINUX)?;
                device.offer(&keys::offer(&Shape::LINUX, &[queue.keys()]))?;
                device.switch(State::Initialised)?;
            }
            3 => device.switch(State::Closing)?,
            _ => {
                let mut front = device.connect(Shape::LINUX)?;
                Load::new(&mut front, &mut model, Plan::MIXED).fill(usize::MAX)?;
                match step {
                    4 => {}
                    5 => front.device().switch(State::Closing)?,
                    _ => front.device().switch(State::Closed)?,
                }
            }
        }
        let step = arena.clear(&guest, before);
        step.with_context(|| arena.scene.told())?;
    }
    arena.close()
}
