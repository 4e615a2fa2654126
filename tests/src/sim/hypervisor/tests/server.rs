//! Connections that misbehave or break off, and a machine that ends.

use super::*;

#[test]
fn a_killed_backend_gives_everything_back() {
    let bench = Bench::new();
    let domid = u32::from(bench.guest.domid().raw());
    let port = bench.guest.alloc_port().unwrap();
    let raw = Raw::connect(bench.machine.dir());
    let mapped = raw.ask(&[
        grant_wire::MAP,
        domid,
        1,
        bench.gref.raw(),
        bench.gref.raw(),
    ]);
    assert_eq!(mapped[0], 0);
    let bound = raw.ask(&[evtchn::sim::wire::BIND, domid, port.port().0]);
    assert_eq!(bound[0], 0);
    assert!(bench.guest.in_use(bench.gref));
    // As SIGKILL does: no goodbye.
    drop(raw);
    eventually(|| !bench.guest.in_use(bench.gref));
    assert_eq!(bench.control.abandoned_pages().unwrap(), 2);
    assert_eq!(bench.violations(), Vec::<String>::new());
    let mut successor = Evtchn::open_sim(bench.machine.dir()).unwrap();
    eventually(|| successor.bind(bench.guest.domid(), port.port()).is_ok());
    bench.map(&[bench.gref]).unwrap().unmap().unwrap();
}

#[test]
fn what_a_backend_does_wrong_is_kept() {
    let bench = Bench::new();
    let raw = Raw::connect(bench.machine.dir());
    let domid = u32::from(bench.guest.domid().raw());
    assert_eq!(raw.ask(&[grant_wire::UNMAP, 77]), [errno(Errno::NOENT)]);
    assert_eq!(
        raw.ask(&[evtchn::sim::wire::UNBIND, 78]),
        [errno(Errno::NOTCONN)]
    );
    raw.ask(&[grant_wire::MAP, domid, 1, bench.gref.raw()]);
    raw.say(&[grant_wire::BYE]);
    assert_eq!(raw.ask(&[0x999]), [errno(Errno::INVAL)]);
    let events = Evtchn::open_sim(bench.machine.dir()).unwrap();
    events.unmask(&[LocalPort::default()]).unwrap();
    eventually(|| bench.violations().len() == 5);
    assert_eq!(
        bench.violations(),
        [
            "unmapped 77, which is not mapped",
            "unbound port 78, which is not bound",
            "closed gntdev with 1 page(s) of domain 1 mapped",
            "request 0x999 makes no sense",
            "unmasked port 0, which is not bound",
        ]
    );
    assert!(!bench.guest.in_use(bench.gref));
}

#[test]
fn nothing_that_a_client_says_ends_the_machine() {
    let bench = Bench::new();
    let raw = Raw::connect(bench.machine.dir());
    let domid = u32::from(bench.guest.domid().raw());
    for operation in (0x100..0x110).chain(0x200..0x210).chain(0x300..0x310) {
        let silent = [evtchn::sim::wire::STRAY_UNMASK, grant_wire::BYE].contains(&operation);
        for rest in [
            &[][..],
            &[0],
            &[u32::MAX; 2],
            &[domid, u32::MAX, u32::MAX],
            &[domid, 1, 0, u32::MAX, 5],
            &[u32::MAX; 4000],
        ] {
            if silent || (operation == wire::DESTROY && rest == [domid]) {
                continue;
            }
            let mut request = vec![operation];
            request.extend(rest);
            assert!(!raw.ask(&request).is_empty());
        }
    }
    bench.map(&[bench.gref]).unwrap().unmap().unwrap();
}

#[test]
fn a_machine_that_ends_is_lost_not_silent() {
    let bench = Bench::new();
    let port = bench.guest.alloc_port().unwrap();
    let domid = bench.guest.domid();
    let mut events = Evtchn::open_sim(bench.machine.dir()).unwrap();
    let mapping = bench.map(&[bench.gref]).unwrap();
    let Bench {
        machine, grants, ..
    } = bench;
    let dir = machine.dir().to_path_buf();
    drop(machine);
    assert!(!dir.exists(), "a temporary machine leaves its directory");
    let mut room = [LocalPort::default(); 4];
    assert_eq!(events.pending(&mut room), Err(EvtchnError::Lost));
    assert_eq!(events.bind(domid, port.port()), Err(EvtchnError::Lost));
    assert_eq!(mapping.unmap(), Err(GrantError::Lost));
    assert_eq!(
        grants.failed_unmaps(),
        0,
        "an error that was returned is not counted"
    );
    assert!(matches!(
        Evtchn::open_sim(&dir),
        Err(EvtchnError::Open { .. })
    ));
    assert!(matches!(
        Gntdev::open_sim(&dir),
        Err(GrantError::Open { .. })
    ));
}
