//! CON: guests that connect, disconnect, write and die as no guest should.

use anyhow::{Context, ensure};
use pv_tests::frontend::Device;
use pv_tests::frontend::hostile::nics::{NetMove, moves, offers};
use pv_tests::frontend::hostile::walks;
use pv_tests::frontend::netfront::{Control, NetQueue, NetShape, Netfront, offer};
use xenbus::State;

use crate::arena::Arena;

/// One event channel, whose key is tried, too.
const SHAPE: NetShape = NetShape {
    split: false,
    ..NetShape::LINUX
};

#[test]
fn con_01_connections_come_and_go_with_frames_under_way() -> anyhow::Result<()> {
    let mut arena = Arena::open()?;
    for round in 0..30_u32 {
        let shape = NetShape {
            queues: 1 + round % 4,
            split: round.is_multiple_of(2),
            ..NetShape::LINUX
        };
        let (newcomer, mut wire) = arena.honest(shape)?;
        wire.fill()?;
        match round % 3 {
            0 => drop(wire.front.vanish()),
            1 => drop(wire.front.close()?),
            _ => drop(wire.front.kexec()?),
        }
        let step = arena.clear(&newcomer);
        step.with_context(|| arena.scene.told())?;
    }
    arena.close()
}

#[test]
fn con_02_a_broken_ring_is_torn_down_in_every_order() -> anyhow::Result<()> {
    let mut arena = Arena::open()?;
    let breaks: NetMove = moves()
        .into_iter()
        .find(|m| m.id == "RNG-01")
        .context("RNG-01")?;
    for order in 0..4 {
        let (newcomer, mut attacker) = arena.attacker(0)?;
        (breaks.play)(&mut attacker)?;
        let (domid, device) = (newcomer.guest.domid(), newcomer.line.device());
        match order {
            0 => arena.is_closed(&newcomer)?,
            1 => arena.scene.toolstack().ask_to_close(domid, device, true)?,
            2 => attacker.device().switch(State::Closed)?,
            _ => drop(newcomer.guest.domain.destroy()?),
        }
        if order == 3 {
            arena.scene.machine().xenstored()?.release(domid)?;
            arena.scene.toolstack().remove_devices(domid)?;
            arena.scene.wait_buried(domid)?;
            arena.is_buried(&newcomer)?;
        } else {
            arena.clear(&newcomer)?;
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
            let (newcomer, mut device) = if connected {
                let (newcomer, attacker) = arena.attacker(0)?;
                (newcomer, attacker.into_device())
            } else {
                arena.newcomer()?
            };
            walk(&mut device)?;
            let step = arena.clear(&newcomer);
            step.with_context(|| format!("connected {connected}\n{}", arena.scene.told()))?;
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
    let (newcomer, mut device) = arena.newcomer()?;
    Netfront::backend(&mut device)?;
    let queue = NetQueue::new(&newcomer.guest.domain, &SHAPE, false, 0)?;
    let control = Control::new(&newcomer.guest.domain, 0)?;
    device.offer(&[offer::offer(&SHAPE, &[queue.keys()]), control.keys()].concat())?;
    let path = format!("{}/{key}", device.frontend());
    device.store().write(&path, value)?;
    device.switch(State::Connected)?;
    arena.is_closed(&newcomer)?;
    arena.clear(&newcomer)
}

/// The two rings of a queue are one page, or its event channels are somebody else's.
#[test]
fn con_04_rings_and_channels_that_are_used_twice() -> anyhow::Result<()> {
    let mut arena = Arena::open()?;
    let (newcomer, mut device) = arena.newcomer()?;
    Netfront::backend(&mut device)?;
    let queue = NetQueue::new(&newcomer.guest.domain, &SHAPE, false, 0)?;
    let mut keys = queue.keys();
    keys.rx = keys.tx;
    device.offer(&offer::offer(&SHAPE, &[keys]))?;
    device.switch(State::Connected)?;
    arena.is_closed(&newcomer)?;
    arena.clear(&newcomer)?;

    let (newcomer, mut device) = arena.newcomer()?;
    Netfront::backend(&mut device)?;
    let queues = (0..2).map(|_| NetQueue::new(&newcomer.guest.domain, &SHAPE, true, 0));
    let queues = queues.collect::<anyhow::Result<Vec<_>>>()?;
    let mut keys: Vec<_> = queues.iter().map(NetQueue::keys).collect();
    keys[1].ports = keys[0].ports.clone();
    device.offer(&offer::offer(&SHAPE, &keys))?;
    device.switch(State::Connected)?;
    arena.is_closed(&newcomer)?;
    arena.clear(&newcomer)?;
    arena.close()
}

/// A guest is destroyed at each step of its way.
#[test]
fn con_06_destroyed_at_every_step() -> anyhow::Result<()> {
    let mut arena = Arena::open()?;
    for step in 0..7 {
        let newcomer = match step {
            0..4 => {
                let (newcomer, mut device) = arena.newcomer()?;
                match step {
                    0 => {}
                    1 => drop(Netfront::backend(&mut device)?),
                    2 => {
                        let backend = Netfront::backend(&mut device)?;
                        drop(Netfront::prepare(device, SHAPE, backend, 0)?);
                    }
                    _ => device.switch(State::Closing)?,
                }
                newcomer
            }
            _ => {
                let (newcomer, mut wire) = arena.honest(NetShape::LINUX)?;
                wire.fill()?;
                match step {
                    4 => {}
                    5 => wire.front.device().switch(State::Closing)?,
                    _ => wire.front.device().switch(State::Closed)?,
                }
                newcomer
            }
        };
        let cleared = arena.clear(&newcomer);
        cleared.with_context(|| format!("step {step}\n{}", arena.scene.told()))?;
    }
    arena.close()
}

/// What a guest writes while it is served is not an offer, and changes nothing.
#[test]
fn con_08_keys_that_are_rewritten_while_served() -> anyhow::Result<()> {
    let mut arena = Arena::open()?;
    let (newcomer, mut attacker) = arena.attacker(0)?;
    let frontend = attacker.device().frontend().to_owned();
    for key in ["tx-ring-ref", "rx-ring-ref", "event-channel", "feature-sg"] {
        for value in ["0", "77", "x"] {
            let path = format!("{frontend}/{key}");
            attacker.device().store().write(&path, value)?;
            attacker.is_served()?;
        }
    }
    let (domid, device) = (newcomer.guest.domid(), newcomer.line.device());
    let state = arena.scene.toolstack().backend_state(domid, device)?;
    ensure!(state == Some(State::Connected), "it is in {state:?}");
    arena.clear(&newcomer)?;
    arena.close()
}
