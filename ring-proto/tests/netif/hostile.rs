//! A guest that rewrites its ring while it is read.

use std::sync::atomic::{AtomicBool, Ordering};

use ring_proto::FrontRing;
use ring_proto::netif::{
    RX_RING, RxOffload, RxRing, RxSent, TX_RING, TxAnswer, TxRing, TxStatus, Verdict,
};

use crate::{chain, features, jumbo, page};

/// RNG-02: whatever was taken keeps its promise, and the answer has the id that was taken with it.
#[test]
fn rng_02_slots_that_change_while_they_are_taken() {
    let memory = page(TX_RING);
    let mut front = FrontRing::init(memory.clone(), TX_RING).unwrap();
    let mut back = TxRing::attach(memory.clone(), jumbo()).unwrap();
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut count = 0_u32;
            while !stop.load(Ordering::Relaxed) {
                count = count.wrapping_add(1);
                for slot in 0..256 {
                    // Grant, id and size; the flags stay, or the ring would fall apart.
                    memory[16 + slot * 3].store(count, Ordering::Relaxed);
                    memory[16 + slot * 3 + 2].store((count % 1000) << 16 | 7, Ordering::Relaxed);
                }
            }
        });
        let mut packets = 0;
        for _ in 0..20_000 {
            for slot in chain(1000, &[100, 100], &[]) {
                front.push_request(&slot.encode()).unwrap();
            }
            let _ = front.publish();
            while let Some((receipt, verdict)) = back.take().unwrap() {
                if let Verdict::Packet(packet) = verdict {
                    let sum: u32 = packet
                        .fragments
                        .iter()
                        .map(|one| u32::from(one.len()))
                        .sum();
                    assert_eq!(sum, u32::from(packet.len));
                    for one in packet.fragments {
                        assert!(one.len() > 0 && u32::from(one.offset() + one.len()) <= 4096);
                    }
                    packets += 1;
                }
                back.settle(receipt, TxStatus::Okay);
            }
            let _ = back.publish();
            while let Some(words) = front.take_response().unwrap() {
                // A response that was written over is the guest's own doing.
                let _ = TxAnswer::decode(words);
            }
        }
        assert!(packets > 0);
        stop.store(true, Ordering::Relaxed);
    });
}

/// A piece goes where its answer says that it went, though the request has changed since.
#[test]
fn rng_02_requests_that_change_while_they_are_filled() {
    let memory = page(RX_RING);
    let mut front = FrontRing::init(memory.clone(), RX_RING).unwrap();
    let mut back = RxRing::attach(memory.clone()).unwrap();
    let plan = features().plan(9000, RxOffload::Plain, None).unwrap();
    for round in 0..1000_u16 {
        for at in 0..3 {
            let (id, gref) = (round * 3 + at, ring_proto::GrantRef::new(u32::from(round)));
            front.push_request(&RxSent { id, gref }.encode()).unwrap();
        }
        let _ = front.publish();
        let mut pieces = 0;
        let placed = back.place(&plan, |piece| {
            // Everything that was read so far changes, and all that was not.
            for word in 16..528 {
                memory[word].fetch_xor(0xffff_ffff, Ordering::Relaxed);
            }
            assert!(piece.len > 0 && piece.offset + piece.len <= 4096);
            pieces += 1;
        });
        assert_eq!((placed, pieces), (Ok(true), 3));
        let _ = back.publish();
        while front.take_response::<2>().unwrap().is_some() {}
        for word in 16..528 {
            memory[word].store(0, Ordering::Relaxed);
        }
    }
}
