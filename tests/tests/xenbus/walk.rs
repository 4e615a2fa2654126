//! The whole handshake between a toolstack, a guest and a backend, each with a connection of its own.

use std::time::Instant;

use xenbus::{
    Action, BlockOffer, Connects, ErrorNode, Event, Handshake, OfferLimits, Phase, Snapshot, State,
    Store, Switched, switch_state, switch_state_with,
};

use crate::support::{DISK, Machine, SOON, attach};

/// A backend without a data path: it does what the handshake says, and its device always works.
struct Backend {
    store: Store,
    handshake: Handshake,
    error: ErrorNode,
    /// The rings that are served.
    serving: usize,
    log: Vec<Action>,
}

impl Backend {
    fn new(machine: &Machine) -> Self {
        let mut store = machine.dom0();
        for path in [
            DISK.to_string(),
            DISK.frontend_key("state"),
            "@releaseDomain".to_owned(),
        ] {
            store.watch(&path, "disk").unwrap();
        }
        Self {
            store,
            handshake: Handshake::new(Connects::WhenInitialised),
            error: ErrorNode::new(&DISK),
            serving: 0,
            log: vec![],
        }
    }

    /// Works until `done`, as the watches say.
    fn until(&mut self, what: &str, done: impl Fn(&mut Self) -> bool) {
        let deadline = Instant::now() + SOON;
        while !done(self) {
            let left = deadline.saturating_duration_since(Instant::now());
            let event = self.store.wait_event(left).unwrap();
            assert!(
                event.is_some(),
                "never came to {what}: {:?}, {:?}",
                self.handshake,
                self.log
            );
            self.decide(Event::Look);
        }
    }

    fn until_state(&mut self, state: State) {
        self.until(&state.to_string(), |backend| {
            backend.store.read(&DISK.key("state")).unwrap() == Some(state.value().into_bytes())
        });
    }

    fn decide(&mut self, event: Event) {
        let seen = Snapshot::read(&mut self.store, &DISK).unwrap();
        let (handshake, actions) = self.handshake.decide(event, &seen);
        self.handshake = handshake;
        for action in actions {
            self.log.push(action);
            self.execute(action);
        }
    }

    fn execute(&mut self, action: Action) {
        let one = |key: &'static str, value: &str| [(key, value.to_owned())];
        match action {
            Action::Advertise => {
                let features = one("multi-queue-max-queues", "4");
                let written = switch_state_with(&mut self.store, &DISK, &features, State::InitWait);
                assert_ne!(written, Ok(Switched::Gone));
            }
            Action::Publish => {
                let keys = one("sectors", "2048");
                let written = switch_state_with(&mut self.store, &DISK, &keys, State::Connected);
                assert_ne!(written, Ok(Switched::Gone));
            }
            Action::Switch(state) => drop(switch_state(&mut self.store, &DISK, state).unwrap()),
            Action::Connect | Action::Adopt => {
                let limits = OfferLimits {
                    queues: 4,
                    ring_page_order: 4,
                };
                match BlockOffer::read(&mut self.store, &DISK, limits) {
                    Ok(offer) => {
                        self.serving = offer.rings.len();
                        self.decide(Event::Connected);
                    }
                    Err(error) => {
                        self.error
                            .write(&mut self.store, 22, &error.to_string())
                            .unwrap();
                        self.decide(Event::Failed);
                    }
                }
            }
            Action::Disconnect => {
                self.serving = 0;
                self.decide(Event::Disconnected);
            }
            Action::Reconfigure => panic!("a block device is not reconfigured"),
            Action::Fail(_) | Action::Forget => {}
        }
    }
}

fn offer(guest: &mut Store, port: &str) {
    let nodes = [("ring-ref", "8"), ("event-channel", port), ("state", "3")];
    guest
        .transaction(|tx| {
            nodes
                .iter()
                .try_for_each(|(key, value)| tx.write(&DISK.frontend_key(key), value))
        })
        .unwrap();
}

fn set(store: &mut Store, path: &str, state: State) {
    store.write(path, state.value()).unwrap();
}

fn connected(machine: &mut Machine) -> (Store, Backend) {
    let mut guest = machine.guest_with_disk(&DISK);
    let mut backend = Backend::new(machine);
    backend.until_state(State::InitWait);
    offer(&mut guest, "3");
    machine
        .dom0()
        .write(&DISK.key("hotplug-status"), "connected")
        .unwrap();
    backend.until_state(State::Connected);
    set(&mut guest, &DISK.frontend_key("state"), State::Connected);
    backend.until("serving", |backend| backend.serving == 1);
    (guest, backend)
}

/// As libxl does it: `online` and `state` at once.
fn detach(toolstack: &mut Store) {
    let written = toolstack.transaction(|tx| {
        tx.write(&DISK.key("online"), "0")?;
        tx.write(&DISK.key("state"), State::Closing.value())
    });
    assert_eq!(written, Ok(()));
}

#[test]
fn attach_use_detach() {
    let mut machine = Machine::new();
    let (mut guest, mut backend) = connected(&mut machine);
    let mut toolstack = machine.dom0();
    detach(&mut toolstack);
    backend.until("closing", |b| {
        b.handshake.phase() == Phase::Closing { serving: true }
    });
    assert_eq!(backend.serving, 1, "the guest may have requests under way");
    set(&mut guest, &DISK.frontend_key("state"), State::Closing);
    set(&mut guest, &DISK.frontend_key("state"), State::Closed);
    backend.until_state(State::Closed);
    assert_eq!(backend.serving, 0);
    toolstack.remove(&DISK.to_string()).unwrap();
    backend.until("the end", |b| b.handshake.phase() == Phase::Forgotten);
    assert_eq!(toolstack.read(&DISK.to_string()), Ok(None));
    machine.assert_no_violations();
}

#[test]
fn detach_before_the_guest_has_a_driver() {
    let mut machine = Machine::new();
    let mut guest = machine.guest_with_disk(&DISK);
    let mut backend = Backend::new(&machine);
    backend.until_state(State::InitWait);
    detach(&mut machine.dom0());
    backend.until_state(State::Closed);
    assert_eq!(guest.read(&DISK.key("state")), Ok(Some(b"6".to_vec())));
    machine.assert_no_violations();
}

#[test]
fn con_08_a_rebooted_kernel_connects_again_with_other_rings() {
    let mut machine = Machine::new();
    let (mut guest, mut backend) = connected(&mut machine);
    let state = DISK.frontend_key("state");
    for (theirs, ours) in [
        (State::Closing, State::Closing),
        (State::Closed, State::Closed),
        (State::Initialising, State::InitWait),
    ] {
        set(&mut guest, &state, theirs);
        backend.until_state(ours);
    }
    assert_eq!(backend.serving, 0);
    guest.remove(&DISK.frontend_key("ring-ref")).unwrap();
    let keys = [
        ("multi-queue-num-queues", "2"),
        ("queue-0/ring-ref", "20"),
        ("queue-0/event-channel", "21"),
        ("queue-1/ring-ref", "22"),
        ("queue-1/event-channel", "23"),
        ("state", "3"),
    ];
    for (key, value) in keys {
        guest.write(&DISK.frontend_key(key), value).unwrap();
    }
    backend.until_state(State::Connected);
    assert_eq!(backend.serving, 2);
    machine.assert_no_violations();
}

#[test]
fn sto_03_a_destroyed_guest_is_let_go_of() {
    let mut machine = Machine::new();
    let (_guest, mut backend) = connected(&mut machine);
    machine.control.release(DISK.frontend).unwrap();
    backend.until_state(State::Closed);
    assert_eq!(backend.serving, 0);
    let mut toolstack = machine.dom0();
    toolstack.remove("/local/domain/7").unwrap();
    toolstack.remove(&DISK.to_string()).unwrap();
    backend.until("the end", |b| b.handshake.phase() == Phase::Forgotten);
    machine.assert_no_violations();
}

#[test]
fn con_04_a_bad_offer_closes_the_device_and_says_why() {
    let mut machine = Machine::new();
    let mut guest = machine.guest_with_disk(&DISK);
    let mut backend = Backend::new(&machine);
    machine
        .dom0()
        .write(&DISK.key("hotplug-status"), "connected")
        .unwrap();
    backend.until_state(State::InitWait);
    offer(&mut guest, "0");
    backend.until_state(State::Closed);
    let error = machine.dom0().read(&backend.error.path()).unwrap();
    assert_eq!(
        error.as_deref(),
        Some(&b"22 frontend's event-channel is 0"[..])
    );
    // A better driver gets another chance.
    set(&mut guest, &DISK.frontend_key("state"), State::Closed);
    backend.until("looked", |b| {
        b.handshake.phase() == Phase::Closed { armed: true }
    });
    set(&mut guest, &DISK.frontend_key("state"), State::Initialising);
    backend.until_state(State::InitWait);
    offer(&mut guest, "3");
    backend.until_state(State::Connected);
    machine.assert_no_violations();
}

#[test]
fn con_03_a_directory_removed_while_in_use_and_made_again_is_a_new_device() {
    let mut machine = Machine::new();
    let (mut guest, mut backend) = connected(&mut machine);
    let mut toolstack = machine.dom0();
    toolstack.remove(&DISK.to_string()).unwrap();
    set(&mut guest, &DISK.frontend_key("state"), State::Initialising);
    attach(&mut toolstack, &DISK);
    // Whatever of it was noticed, the old rings are let go of and nothing is written in between.
    backend.until("let go", |b| b.serving == 0);
    if backend.handshake.phase() == Phase::Forgotten {
        backend.handshake = Handshake::new(Connects::WhenInitialised);
        backend.decide(Event::Look);
    }
    backend.until_state(State::InitWait);
    machine.assert_no_violations();
}
