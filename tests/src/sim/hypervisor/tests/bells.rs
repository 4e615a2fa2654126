//! What a thread sleeps on, with a guest at the other end.

use evtchn::Bell;

use super::*;

/// Does it wake its thread within a moment?
fn rings(bell: &Bell) -> bool {
    let fd = bell.wait_fd();
    let mut polled = [rustix::event::PollFd::new(
        &fd,
        rustix::event::PollFlags::IN,
    )];
    let limit = rustix::event::Timespec::try_from(Duration::from_millis(20)).unwrap();
    rustix::event::poll(&mut polled, Some(&limit)).unwrap() > 0
}

#[test]
fn a_bell_is_silent_until_it_is_unmasked_and_loses_nothing() {
    let bench = Bench::new();
    let ports = [(); 2].map(|()| bench.guest.alloc_port().unwrap());
    let events = || Evtchn::open_sim(bench.machine.dir()).unwrap();
    let named = [ports[0].port(), ports[1].port()];
    let mut bell = Bell::bind(events(), bench.guest.domid(), &named).unwrap();
    assert_eq!(bell.ports().len(), 2);
    // A port is pending when it is bound.
    assert!(rings(&bell));
    bell.drain().unwrap();
    bell.note_event(Instant::now);
    ports[1].notify().unwrap();
    assert!(!rings(&bell), "it is masked");
    bell.unmask(Instant::now).unwrap();
    assert!(rings(&bell), "what rang meanwhile");
    bell.unbind().unwrap();

    // One for both rings of a queue.
    let named = [ports[0].port(); 2];
    let bell = Bell::bind(events(), bench.guest.domid(), &named).unwrap();
    assert_eq!(bell.ports().len(), 1);
}

#[test]
fn rng_05_a_bell_that_rings_for_nothing_is_silent_for_longer_and_longer() {
    let bench = Bench::new();
    let port = bench.guest.alloc_port().unwrap();
    let events = Evtchn::open_sim(bench.machine.dir()).unwrap();
    let mut bell = Bell::bind(events, bench.guest.domid(), &[port.port()]).unwrap();
    bell.drain().unwrap();
    let now = Instant::now();
    while bell.due().is_none() {
        bell.note_event(|| now);
    }
    let due = bell.due().unwrap();
    assert!(due > now);
    port.notify().unwrap();
    bell.unmask(|| now).unwrap();
    assert!(
        !rings(&bell) && bell.due() == Some(due),
        "it is not time yet"
    );
    bell.unmask(|| due).unwrap();
    assert!(rings(&bell) && bell.due().is_none());
    bell.drain().unwrap();
    bell.note_request();
    bell.note_event(|| now);
    assert_eq!(bell.due(), None, "there was a reason");
    bell.note_event(|| now);
    bell.mute();
    assert_eq!(bell.due(), None);
}
