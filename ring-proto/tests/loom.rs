//! Every interleaving of the two races that a ring can lose a wake-up in.
//!
//! Run with `RUSTFLAGS="--cfg loom" cargo test -p ring-proto --release --test loom`.
//!
//! What loom can say here: it explores all interleavings, the values that relaxed, acquire and
//! release accesses may see, and sequentially consistent *fences*, which is what the rings use (it
//! would treat sequentially consistent accesses as acquire and release ones; there are none). With
//! either fence of a race taken out, the model fails. What it cannot say: that the other side, in C
//! and in another domain, has its barriers; that is its part of the protocol.
#![cfg(loom)]
#![expect(
    clippy::unwrap_used,
    reason = "helpers of tests, which clippy does not see as such"
)]

use std::sync::Arc;

use loom::sync::atomic::AtomicU32;
use loom::thread;
use ring_proto::{BackRing, FrontRing, Notify, RingShape};

type Memory = Arc<Vec<AtomicU32>>;

fn pair(slots: u32, start: u32) -> (FrontRing<Memory>, BackRing<Memory>) {
    let shape = RingShape::new(slots, 1).unwrap();
    let memory: Memory = Arc::new((0..shape.words()).map(|_| AtomicU32::new(0)).collect());
    let front = FrontRing::init_at(Arc::clone(&memory), shape, start).unwrap();
    (front, BackRing::attach(memory, shape).unwrap())
}

/// A backend that goes to sleep while a request arrives: it sees the request, or it is notified.
#[test]
fn a_request_wakes_a_backend_that_falls_asleep() {
    loom::model(|| {
        let (mut front, mut back) = pair(2, u32::MAX);
        let frontend = thread::spawn(move || {
            front.push_request(&[7]).unwrap();
            front.publish()
        });
        let awake = back.rearm().unwrap();
        let taken = back.take::<1>().unwrap();
        assert!(!awake || taken.is_some());
        if let Some((_, words)) = &taken {
            assert_eq!(*words, [7], "the index was seen before the slot");
        }
        let notify = frontend.join().unwrap();
        assert!(
            awake || notify == Notify::Needed,
            "asleep with a request waiting"
        );
    });
}

/// The same with a backend that was awake and has taken one request: `req_event` is an old one.
#[test]
fn a_second_request_wakes_a_backend_that_falls_asleep_again() {
    loom::model(|| {
        let (mut front, mut back) = pair(2, u32::MAX - 1);
        front.push_request(&[6]).unwrap();
        assert_eq!(front.publish(), Notify::Needed);
        let frontend = thread::spawn(move || {
            front.push_request(&[7]).unwrap();
            front.publish()
        });
        let mut taken = 0;
        while let Some((_, [word])) = back.take::<1>().unwrap() {
            assert_eq!(word, 6 + taken);
            taken += 1;
        }
        let awake = back.rearm().unwrap();
        let notify = frontend.join().unwrap();
        assert!(
            taken == 2 || awake || notify == Notify::Needed,
            "asleep with a request waiting"
        );
    });
}

/// A backend that can use nothing less than two requests, which come one by one.
#[test]
fn the_second_request_wakes_a_backend_that_waits_for_two() {
    loom::model(|| {
        let (mut front, mut back) = pair(2, u32::MAX - 1);
        let frontend = thread::spawn(move || {
            let mut last = Notify::NotNeeded;
            for word in [6, 7] {
                front.push_request(&[word]).unwrap();
                last = front.publish();
            }
            last
        });
        let awake = back.rearm_for(2).unwrap();
        assert!(!awake || back.waiting(2) == Ok(2));
        let notify = frontend.join().unwrap();
        assert!(
            awake || notify == Notify::Needed,
            "asleep with two requests waiting"
        );
    });
}

/// A frontend that goes to sleep while its answer arrives: it sees the answer, or it is notified.
#[test]
fn an_answer_wakes_a_frontend_that_falls_asleep() {
    loom::model(|| {
        let (mut front, mut back) = pair(2, u32::MAX - 1);
        for word in [6, 7] {
            front.push_request(&[word]).unwrap();
        }
        let _ = front.publish();
        let (first, _) = back.take::<1>().unwrap().unwrap();
        let (second, _) = back.take::<1>().unwrap().unwrap();
        // The first answer is had before, so rsp_event is behind when the second one comes.
        back.respond(first, &[60]);
        let _ = back.publish();
        assert_eq!(front.take_response::<1>(), Ok(Some([60])));
        let backend = thread::spawn(move || {
            back.respond(second, &[70]);
            back.publish()
        });
        let awake = front.rearm().unwrap();
        let taken = front.take_response::<1>().unwrap();
        assert!(
            !awake || taken == Some([70]),
            "the index was seen before the slot"
        );
        let notify = backend.join().unwrap();
        assert!(
            awake || notify == Notify::Needed,
            "asleep with an answer waiting"
        );
    });
}
