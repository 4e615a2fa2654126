//! Everything that can be seen, and everything that can happen.

use proptest::prelude::*;

use super::super::*;
use super::world::{Held, World};
use crate::snapshot::Hotplug;

use Action::Forget;
use State::{Closed, Closing, Connected, InitWait, Initialising};

fn every_seen() -> impl Iterator<Item = Seen> + Clone {
    State::ALL
        .into_iter()
        .map(Seen::At)
        .chain([Seen::Gone, Seen::Garbled])
}

fn every_snapshot() -> impl Iterator<Item = Snapshot> {
    let flags = [false, true];
    let scripts = [Hotplug::Pending, Hotplug::Ready, Hotplug::Failed];
    every_seen().flat_map(move |backend| {
        every_seen().flat_map(move |frontend| {
            flags.into_iter().flat_map(move |online| {
                flags.into_iter().flat_map(move |alive| {
                    flags.into_iter().flat_map(move |paired| {
                        scripts.into_iter().map(move |hotplug| Snapshot {
                            backend,
                            online,
                            hotplug,
                            frontend,
                            alive,
                            paired,
                        })
                    })
                })
            })
        })
    })
}

fn every_phase() -> [(Phase, Held); 10] {
    [
        (Phase::Unseen, Held::Nothing),
        (Phase::Waiting, Held::Nothing),
        (Phase::Connecting { adopting: false }, Held::Connecting),
        (Phase::Connecting { adopting: true }, Held::Connecting),
        (Phase::Serving, Held::Serving),
        (Phase::Closing { serving: true }, Held::Serving),
        (Phase::Closing { serving: false }, Held::Nothing),
        (Phase::Draining, Held::Draining),
        (Phase::Closed { armed: false }, Held::Nothing),
        (Phase::Closed { armed: true }, Held::Nothing),
    ]
}

/// CON-03: every phase against every pair of states, and everything else that can be seen. Each
/// comes to rest while the store stands still, breaks no rule of [`World::execute`] on the way, and
/// ends in Closed or Forgotten once the toolstack asks for it.
#[test]
fn con_03_every_pair_of_states_comes_to_rest_and_can_be_ended() {
    let mut worlds = 0;
    for connects in [Connects::WhenInitialised, Connects::WhenConnected] {
        for (phase, held) in every_phase() {
            for seen in every_snapshot() {
                let machine = Handshake {
                    connects,
                    phase,
                    reconnects: 0,
                };
                let mut world = World {
                    machine,
                    seen,
                    held,
                    deaf: false,
                    did: vec![],
                };
                world.settle();
                let illegal = matches!(world.seen.frontend, Seen::Garbled | Seen::At(InitWait));
                if illegal && world.seen.alive {
                    assert_eq!(
                        world.held,
                        Held::Nothing,
                        "{phase:?} {seen:?} serves nonsense"
                    );
                }
                end(world);
                worlds += 1;
            }
        }
    }
    assert_eq!(worlds, 2 * 10 * 11 * 11 * 2 * 2 * 2 * 3);
}

/// Detach by force, then removal, as libxl does both.
fn end(mut world: World) {
    world.seen.online = false;
    if !matches!(world.seen.backend, Seen::Gone | Seen::At(Closed)) {
        world.seen.backend = Seen::At(Closing);
    }
    world.look();
    world.seen.frontend = Seen::Gone;
    world.settle();
    assert_eq!(world.held, Held::Nothing, "{world:?}");
    if world.seen.backend != Seen::Gone {
        assert!(
            world.seen.backend.is(Closed),
            "libxl waits for 6: {world:?}"
        );
    }
    world.seen.backend = Seen::Gone;
    world.settle();
    assert_eq!(world.machine.phase(), Phase::Forgotten);
    assert_eq!(
        world.did.iter().filter(|action| **action == Forget).count(),
        1
    );
}

/// One thing that can happen from outside.
#[derive(Clone, Debug)]
enum Move {
    Backend(Seen),
    Frontend(Seen),
    Online(bool),
    Hotplug(Hotplug),
    Alive(bool),
    Deaf(bool),
    Look,
    Answer(bool),
    Faulted,
    Died,
    Restart,
}

fn moves() -> impl Strategy<Value = Move> {
    let seen = || proptest::sample::select(every_seen().collect::<Vec<_>>());
    prop_oneof![
        2 => seen().prop_map(Move::Backend),
        6 => seen().prop_map(Move::Frontend),
        1 => any::<bool>().prop_map(Move::Online),
        2 => proptest::sample::select(vec![Hotplug::Pending, Hotplug::Ready, Hotplug::Failed]).prop_map(Move::Hotplug),
        1 => proptest::bool::weighted(0.9).prop_map(Move::Alive),
        1 => any::<bool>().prop_map(Move::Deaf),
        8 => Just(Move::Look),
        6 => proptest::bool::weighted(0.8).prop_map(Move::Answer),
        1 => Just(Move::Faulted),
        1 => Just(Move::Died),
        1 => Just(Move::Restart),
    ]
}

fn either_kind() -> impl Strategy<Value = Connects> {
    proptest::sample::select(vec![Connects::WhenInitialised, Connects::WhenConnected])
}

fn shake(world: &mut World, moves: Vec<Move>) {
    for step in moves {
        match step {
            Move::Backend(state) => world.seen.backend = state,
            Move::Frontend(state) => world.seen.frontend = state,
            Move::Online(online) => world.seen.online = online,
            Move::Hotplug(status) => world.seen.hotplug = status,
            Move::Alive(alive) => world.seen.alive = alive,
            Move::Deaf(deaf) => world.deaf = deaf,
            Move::Look => drop(world.look()),
            Move::Answer(fine) => drop(world.answer(fine)),
            Move::Faulted if world.held == Held::Serving => drop(world.tell(Event::Faulted)),
            Move::Died if world.held == Held::Serving => {
                world.held = Held::Nothing;
                world.tell(Event::Failed);
            }
            Move::Restart => {
                world.held = Held::Nothing;
                world.start_over();
            }
            Move::Faulted | Move::Died => {}
        }
    }
    world.deaf = false;
}

/// An honest guest whose kernel was just started: it walks the backend back and connects.
fn honest_start(world: &mut World) {
    world.settle();
    if world.seen.backend.is(Connected) {
        world.seen.frontend = Seen::At(Closing);
        world.settle();
        assert!(world.seen.backend.is(Closing), "{world:?}");
    }
    if world.seen.backend.is(Closing) {
        world.seen.frontend = Seen::At(Closed);
        world.settle();
        assert!(world.seen.backend.is(Closed), "{world:?}");
    }
    if world.seen.backend.is(Closed) {
        world.seen.frontend = Seen::At(Closed);
        world.settle();
        world.seen.frontend = Seen::At(Initialising);
        world.settle();
    }
    assert!(world.seen.backend.is(InitWait), "{world:?}");
    world.seen.frontend = Seen::At(Connected);
    world.settle();
    assert!(world.seen.backend.is(Connected), "{world:?}");
    assert_eq!(world.held, Held::Serving);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn con_03_no_sequence_wedges_the_device(
        connects in either_kind(),
        steps in proptest::collection::vec(moves(), 0..60),
    ) {
        let mut world = World::new(connects);
        shake(&mut world, steps);
        end(world);
    }

    #[test]
    fn con_03_an_honest_guest_gets_its_device_after_any_sequence(
        connects in either_kind(),
        steps in proptest::collection::vec(moves(), 0..60),
    ) {
        let mut world = World::new(connects);
        shake(&mut world, steps);
        // The toolstack and the script are fine again; a frontend that ran is where its kernel left it.
        (world.seen.online, world.seen.alive, world.seen.hotplug) = (true, true, Hotplug::Ready);
        if world.seen.backend != Seen::Gone {
            world.seen.frontend = Seen::At(Connected);
            honest_start(&mut world);
        }
    }
}
