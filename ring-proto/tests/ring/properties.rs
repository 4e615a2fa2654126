//! What holds for every order of moves.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use proptest::prelude::*;
use ring_proto::{AttachError, BackRing, Claim, Full, Notify, RingShape};

use crate::{REQ_EVENT, REQ_PROD, RSP_EVENT, RSP_PROD, memory, pair};

/// The macro of `ring.h` as it is written there: did `prod` pass `event` on its way from old to new?
fn passes(old: u32, new: u32, event: u32) -> bool {
    (1..=new.wrapping_sub(old)).any(|step| old.wrapping_add(step) == event)
}

#[derive(Clone, Copy, Debug)]
enum Move {
    Push(u32),
    FrontPublish,
    FrontTake(u32),
    FrontRearm,
    Take(u32),
    Respond(u32),
    Publish,
    Rearm,
}

fn moves() -> impl Strategy<Value = Vec<Move>> {
    let step = prop_oneof![
        (1..40u32).prop_map(Move::Push),
        Just(Move::FrontPublish),
        (1..40u32).prop_map(Move::FrontTake),
        Just(Move::FrontRearm),
        (1..40u32).prop_map(Move::Take),
        (1..40u32).prop_map(Move::Respond),
        Just(Move::Publish),
        Just(Move::Rearm),
    ];
    prop::collection::vec(step, 1..200)
}

/// Starts near the places where something could wrap, and anywhere.
fn starts() -> impl Strategy<Value = u32> {
    prop_oneof![
        any::<u32>(),
        (0..64u32).prop_map(|back| 0u32.wrapping_sub(back)),
        0x7fff_ffc0..=0x8000_0040u32
    ]
}

proptest! {
    #![proptest_config(ProptestConfig {
        failure_persistence: None,
        ..ProptestConfig::with_cases(2000)
    })]

    /// Against queues that cannot wrap: nothing is lost, doubled or changed, whatever the order of
    /// moves, and both sides notify exactly when the header's macro says so (FE-01, FE-11).
    #[test]
    fn honest_ends_agree_with_a_queue(order in 0..6u32, start in starts(), moves in moves()) {
        let slots = 1 << order;
        let (mut front, mut back, memory) = pair(slots, 3, start);
        let load = |at: usize| memory[at].load(Ordering::Relaxed);
        let (mut next, mut written, mut shown) = (0u32, VecDeque::new(), VecDeque::new());
        let (mut claims, mut answered, mut seen) =
            (VecDeque::<(Claim, u32)>::new(), VecDeque::new(), VecDeque::new());
        for step in moves {
            match step {
                Move::Push(count) => for _ in 0..count {
                    let pushed = front.push_request(&[next, !next, 7]);
                    let open = written.len() + shown.len() + claims.len() + answered.len() + seen.len();
                    prop_assert_eq!(pushed, if open == slots as usize { Err(Full) } else { Ok(()) });
                    if pushed.is_ok() { written.push_back(next); next += 1; }
                },
                Move::FrontPublish => {
                    let (old, event) = (load(REQ_PROD), load(REQ_EVENT));
                    let notify = front.publish();
                    shown.append(&mut written);
                    prop_assert_eq!(notify == Notify::Needed, passes(old, load(REQ_PROD), event));
                }
                Move::Take(count) => for _ in 0..count {
                    let taken = back.take::<3>().unwrap();
                    prop_assert_eq!(taken.is_some(), !shown.is_empty());
                    let Some((claim, words)) = taken else { break };
                    let expected = shown.pop_front().unwrap();
                    prop_assert_eq!(words, [expected, !expected, 7]);
                    prop_assert_eq!(claim.position(), start.wrapping_add(expected));
                    claims.push_back((claim, expected));
                },
                // From either end: answers may be out of order.
                Move::Respond(count) => for nth in 0..count {
                    let some = if nth % 2 == 0 { claims.pop_front() } else { claims.pop_back() };
                    let Some((claim, id)) = some else { break };
                    back.respond(claim, &[id]);
                    answered.push_back(id);
                },
                Move::Publish => {
                    let (old, event) = (load(RSP_PROD), load(RSP_EVENT));
                    let notify = back.publish();
                    seen.append(&mut answered);
                    prop_assert_eq!(notify == Notify::Needed, passes(old, load(RSP_PROD), event));
                }
                Move::FrontTake(count) => for _ in 0..count {
                    let taken = front.take_response::<1>().unwrap();
                    prop_assert_eq!(taken, seen.pop_front().map(|id| [id]));
                },
                Move::Rearm => {
                    prop_assert_eq!(back.rearm(), Ok(!shown.is_empty()));
                    if shown.is_empty() {
                        prop_assert_eq!(load(REQ_EVENT), back.indices().req_cons.wrapping_add(1));
                    }
                }
                Move::FrontRearm => prop_assert_eq!(front.rearm(), Ok(!seen.is_empty())),
            }
            prop_assert!(back.owed() <= slots);
            prop_assert_eq!(back.owed() as usize, claims.len());
        }
    }

    /// RNG-01: whatever the guest puts into `req_prod`, nothing is taken beyond what is possible, and
    /// once it lied nothing is taken any more.
    #[test]
    fn rng_01_no_index_yields_more_than_the_ring_holds(
        order in 0..5u32, start in starts(), open in 0..32u32, answered in 0..32u32,
        lie in prop_oneof![any::<u32>(), Just(u32::MAX), (0..80u32).prop_map(|n| n.wrapping_sub(40))],
        offset in any::<bool>(),
    ) {
        let slots = 1 << order;
        let (mut front, mut back, memory) = pair(slots, 2, start);
        let open = open % (slots + 1);
        for _ in 0..open { front.push_request(&[1, 2]).unwrap(); }
        let _ = front.publish();
        let mut claims = Vec::new();
        while let Some((claim, _)) = back.take::<2>().unwrap() { claims.push(claim); }
        for claim in claims.drain(..).take(answered as usize % (open as usize + 1)) {
            back.respond(claim, &[0]);
        }
        let before = back.indices();
        let prod = if offset { before.req_cons.wrapping_add(lie) } else { lie };
        memory[REQ_PROD].store(prod, Ordering::Relaxed);
        let possible = (0..=slots - back.owed()).any(|n| before.req_cons.wrapping_add(n) == prod);
        if possible {
            let mut count = 0;
            while back.take::<2>().unwrap().is_some() { count += 1; }
            prop_assert_eq!(count, prod.wrapping_sub(before.req_cons));
        } else {
            let overrun = back.take::<2>().unwrap_err();
            prop_assert_eq!((overrun.req_prod, overrun.req_cons), (prod, before.req_cons));
            // The truth comes too late.
            memory[REQ_PROD].store(before.req_cons, Ordering::Relaxed);
            prop_assert_eq!(back.take::<2>().unwrap_err(), overrun);
            prop_assert_eq!(back.rearm().unwrap_err(), overrun);
            prop_assert_eq!(back.indices(), before);
        }
    }

    /// The frontend's mirror of it.
    #[test]
    fn fe_01_a_backend_cannot_answer_more_than_was_asked(start in starts(), asked in 0..=8u32, lie in any::<u32>()) {
        let (mut front, _, memory) = pair(8, 2, start);
        for _ in 0..asked { front.push_request(&[0]).unwrap(); }
        let _ = front.publish();
        let prod = start.wrapping_add(lie);
        memory[RSP_PROD].store(prod, Ordering::Relaxed);
        if lie <= asked {
            for _ in 0..lie { prop_assert!(front.take_response::<2>().unwrap().is_some()); }
            prop_assert_eq!(front.take_response::<2>(), Ok(None));
        } else {
            let overrun = front.take_response::<2>().unwrap_err();
            prop_assert_eq!((overrun.rsp_prod, overrun.req_prod), (prod, start.wrapping_add(asked)));
            memory[RSP_PROD].store(start, Ordering::Relaxed);
            prop_assert_eq!(front.rearm().unwrap_err(), overrun);
        }
    }

    /// Joining in the middle accepts exactly what a backend can have left.
    #[test]
    fn attach_at_accepts_only_possible_indices(
        start in starts(), published in 0..80u32, owed in 0..20u32, waiting in 0..20u32,
    ) {
        let shape = RingShape::new(16, 2).unwrap();
        let memory = memory(shape);
        let rsp_prod = start.wrapping_add(published);
        let req_cons = rsp_prod.wrapping_add(owed);
        memory[REQ_PROD].store(req_cons.wrapping_add(waiting), Ordering::Relaxed);
        let joined = BackRing::attach_at(Arc::clone(&memory), shape, req_cons, rsp_prod);
        if owed + waiting > 16 {
            prop_assert!(matches!(joined, Err(AttachError::Impossible(_))));
            return Ok(());
        }
        let mut back = joined.unwrap();
        for nth in 0..owed {
            let claim = back.reclaim(rsp_prod.wrapping_add(nth)).unwrap();
            back.respond(claim, &[nth, 0]);
        }
        prop_assert!(back.reclaim(0).is_none(), "more claims than answers owed");
        prop_assert_eq!(back.owed(), 0);
        for _ in 0..waiting { prop_assert!(back.take::<2>().unwrap().is_some()); }
        prop_assert!(back.take::<2>().unwrap().is_none());
        let _ = back.publish();
        if owed > 0 {
            prop_assert_eq!(memory[RSP_PROD].load(Ordering::Relaxed), req_cons);
        }
    }
}
