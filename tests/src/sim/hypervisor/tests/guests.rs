//! Guests: memory, ports, death.

use super::*;

#[test]
fn a_destroyed_guest_is_a_zombie_until_unmapped() {
    let bench = Bench::new();
    let domid = bench.guest.domid();
    let port = bench.guest.alloc_port().unwrap();
    let mut events = Evtchn::open_sim(bench.machine.dir()).unwrap();
    let local = events.bind(domid, port.port()).unwrap();
    let mapping = bench.map(&[bench.gref, bench.gref]).unwrap();
    assert_eq!(bench.copy(bench.gref), GrantStatus::Okay);
    assert_eq!(bench.guest.destroy().unwrap(), 2);
    let zombie = bench.control.domains().unwrap();
    assert_eq!(zombie.len(), 1);
    assert!(!zombie[0].alive);
    assert_eq!((zombie[0].mapped_pages, zombie[0].open_ports), (2, 0));
    // Nothing new comes from it, and what is held does no harm.
    assert_eq!(bench.refusal(bench.gref), Some(GrantStatus::BadDomain));
    assert_eq!(bench.copy(bench.gref), GrantStatus::BadDomain);
    assert!(events.bind(domid, port.port()).is_err());
    events.notify(local).unwrap();
    mapping.write(0, b"late").unwrap();
    mapping.unmap().unwrap();
    assert_eq!(bench.control.domains().unwrap(), vec![]);
    let gone = Err(EvtchnError::NoDomain { domid });
    assert_eq!(events.bind(domid, port.port()), gone);
    let again = bench.guest.destroy();
    assert!(matches!(
        again,
        Err(SimError::Refused {
            errno: Errno::SRCH,
            ..
        })
    ));
    assert_eq!(bench.violations(), Vec::<String>::new());
}

#[test]
fn a_port_for_another_domain_is_not_ours_to_bind() {
    let bench = Bench::new();
    let domid = bench.guest.domid();
    let theirs = bench.guest.alloc_port_for(DomId::new(9)).unwrap();
    let mut events = Evtchn::open_sim(bench.machine.dir()).unwrap();
    let port = theirs.port();
    assert_eq!(
        events.bind(domid, port),
        Err(EvtchnError::Stale { domid, port })
    );
}

#[test]
fn ports_run_out_for_one_guest_only() {
    let bench = Bench::new();
    let mut ports = Vec::new();
    let full = loop {
        match bench.guest.alloc_port() {
            Ok(port) => ports.push(port),
            Err(error) => break error,
        }
    };
    assert_eq!(ports.len(), 1023);
    assert!(matches!(
        full,
        SimError::Refused {
            errno: Errno::NOSPC,
            ..
        }
    ));
    let other = bench.machine.guest(8).unwrap();
    assert_eq!(other.alloc_port().unwrap().port(), RemotePort(1));
    drop(ports.remove(499));
    assert_eq!(bench.guest.alloc_port().unwrap().port(), RemotePort(500));
}

#[test]
fn memory_is_handed_out_once_and_joined_again() {
    let bench = Bench::new();
    // One of the 64 pages is taken.
    let whole = bench.guest.allocate(63).unwrap();
    let full = SimError::Exhausted { what: "pages" };
    assert_eq!(bench.guest.allocate(1).err(), Some(full.clone()));
    drop(whole);
    let thirds: Vec<_> = (0..3).map(|_| bench.guest.allocate(21).unwrap()).collect();
    assert_eq!(bench.guest.allocate(1).err(), Some(full));
    let mut frames: Vec<u32> = thirds.iter().map(|pages| pages.frame(0)).collect();
    frames.sort_unstable();
    assert_eq!(frames[1] - frames[0], 21);
    // In an order in which each must find its neighbours.
    let [a, b, c] = <[GuestPages; 3]>::try_from(thirds).unwrap();
    for pages in [a, c, b] {
        drop(pages);
    }
    assert_eq!(bench.guest.allocate(63).unwrap().pages(), 63);
}

#[test]
fn a_guests_words_and_bytes_are_one_memory() {
    use std::sync::atomic::Ordering;
    let bench = Bench::new();
    let pages = bench.guest.allocate(2).unwrap();
    assert_eq!(pages.words().len(), 2 * PAGE_SIZE / 4);
    pages.words()[PAGE_SIZE / 4].store(0x6463_6261, Ordering::Relaxed);
    let mut seen = [0; 4];
    assert!(pages.read(PAGE_SIZE, &mut seen));
    assert_eq!(seen, 0x6463_6261_u32.to_ne_bytes());
    assert!(!pages.read(2 * PAGE_SIZE - 3, &mut seen));
    assert!(!pages.write(usize::MAX, &seen));
}
