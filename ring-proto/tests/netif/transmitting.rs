//! The transmit ring: slots that wait for the rest of their packet, and answers in order.

use std::sync::atomic::Ordering;

use ring_proto::netif::{
    Extra, MAX_TX_SLOTS, TX_RING, TxAnswer, TxFault, TxRing, TxSent, TxStatus, Verdict, tx_flag,
};
use ring_proto::{FrontRing, Notify, Overrun};

use crate::{Memory, chain, data, jumbo, lengths, page};

fn pair(start: u32) -> (FrontRing<Memory>, TxRing<Memory>) {
    let memory = page(TX_RING);
    let front = FrontRing::init_at(memory.clone(), TX_RING, start).unwrap();
    (front, TxRing::attach(memory, jumbo()).unwrap())
}

/// Shows the backend some slots; `true` if it asked to be woken.
fn send(front: &mut FrontRing<Memory>, slots: &[TxSent]) -> bool {
    for slot in slots {
        front.push_request(&slot.encode()).unwrap();
    }
    front.publish() == Notify::Needed
}

fn answers(front: &mut FrontRing<Memory>) -> Vec<(u16, i16)> {
    let mut answers = Vec::new();
    while let Some(words) = front.take_response().unwrap() {
        let TxAnswer { id, status } = TxAnswer::decode(words);
        answers.push((id, status));
    }
    answers
}

/// The number under which the fuller of two sweeps finds a packet that the first one began.
#[test]
fn a_packet_whose_end_is_missing_is_waited_for() {
    let (mut front, mut back) = pair(u32::MAX - 1);
    let slots = chain(900, &[300, 300], &[Extra::xdp(0)]);
    for (at, slot) in (1..4).zip(&slots) {
        assert!(send(&mut front, &[*slot]), "woken");
        assert_eq!(back.take(), Ok(None));
        assert_eq!((back.incomplete(), back.owed()), (at, u32::from(at)));
        // Nothing is answered, and the next slot will wake us.
        assert_eq!(back.publish(), Notify::NotNeeded);
        assert_eq!(back.rearm(), Ok(false));
    }
    send(&mut front, &slots[3..]);
    let (receipt, verdict) = back.take().unwrap().unwrap();
    let Verdict::Packet(packet) = verdict else {
        panic!("{verdict:?}");
    };
    assert_eq!(lengths(packet), [300, 300, 300]);
    assert_eq!((receipt.position(), receipt.slots()), (u32::MAX - 1, 4));
    assert_eq!(back.incomplete(), 0);
    back.settle(receipt, TxStatus::Okay);
    assert_eq!(back.publish(), Notify::Needed);
    assert_eq!(
        answers(&mut front),
        [(2000, 0), (0, 1), (2001, 0), (2002, 0)]
    );
}

#[test]
fn fe_10_extra_infos_are_answered_with_null() {
    let (mut front, mut back) = pair(0);
    let extras = [Extra::xdp(1), Extra::xdp(2), Extra::xdp(3)];
    send(&mut front, &chain(100, &[10], &extras));
    let (receipt, _) = back.take().unwrap().unwrap();
    back.settle(receipt, TxStatus::Error);
    let _ = back.publish();
    let expected = [(2000, -1), (0, 1), (0, 1), (0, 1), (2001, -1)];
    assert_eq!(answers(&mut front), expected);
}

#[test]
fn answers_wait_for_those_ahead_of_them() {
    let (mut front, mut back) = pair(0);
    let mut receipts = Vec::new();
    for id in 0..4 {
        send(&mut front, &[data(id, 0, 60, 0)]);
        receipts.push(back.take().unwrap().unwrap().0);
    }
    let order = [2, 0, 1, 3].map(|at| receipts[at].position());
    let seen = [
        vec![],
        vec![(2000, 0)],
        vec![(2001, -2), (2002, -1)],
        vec![(2003, 0)],
    ];
    let mut receipts: Vec<_> = receipts.into_iter().map(Some).collect();
    let statuses = [
        TxStatus::Error,
        TxStatus::Okay,
        TxStatus::Dropped,
        TxStatus::Okay,
    ];
    for ((position, status), seen) in order.into_iter().zip(statuses).zip(seen) {
        back.settle(receipts[position as usize].take().unwrap(), status);
        let _ = back.publish();
        assert_eq!(answers(&mut front), seen);
    }
}

/// RNG-03, and what a backend that comes later reads: only the four bytes of a response change.
#[test]
fn rng_03_a_response_leaves_the_rest_of_its_slot() {
    let (mut front, mut back) = pair(0);
    let sent = data(7, 11, 60, tx_flag::CSUM_BLANK);
    send(&mut front, &[sent]);
    let (receipt, _) = back.take().unwrap().unwrap();
    back.settle(receipt, TxStatus::Okay);
    let words = |front: &FrontRing<Memory>| {
        [16, 17, 18, 19].map(|at| front.memory()[at].load(Ordering::Relaxed))
    };
    // Settled is not yet written.
    assert_eq!(words(&front)[..3], sent.encode());
    let _ = back.publish();
    let [_, place, size] = sent.encode();
    assert_eq!(words(&front), [2007, place, size, 0xa5a5_a5a5]);
}

#[test]
fn a_full_ring_of_the_longest_packets_goes_round() {
    let (mut front, mut back) = pair(u32::MAX - 1000);
    for _ in 0..20 {
        let packets = 256 / MAX_TX_SLOTS;
        for _ in 0..packets {
            send(&mut front, &chain(2000, &[100; MAX_TX_SLOTS - 1], &[]));
        }
        let mut receipts = Vec::new();
        while let Some((receipt, verdict)) = back.take().unwrap() {
            assert!(matches!(verdict, Verdict::Packet(_)));
            receipts.push(receipt);
        }
        assert_eq!(receipts.len(), packets);
        for receipt in receipts {
            back.settle(receipt, TxStatus::Okay);
        }
        let _ = back.publish();
        assert_eq!(answers(&mut front).len(), packets * MAX_TX_SLOTS);
        assert_eq!(back.indices().rsp_prod, back.indices().req_cons);
    }
}

#[test]
fn rng_01_impossible_indices_end_the_connection() {
    for lie in [4, 5 + 257, 5 + 1000, 1 << 31, u32::MAX] {
        let (front, mut back) = pair(5);
        front.memory()[0].store(lie, Ordering::Relaxed);
        let fault = back.take().map(|_| ()).unwrap_err();
        assert!(matches!(
            fault,
            TxFault::Overrun(Overrun { slots: 256, .. })
        ));
        assert_eq!(back.take().map(|_| ()), Err(fault));
    }
}

#[test]
fn after_a_fault_nothing_is_taken_any_more() {
    let (mut front, mut back) = pair(0);
    let bad = data(1, 4096, 1, 0);
    send(
        &mut front,
        &[data(0, 0, 100, tx_flag::MORE_DATA), bad, bad, bad],
    );
    let fault = TxFault::CrossesPage {
        slot: 1,
        offset: 4096,
        len: 1,
    };
    for _ in 0..10 {
        assert_eq!(back.take(), Err(fault));
    }
}
