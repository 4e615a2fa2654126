//! What a guest can and cannot do through its nodes.

use std::time::{Duration, Instant};

use xenbus::{
    BackendPath, BlockOffer, Errno, Hotplug, OfferError, OfferLimits, Permissions, Seen, Snapshot,
    State, Store, StoreError, Switched, switch_state,
};

use crate::support::{DISK, DOM0, Machine, SOON, attach};

const LIMITS: OfferLimits = OfferLimits {
    queues: 4,
    ring_page_order: 4,
};

fn refusal<T>(outcome: Result<T, StoreError>) -> Option<Errno> {
    outcome.err().and_then(|error| error.errno().cloned())
}

#[test]
fn sto_05_a_guest_writes_its_own_nodes_and_no_others() {
    let mut machine = Machine::new();
    let mut guest = machine.guest_with_disk(&DISK);
    guest.write(&DISK.frontend_key("ring-ref"), "8").unwrap();
    guest
        .write(&DISK.frontend_key("queue-0/ring-ref"), "9")
        .unwrap();
    assert_eq!(guest.read(&DISK.key("state")), Ok(Some(b"1".to_vec())));
    for forbidden in [
        DISK.key("state"),
        DISK.key("new"),
        "/tool/mine".to_owned(),
        "/new".to_owned(),
    ] {
        assert_eq!(
            refusal(guest.write(&forbidden, "")),
            Some(Errno::Access),
            "{forbidden}"
        );
        assert_eq!(
            refusal(guest.remove(&forbidden)),
            Some(Errno::Access),
            "{forbidden}"
        );
    }
    let taken = Permissions::private(DISK.frontend);
    assert_eq!(
        refusal(guest.set_permissions(&DISK.key("state"), &taken)),
        Some(Errno::Access)
    );
    let given = Permissions::private(DOM0);
    let own = DISK.frontend_key("state");
    assert_eq!(
        refusal(guest.set_permissions(&own, &given)),
        Some(Errno::Access),
        "XSA-322"
    );
    assert_eq!(
        refusal(guest.read("/local/domain/0/domid")),
        Some(Errno::Access)
    );
    assert_eq!(
        refusal(guest.watch("@releaseDomain", "t")),
        Some(Errno::Access)
    );

    let mut dom0 = machine.dom0();
    let backend = dom0.permissions(&DISK.key("state")).unwrap().unwrap();
    assert!(!backend.writable_by_others_than(DOM0));
    let frontend = dom0
        .permissions(&DISK.frontend_key("ring-ref"))
        .unwrap()
        .unwrap();
    assert!(frontend.writable_by_others_than(DOM0));
    machine.assert_no_violations();
}

#[test]
fn a_guest_has_quotas() {
    let mut machine = Machine::new();
    let mut guest = machine.guest_with_disk(&DISK);
    let many = (0..2000).map(|n| guest.write(&DISK.frontend_key(&n.to_string()), ""));
    assert_eq!(
        many.map(refusal).find(Option::is_some),
        Some(Some(Errno::NoSpace))
    );
    assert_eq!(
        refusal(guest.write(&DISK.frontend_key("0"), [b'x'; 2049])),
        Some(Errno::NoSpace)
    );
    let watches = (0..200).map(|n| guest.watch(&DISK.frontend_path(), &n.to_string()));
    assert_eq!(watches.map(refusal).filter(Option::is_none).count(), 128);
}

#[test]
fn a_snapshot_shows_what_is() {
    let mut machine = Machine::new();
    let mut guest = machine.guest_with_disk(&DISK);
    let mut dom0 = machine.dom0();
    let fresh = Snapshot {
        backend: Seen::At(State::Initialising),
        online: true,
        hotplug: Hotplug::Pending,
        frontend: Seen::At(State::Initialising),
        alive: true,
        paired: true,
    };
    assert_eq!(Snapshot::read(&mut dom0, &DISK), Ok(fresh));
    guest.write(&DISK.frontend_key("state"), "6 or so").unwrap();
    guest.write(&DISK.frontend_key("backend-id"), "5").unwrap();
    dom0.write(&DISK.key("hotplug-status"), "connected")
        .unwrap();
    dom0.write(&DISK.key("online"), "0").unwrap();
    let seen = Snapshot {
        online: false,
        hotplug: Hotplug::Ready,
        frontend: Seen::Garbled,
        ..fresh
    };
    assert_eq!(Snapshot::read(&mut dom0, &DISK), Ok(seen));
    for (status, hotplug) in [
        ("", Hotplug::Pending),
        ("connected\n", Hotplug::Pending),
        ("error", Hotplug::Failed),
        ("busy", Hotplug::Failed),
    ] {
        dom0.write(&DISK.key("hotplug-status"), status).unwrap();
        assert_eq!(
            Snapshot::read(&mut dom0, &DISK).unwrap().hotplug,
            hotplug,
            "{status:?}"
        );
    }
    // STO-06: another domain's directory is not this device's frontend, whatever the key says.
    dom0.write(&DISK.key("frontend"), "/local/domain/9/device/vbd/51712")
        .unwrap();
    assert!(!Snapshot::read(&mut dom0, &DISK).unwrap().paired);
    // STO-03: the nodes of a dead domain stay, and say that it is connected.
    machine.control.release(DISK.frontend).unwrap();
    assert!(!Snapshot::read(&mut dom0, &DISK).unwrap().alive);
    assert_eq!(guest.read(&DISK.key("state")), Err(StoreError::Lost));
    dom0.remove(&DISK.to_string()).unwrap();
    dom0.remove("/local/domain/7").unwrap();
    let gone = Snapshot::read(&mut dom0, &DISK).unwrap();
    assert_eq!((gone.backend, gone.frontend), (Seen::Gone, Seen::Gone));
}

#[test]
fn con_07_the_death_of_a_domain_is_announced() {
    let mut machine = Machine::new();
    let mut dom0 = machine.dom0();
    for special in ["@introduceDomain", "@releaseDomain"] {
        dom0.watch(special, "t").unwrap();
        assert_eq!(dom0.wait_event(SOON).unwrap().unwrap().path, special);
    }
    machine.control.introduce(DISK.frontend).unwrap();
    assert_eq!(
        dom0.wait_event(SOON).unwrap().unwrap().path,
        "@introduceDomain"
    );
    assert_eq!(dom0.is_introduced(DISK.frontend), Ok(true));
    machine.control.release(DISK.frontend).unwrap();
    assert_eq!(
        dom0.wait_event(SOON).unwrap().unwrap().path,
        "@releaseDomain"
    );
    assert_eq!(dom0.is_introduced(DISK.frontend), Ok(false));
}

#[test]
fn an_offer_is_read_from_the_guests_own_directory() {
    let mut machine = Machine::new();
    let mut guest = machine.guest_with_disk(&DISK);
    let mut dom0 = machine.dom0();
    let missing = BlockOffer::read(&mut dom0, &DISK, LIMITS).unwrap_err();
    assert_eq!(missing.to_string(), "frontend's ring-ref is missing");
    let keys = [
        ("protocol", "x86_64-abi"),
        ("multi-queue-num-queues", "2"),
        ("ring-page-order", "1"),
        ("queue-0/ring-ref0", "8"),
        ("queue-0/ring-ref1", "9"),
        ("queue-0/event-channel", "3"),
        ("queue-1/ring-ref0", "10"),
        ("queue-1/ring-ref1", "11"),
        ("queue-1/event-channel", "4"),
    ];
    guest
        .transaction(|tx| {
            keys.iter()
                .try_for_each(|(key, value)| tx.write(&DISK.frontend_key(key), value))
        })
        .unwrap();
    let offer = BlockOffer::read(&mut dom0, &DISK, LIMITS).unwrap();
    let rings = offer.rings.iter().map(|ring| {
        let refs: Vec<u32> = ring.refs.iter().map(|gref| gref.raw()).collect();
        (refs, ring.port)
    });
    assert_eq!(
        rings.collect::<Vec<_>>(),
        [(vec![8, 9], 3), (vec![10, 11], 4)]
    );
    assert_eq!(offer.protocol.as_deref(), Some("x86_64-abi"));
    guest
        .write(&DISK.frontend_key("queue-1/event-channel"), [0xff; 2048])
        .unwrap();
    match BlockOffer::read(&mut dom0, &DISK, LIMITS) {
        Err(OfferError::Guest(bad)) => assert_eq!(bad.key, "queue-1/event-channel"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_offer_of_order_0_may_use_the_plain_name() {
    let mut machine = Machine::new();
    let mut guest = machine.guest_with_disk(&DISK);
    for (key, value) in [
        ("ring-page-order", "0"),
        ("ring-ref", "8"),
        ("event-channel", "3"),
    ] {
        guest.write(&DISK.frontend_key(key), value).unwrap();
    }
    let offer = BlockOffer::read(&mut machine.dom0(), &DISK, LIMITS).unwrap();
    assert_eq!(offer.rings[0].refs[0].raw(), 8);
}

/// CON-05: one guest writes as fast as it can to what is watched. Other calls go on, and what waits
/// to be taken stays small.
#[test]
fn con_05_a_guest_that_floods_its_nodes_delays_nobody() {
    let mut machine = Machine::new();
    let mut guest = machine.guest_with_disk(&DISK);
    let other = BackendPath {
        devid: 51_728,
        ..DISK
    };
    let mut dom0 = machine.dom0();
    attach(&mut dom0, &other);
    dom0.watch(&DISK.frontend_path(), "flooded").unwrap();
    let flood = std::thread::spawn(move || {
        for n in 0..20_000_u32 {
            let key = DISK.frontend_key(&format!("junk-{}", n % 700));
            guest.write(&key, n.to_string()).unwrap();
            guest.write(&DISK.frontend_key("state"), "1").unwrap();
        }
    });
    let mut rounds = 0;
    let mut slowest = Duration::ZERO;
    while !flood.is_finished() || rounds == 0 {
        let start = Instant::now();
        for state in [State::InitWait, State::Initialising] {
            let written = switch_state(&mut dom0, &other, state);
            assert_eq!(written, Ok(Switched::Written));
        }
        slowest = slowest.max(start.elapsed());
        rounds += 1;
    }
    flood.join().unwrap();
    assert!(
        slowest < Duration::from_secs(1),
        "{slowest:?} in {rounds} rounds"
    );
    dom0.poll_events().unwrap();
    let waiting = std::iter::from_fn(|| dom0.next_event()).count();
    assert!(waiting <= xenbus::PER_WATCH + 1, "{waiting} events waited");
}

#[test]
fn a_resurrected_directory_is_a_violation() {
    let mut machine = Machine::new();
    let mut dom0 = machine.dom0();
    attach(&mut dom0, &DISK);
    dom0.remove(&DISK.to_string()).unwrap();
    attach(&mut dom0, &DISK);
    machine.assert_no_violations();
    dom0.remove(&DISK.to_string()).unwrap();
    assert_eq!(
        switch_state(&mut dom0, &DISK, State::Closed),
        Ok(Switched::Gone)
    );
    machine.assert_no_violations();
    dom0.write(&DISK.key("state"), "6").unwrap();
    assert_eq!(
        machine.control.violations().unwrap(),
        ["resurrected node /local/domain/0/backend/vbd/7/51712 with state"]
    );
}

/// The directory is removed between our look and our write, thousands of times.
#[test]
fn a_removal_is_never_undone_by_a_switch_that_comes_late() {
    let mut machine = Machine::new();
    let mut store = machine.dom0();
    let mut toolstack: Store = machine.dom0();
    let rounds = 300;
    let remover = std::thread::spawn(move || {
        for _ in 0..rounds {
            toolstack
                .transaction(|tx| {
                    tx.write(&DISK.key("frontend"), DISK.frontend_path())?;
                    tx.write(&DISK.key("state"), State::Initialising.value())
                })
                .unwrap();
            toolstack.remove(&DISK.to_string()).unwrap();
        }
    });
    let mut outcomes = [0_u32; 3];
    for n in 0_u32.. {
        let state = if n.is_multiple_of(2) {
            State::InitWait
        } else {
            State::Closing
        };
        match switch_state(&mut store, &DISK, state) {
            Ok(Switched::Written) => outcomes[0] += 1,
            Ok(Switched::Already) => outcomes[1] += 1,
            Ok(Switched::Gone) => outcomes[2] += 1,
            Err(StoreError::Contended(_)) => {}
            Err(error) => panic!("{error}"),
        }
        if remover.is_finished() {
            break;
        }
    }
    remover.join().unwrap();
    assert!(
        outcomes[2] > 0,
        "never met a removed directory: {outcomes:?}"
    );
    machine.assert_no_violations();
}
