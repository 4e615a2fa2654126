//! Single moves, each with what it must leave alone.

use std::sync::atomic::{AtomicU32, Ordering};

use ring_proto::{BackRing, FrontRing, Notify, RingShape};

use crate::{REQ_EVENT, REQ_PROD, RSP_PROD, SLOTS_AT, memory, pair};

#[test]
fn rng_01_an_index_that_moves_backwards_is_an_overrun() {
    let (mut front, mut back, memory) = pair(32, 2, 0);
    for _ in 0..5 {
        front.push_request(&[0]).unwrap();
    }
    let _ = front.publish();
    while back.take::<2>().unwrap().is_some() {}
    memory[REQ_PROD].store(4, Ordering::Relaxed);
    let overrun = back.rearm().unwrap_err();
    assert_eq!(
        overrun.to_string(),
        "req_prod 4 is impossible: 5 taken, 0 answered, 32 slots"
    );
}

#[test]
fn rng_02_what_was_taken_does_not_change() {
    let (mut front, mut back, memory) = pair(4, 3, 0);
    front.push_request(&[1, 2, 3]).unwrap();
    let _ = front.publish();
    let (_claim, words) = back.take::<3>().unwrap().unwrap();
    memory[SLOTS_AT].store(99, Ordering::Relaxed);
    assert_eq!(words, [1, 2, 3]);
}

#[test]
fn rng_03_an_answer_is_written_whole_and_nowhere_else() {
    let (mut front, mut back, memory) = pair(2, 3, 0);
    front.push_request(&[1, 2, 3]).unwrap();
    let _ = front.publish();
    let (claim, _) = back.take::<3>().unwrap().unwrap();
    back.respond(claim, &[8, 9]);
    let slot = |at: usize| memory[SLOTS_AT + at].load(Ordering::Relaxed);
    assert_eq!([slot(0), slot(1), slot(2), slot(3)], [8, 9, 3, 0xa5a5_a5a5]);
    assert_eq!(
        memory[RSP_PROD].load(Ordering::Relaxed),
        0,
        "not published yet"
    );
}

#[test]
fn longer_answers_and_requests_than_slots_stay_inside() {
    let (mut front, mut back, memory) = pair(2, 2, 0);
    front.push_request(&[1, 2, 3]).unwrap();
    let _ = front.publish();
    let (claim, words) = back.take::<4>().unwrap().unwrap();
    assert_eq!(words, [1, 2, 0, 0]);
    back.respond(claim, &[4, 5, 6]);
    assert_eq!(memory[SLOTS_AT + 2].load(Ordering::Relaxed), 0xa5a5_a5a5);
}

#[test]
fn take_into_fills_what_it_is_given_and_no_more() {
    let (mut front, mut back, _) = pair(2, 6, 0);
    front.push_request(&[3, 1, 2, 3, 4, 5]).unwrap();
    front.push_request(&[9, 1, 2, 3, 4, 5]).unwrap();
    let _ = front.publish();
    let mut words = [7; 8];
    let claim = back
        .take_into(|first| &mut words[..first as usize])
        .unwrap()
        .unwrap();
    assert_eq!((claim.position(), words), (0, [1, 2, 3, 7, 7, 7, 7, 7]));
    let claim = back
        .take_into(|first| &mut words[..first as usize - 1])
        .unwrap()
        .unwrap();
    assert_eq!((claim.position(), words), (1, [1, 2, 3, 4, 5, 7, 7, 7]));
    assert_eq!(back.take_into(|_| &mut []), Ok(None));
}

#[test]
fn fe_24_a_backend_writes_nothing_but_its_fields() {
    let (mut front, mut back, memory) = pair(4, 2, 40);
    front.push_request(&[1, 2]).unwrap();
    let _ = front.publish();
    let before: Vec<u32> = memory
        .iter()
        .map(|word| word.load(Ordering::Relaxed))
        .collect();
    let (claim, _) = back.take::<2>().unwrap().unwrap();
    back.respond(claim, &[1, 2]);
    let _ = back.publish();
    assert_eq!(back.rearm(), Ok(false));
    for (at, old) in before.into_iter().enumerate() {
        let new = memory[at].load(Ordering::Relaxed);
        assert!(
            new == old || at == REQ_EVENT || at == RSP_PROD,
            "word {at}: {old} became {new}"
        );
    }
}

#[test]
fn fe_11_nothing_published_means_no_event() {
    let (mut front, mut back, _) = pair(4, 2, 0);
    assert_eq!(
        (front.publish(), back.publish()),
        (Notify::NotNeeded, Notify::NotNeeded)
    );
}

#[test]
fn who_needs_several_requests_is_woken_by_the_last_of_them() {
    let (mut front, mut back, memory) = pair(8, 2, u32::MAX);
    assert_eq!(back.rearm_for(3), Ok(false));
    assert_eq!(memory[REQ_EVENT].load(Ordering::Relaxed), 2);
    for (waiting, notify) in [
        (1, Notify::NotNeeded),
        (2, Notify::NotNeeded),
        (3, Notify::Needed),
    ] {
        front.push_request(&[waiting]).unwrap();
        assert_eq!(front.publish(), notify);
        assert_eq!(back.waiting(3), Ok(waiting));
    }
    assert_eq!(back.rearm_for(3), Ok(true));
    assert!(back.take::<2>().unwrap().is_some());
    assert_eq!((back.rearm(), back.rearm_for(3)), (Ok(true), Ok(false)));
}

#[test]
fn enough_that_was_seen_is_not_looked_for_again() {
    let (mut front, mut back, memory) = pair(4, 2, 0);
    front.push_request(&[1]).unwrap();
    let _ = front.publish();
    assert_eq!(back.waiting(1), Ok(1));
    memory[REQ_PROD].store(100, Ordering::Relaxed);
    assert_eq!(back.waiting(1), Ok(1));
    assert!(back.waiting(2).is_err());
}

#[test]
fn a_ring_that_does_not_fit_is_refused() {
    let shape = RingShape::new(32, 28).unwrap();
    let short: Vec<AtomicU32> = (0..shape.words() - 1).map(|_| AtomicU32::new(0)).collect();
    assert_eq!(
        BackRing::attach(&short[..], shape).unwrap_err().to_string(),
        "ring memory has 911 words, the ring needs 912"
    );
    assert!(FrontRing::init(&short[..], shape).is_err());
}

#[test]
fn attach_refuses_a_ring_that_was_never_initialised() {
    let shape = RingShape::new(32, 2).unwrap();
    let memory = memory(shape);
    memory[REQ_PROD].store(33, Ordering::Relaxed);
    memory[RSP_PROD].store(0, Ordering::Relaxed);
    let error = BackRing::attach(memory, shape).unwrap_err();
    assert_eq!(
        error.to_string(),
        "req_prod 33 is impossible: 0 taken, 0 answered, 32 slots"
    );
}
