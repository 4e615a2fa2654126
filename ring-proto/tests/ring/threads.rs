//! Two threads on one ring.

use ring_proto::{BackRing, FrontRing, Notify};

use crate::{Memory, pair};

/// Two threads that sleep whenever the protocol lets them, and wake only each other. A lost wake-up
/// shows as a park that nobody ends.
#[test]
fn two_threads_lose_no_wake_up() {
    const ROUNDS: u32 = 200_000;
    let (front, back, _) = pair(8, 2, 0u32.wrapping_sub(ROUNDS / 2));
    std::thread::scope(|scope| {
        let frontend = std::thread::current();
        let backend = scope.spawn(move || serve(back, ROUNDS, &frontend));
        ask(front, ROUNDS, backend.thread());
        backend.join().unwrap();
    });
}

fn serve(mut back: BackRing<Memory>, rounds: u32, frontend: &std::thread::Thread) {
    let mut served = 0;
    while served < rounds {
        while let Some((claim, [id, check])) = back.take::<2>().unwrap() {
            assert_eq!((id, check), (served, !id));
            back.respond(claim, &[id, 0]);
            served += 1;
            // Now and then, so that both single answers and batches occur.
            if served % 3 == 0 && back.publish() == Notify::Needed {
                frontend.unpark();
            }
        }
        if back.publish() == Notify::Needed {
            frontend.unpark();
        }
        if served < rounds && !back.rearm().unwrap() {
            sleep();
        }
    }
}

fn ask(mut front: FrontRing<Memory>, rounds: u32, backend: &std::thread::Thread) {
    let (mut sent, mut answered) = (0, 0);
    while answered < rounds {
        while sent < rounds && front.push_request(&[sent, !sent]).is_ok() {
            sent += 1;
            if sent % 5 == 0 && front.publish() == Notify::Needed {
                backend.unpark();
            }
        }
        if front.publish() == Notify::Needed {
            backend.unpark();
        }
        let before = answered;
        while let Some([id]) = front.take_response::<1>().unwrap() {
            assert_eq!(id, answered);
            answered += 1;
        }
        if answered == before && !front.rearm().unwrap() {
            sleep();
        }
    }
}

/// Sleeps until woken. An unpark that came earlier counts, as an event channel's pending bit does.
fn sleep() {
    let limit = std::time::Duration::from_secs(20);
    let start = std::time::Instant::now();
    std::thread::park_timeout(limit);
    assert!(start.elapsed() < limit, "nobody woke us");
}
