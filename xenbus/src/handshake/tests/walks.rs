//! The walks of protocol and toolstack, one by one.

use super::super::*;
use super::world::{Held, World, fresh};
use crate::snapshot::Hotplug;

use Action::{Adopt, Advertise, Connect, Disconnect, Fail, Forget, Publish, Reconfigure, Switch};
use State::{
    Closed, Closing, Connected, InitWait, Initialised, Initialising, Reconfigured, Reconfiguring,
};

#[test]
fn holds_init_wait_until_the_script_is_done() {
    let mut world = World::new(Connects::WhenInitialised);
    assert_eq!(world.look(), [Advertise]);
    for state in [Initialising, Initialised, Connected] {
        assert_eq!(
            world.frontend(state),
            [],
            "script pending, frontend at {state}"
        );
        assert!(world.seen.backend.is(InitWait));
    }
    world.seen.hotplug = Hotplug::Ready;
    assert_eq!(world.look(), [Connect]);
}

#[test]
fn a_network_frontend_is_met_at_connected_only() {
    let mut world = World::new(Connects::WhenConnected);
    world.look();
    world.seen.hotplug = Hotplug::Ready;
    assert_eq!(world.frontend(Initialised), []);
    assert_eq!(world.frontend(Connected), [Connect]);
}

#[test]
fn a_failed_script_closes_the_device_and_it_stays_closed() {
    let mut world = World::new(Connects::WhenInitialised);
    world.look();
    world.seen.hotplug = Hotplug::Failed;
    assert_eq!(
        world.look(),
        [Fail(Why::Hotplug), Switch(Closing), Switch(Closed)]
    );
    for _ in 0..3 {
        // The frontend never left Initialising: it does not start over.
        assert_eq!(world.look(), []);
    }
}

#[test]
fn an_ordinary_close_serves_until_the_frontend_is_closed() {
    let mut world = World::served();
    assert_eq!(world.frontend(Closing), [Switch(Closing)]);
    assert_eq!(world.held, Held::Serving);
    assert_eq!(world.frontend(Closed), [Disconnect]);
    assert_eq!(world.look(), [], "still draining");
    assert_eq!(world.disconnected(), [Switch(Closed)]);
    world.seen.backend = Seen::Gone;
    assert_eq!(world.look(), [Forget]);
}

#[test]
fn a_rebooted_guest_kernel_walks_the_backend_back() {
    let mut world = World::served();
    for round in 1..=3 {
        world.frontend(Closing);
        assert!(world.seen.backend.is(Closing));
        world.frontend(Closed);
        world.disconnected();
        assert!(world.seen.backend.is(Closed));
        assert_eq!(world.frontend(Initialising), [Advertise]);
        assert!(world.seen.backend.is(InitWait));
        assert_eq!(world.machine.reconnects(), round);
        assert_eq!(world.frontend(Initialised), [Connect]);
        world.answer(true);
        world.frontend(Connected);
        assert!(world.seen.backend.is(Connected));
    }
}

#[test]
fn a_device_that_was_replaced_unseen_is_no_frontend_that_starts_over() {
    let mut world = World::served();
    world.frontend(Closing);
    world.frontend(Closed);
    world.disconnected();
    (world.seen.backend, world.seen.frontend) = (Seen::At(Initialising), Seen::At(Initialising));
    assert!(world.machine.is_another(&world.seen));
    assert_eq!(world.look(), [Advertise]);
    assert_eq!(world.machine.reconnects(), 0);
    assert!(!world.machine.is_another(&world.seen), "it is known now");
}

#[test]
fn five_is_held_for_a_frontend_that_closes_before_it_connected() {
    let mut world = World::new(Connects::WhenInitialised);
    world.look();
    assert_eq!(world.frontend(Closing), [Switch(Closing)]);
    assert_eq!(world.look(), []);
    assert_eq!(world.frontend(Closed), [Switch(Closed)]);
    assert_eq!(world.frontend(Initialising), [Advertise]);
}

#[test]
fn a_guest_that_crashed_and_started_over_meanwhile_is_walked_through() {
    let mut world = World::served();
    assert_eq!(world.frontend(Initialising), [Switch(Closing), Disconnect]);
    assert_eq!(world.disconnected(), [Switch(Closed)]);
    assert_eq!(world.look(), [Advertise]);
}

#[test]
fn detaching_an_idle_device_needs_no_frontend() {
    for frontend in [
        Seen::At(Initialising),
        Seen::At(Initialised),
        Seen::Gone,
        Seen::At(State::Unknown),
    ] {
        let mut world = World::new(Connects::WhenInitialised);
        world.look();
        (world.seen.online, world.seen.backend, world.seen.frontend) =
            (false, Seen::At(Closing), frontend);
        assert_eq!(world.look(), [Switch(Closed)], "{frontend:?}");
        world.seen.backend = Seen::Gone;
        assert_eq!(world.look(), [Forget]);
    }
}

#[test]
fn detaching_a_device_in_use_waits_for_the_frontend_to_close_or_to_vanish() {
    for end in [Seen::At(Closed), Seen::Gone, Seen::At(State::Unknown)] {
        let mut world = World::served();
        (world.seen.online, world.seen.backend) = (false, Seen::At(Closing));
        assert_eq!(world.look(), []);
        assert_eq!(
            world.look(),
            [],
            "a mounted disk stays in use for as long as it takes"
        );
        assert_eq!(world.frontend(Closing), []);
        world.seen.frontend = end;
        assert_eq!(world.look(), [Disconnect]);
        assert_eq!(world.disconnected(), [Switch(Closed)]);
        assert_eq!(world.look(), []);
    }
}

#[test]
fn sto_03_a_dead_guest_is_let_go_of_whatever_its_nodes_say() {
    let mut world = World::served();
    world.seen.alive = false;
    assert_eq!(world.look(), [Switch(Closing), Disconnect]);
    assert_eq!(world.disconnected(), [Switch(Closed)]);
}

#[test]
fn a_removed_directory_is_never_written_to() {
    let mut world = World::served();
    world.seen.backend = Seen::Gone;
    assert_eq!(world.look(), [Disconnect]);
    assert_eq!(world.disconnected(), [Forget]);
    for event in [
        Event::Look,
        Event::Connected,
        Event::Failed,
        Event::Faulted,
        Event::Disconnected,
    ] {
        world.seen = fresh();
        assert_eq!(world.tell(event), [], "{event:?}");
    }
}

#[test]
fn con_03_a_directory_replaced_while_in_use_is_a_new_device() {
    let mut world = World::served();
    world.seen = fresh();
    assert_eq!(world.look(), [Disconnect]);
    assert_eq!(world.disconnected(), [Advertise]);
}

#[test]
fn a_fault_of_the_guest_closes_without_asking_it() {
    let mut world = World::served();
    assert_eq!(
        world.tell(Event::Faulted),
        [Fail(Why::Device), Switch(Closing), Disconnect]
    );
    assert_eq!(world.disconnected(), [Switch(Closed)]);
    assert_eq!(world.look(), [], "the frontend is still at 4");
    world.frontend(Closing);
    world.frontend(Closed);
    assert_eq!(world.frontend(Initialising), [Advertise]);
}

#[test]
fn a_dead_worker_closes_the_device() {
    let mut world = World::served();
    world.held = Held::Nothing;
    assert_eq!(
        world.tell(Event::Failed),
        [Fail(Why::Device), Switch(Closing), Switch(Closed)]
    );
}

#[test]
fn after_a_restart_of_ours_a_device_in_use_is_adopted_silently() {
    for (backend, frontend, adopted) in [
        (Connected, Connected, true),
        (Connected, Initialised, true),
        (Connected, Closing, true),
        (Closing, Closing, true),
        (Closing, Connected, true),
        (Connected, Closed, false),
        (Connected, Initialising, false),
        (Closing, Initialised, false),
    ] {
        let mut world = World::new(Connects::WhenInitialised);
        (world.seen.backend, world.seen.frontend) = (Seen::At(backend), Seen::At(frontend));
        let actions = world.look();
        assert_eq!(
            actions == [Adopt],
            adopted,
            "{backend} {frontend}: {actions:?}"
        );
        if adopted && (backend, frontend) != (Connected, Closing) {
            world.answer(true);
            assert!(world.seen.backend.is(backend), "nothing is written");
            assert!(matches!(
                world.machine.phase(),
                Phase::Serving | Phase::Closing { serving: true }
            ));
        }
    }
}

#[test]
fn after_a_restart_of_ours_waiting_and_closed_devices_go_on() {
    let mut world = World::new(Connects::WhenInitialised);
    (world.seen.backend, world.seen.frontend) = (Seen::At(InitWait), Seen::At(Initialised));
    world.seen.hotplug = Hotplug::Ready;
    assert_eq!(world.look(), [Advertise]);
    assert_eq!(world.look(), [Connect]);
    let mut world = World::new(Connects::WhenInitialised);
    world.seen.backend = Seen::At(Closed);
    assert_eq!(
        world.look(),
        [Advertise],
        "its kernel may be waiting for InitWait just now"
    );
}

#[test]
fn a_lost_write_is_done_again() {
    let mut world = World::new(Connects::WhenInitialised);
    world.deaf = true;
    assert_eq!(world.look(), [Advertise]);
    world.deaf = false;
    assert_eq!(world.look(), [Advertise]);
    let mut world = World::served();
    world.seen.backend = Seen::At(InitWait);
    assert_eq!(world.look(), [Publish]);
}

#[test]
fn a_lost_write_on_the_way_out_of_closed_is_done_again() {
    let mut world = World::served();
    world.frontend(Closing);
    world.frontend(Closed);
    world.disconnected();
    world.deaf = true;
    assert_eq!(world.frontend(Initialising), [Advertise]);
    world.deaf = false;
    assert_eq!(world.look(), [Advertise]);
    assert!(world.seen.backend.is(InitWait));
}

#[test]
fn a_frontend_that_leaves_while_it_is_being_connected_is_let_go_of() {
    for frontend in [Initialising, Closing, Closed, State::Unknown] {
        let mut world = World::new(Connects::WhenInitialised);
        world.look();
        world.seen.hotplug = Hotplug::Ready;
        assert_eq!(world.frontend(Initialised), [Connect]);
        assert_eq!(world.frontend(frontend), [Switch(Closing), Disconnect]);
        assert_eq!(world.tell(Event::Connected), [], "too late");
        let closed = world.disconnected();
        // A frontend at 5 waits to see our 5; any other is done with us.
        let expected = if frontend == Closing {
            Switch(Closing)
        } else {
            Switch(Closed)
        };
        assert_eq!(closed, [expected], "{frontend}");
    }
}

#[test]
fn reconfiguring_a_block_device_is_ignored() {
    let mut world = World::served();
    assert_eq!(world.frontend(Reconfiguring), []);
    assert_eq!(world.held, Held::Serving);
}

#[test]
fn a_network_frontend_is_reconfigured_as_often_as_it_asks() {
    let mut world = World::served_at(Connects::WhenConnected);
    for _ in 0..3 {
        assert_eq!(world.frontend(Reconfiguring), [Reconfigure]);
        assert!(world.seen.backend.is(Reconfigured));
        assert_eq!(world.look(), [], "answered once");
        assert_eq!(world.frontend(Connected), [Switch(Connected)]);
        assert_eq!(world.look(), []);
    }
    // What could not be taken over, or written, is asked for again.
    world.deaf = true;
    assert_eq!(world.frontend(Reconfiguring), [Reconfigure]);
    assert_eq!(world.look(), [Reconfigure]);
}

#[test]
fn a_reconfigured_backend_is_a_connected_one() {
    let reconfigured = || {
        let mut world = World::served_at(Connects::WhenConnected);
        world.frontend(Reconfiguring);
        world
    };
    let mut world = reconfigured();
    assert_eq!(world.frontend(Closing), [Switch(Closing)]);
    assert_eq!(world.held, Held::Serving);
    let mut world = reconfigured();
    assert_eq!(world.frontend(Closed), [Switch(Closing), Disconnect]);
    let mut world = reconfigured();
    world.held = Held::Nothing;
    world.start_over();
    assert_eq!(world.look(), [Adopt], "a restart of ours");
    assert!(world.answer(true));
    assert_eq!(world.frontend(Connected), [Switch(Connected)]);
}

#[test]
fn reconfigured_is_no_state_for_a_block_backend() {
    let mut world = World::served();
    world.seen.backend = Seen::At(Reconfigured);
    let why = Why::BackendState(Seen::At(Reconfigured));
    assert_eq!(world.look(), [Fail(why), Switch(Closing), Disconnect]);
}

#[test]
fn sto_06_a_device_paired_with_another_place_is_refused() {
    let mut world = World::new(Connects::WhenInitialised);
    world.seen.paired = false;
    assert_eq!(world.look(), [Fail(Why::Unpaired), Switch(Closed)]);
}
