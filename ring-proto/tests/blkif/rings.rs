//! Layouts on a ring: how many slots, and requests that come out as they went in.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use ring_proto::blkif::{Abi, Answer, Body, RawRequest, Request, Sent};
use ring_proto::{BackRing, FrontRing, Notify};

use crate::{ABIS, disk, raw, segment};

#[test]
fn rings_hold_as_many_requests_as_the_protocol_says() {
    for abi in ABIS {
        for (pages, slots) in [
            (1, 32),
            (2, 64),
            (4, 128),
            (8, 256),
            (16, 512),
            (32, 1024),
            (64, 2048),
        ] {
            let shape = abi.ring_shape(pages).unwrap();
            assert_eq!(
                (shape.slots(), shape.stride_words()),
                (slots, abi.stride_words())
            );
            assert!(shape.words() <= pages as usize * 1024);
        }
        assert_eq!(abi.ring_shape(0), None);
    }
}

#[test]
fn con_04_the_protocol_key_is_exact() {
    assert_eq!(Abi::parse(Some(b"x86_64-abi")), Ok(Abi::Native));
    assert_eq!(Abi::parse(Some(b"arm-abi")), Ok(Abi::Native));
    assert_eq!(Abi::parse(Some(b"x86_32-abi")), Ok(Abi::X86_32));
    let default = if cfg!(any(target_arch = "x86", target_arch = "x86_64")) {
        Abi::X86_32
    } else {
        Abi::Native
    };
    assert_eq!(Abi::parse(None), Ok(default));
    let long = vec![b'y'; 4096];
    for (value, shown) in [
        (&b""[..], ""),
        (b"x86_3", "x86_3"),
        (b"x86_32-abi\0", "x86_32-abi\\x00"),
        (b" x86_32-abi", " x86_32-abi"),
        (b"\xff\n", "\\xff\\n"),
        (&long, "yyyyyyyyyyyyyyyyyyyyyyyy..."),
    ] {
        let error = Abi::parse(Some(value)).unwrap_err().to_string();
        let end = "is none of x86_64-abi, x86_32-abi, arm-abi";
        assert_eq!(error, format!("protocol \"{shown}\" {end}"));
    }
}

type Memory = Arc<[AtomicU32]>;

fn pair(abi: Abi) -> (FrontRing<Memory>, BackRing<Memory>) {
    let shape = abi.ring_shape(1).unwrap();
    let memory: Memory = (0..1024).map(|_| AtomicU32::new(u32::MAX)).collect();
    let front = FrontRing::init(Arc::clone(&memory), shape).unwrap();
    (front, BackRing::attach(memory, shape).unwrap())
}

#[test]
fn every_kind_of_request_goes_through_a_ring_unchanged() {
    let segments = [segment(1, 7); 11];
    let pages = [ring_proto::GrantRef::new(0xffff_ffff); 8];
    let direct = |operation, nr_segments| Sent::Direct {
        operation,
        nr_segments,
        handle: 0xabcd,
        id: 0x1122_3344_5566_7788,
        sector: 3,
        segments: &segments,
    };
    let kinds = [
        direct(0, 1),
        direct(1, 11),
        direct(3, 0),
        direct(3, 4),
        Sent::Discard {
            flags: 1,
            handle: 9,
            id: 1 << 40,
            sector: 8,
            sectors: 64,
        },
        Sent::Indirect {
            operation: 1,
            nr_segments: 200,
            handle: 9,
            id: 5,
            sector: 1,
            pages: &pages,
        },
    ];
    for abi in ABIS {
        let (mut front, mut back) = pair(abi);
        // One copy for all, as a worker's slot is reused: leftovers must not matter.
        let mut copy = RawRequest::default();
        for sent in kinds {
            front.push_request(&sent.encode(abi)).unwrap();
            assert_eq!(front.publish(), Notify::Needed);
            let claim = copy.take_from(&mut back, abi).unwrap().unwrap();
            let whole = raw(abi, sent);
            let request = Request::parse(&copy, &disk()).unwrap();
            assert_eq!(
                verdict_of(&request),
                verdict_of(&Request::parse(&whole, &disk()).unwrap())
            );
            back.respond(claim, &request.echo().okay().encode(abi));
            assert_eq!(back.publish(), Notify::Needed);
            assert_eq!(back.rearm(), Ok(false));
            let answer = Answer::decode(front.take_response().unwrap().unwrap());
            assert_eq!(front.rearm(), Ok(false));
            let expected = Answer {
                id: request.id,
                operation: request.echo().operation(),
                status: 0,
            };
            assert_eq!(answer, expected);
        }
        assert_eq!(copy.take_from(&mut back, abi), Ok(None));
    }
}

fn verdict_of(request: &Request<'_>) -> (u64, crate::oracle::Verdict) {
    (request.id, crate::oracle::verdict(&Ok(*request)))
}

/// RNG-02: another thread rewrites the slot as fast as it can. Whatever was taken keeps its promise:
/// the number of segments that was copied is the number that is judged and handed out.
#[test]
fn rng_02_a_slot_that_changes_while_it_is_taken_gives_one_consistent_request() {
    let (mut front, mut back) = pair(Abi::X86_32);
    let stop = AtomicBool::new(false);
    let memory = Arc::clone(front.memory());
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut count = 0u32;
            while !stop.load(Ordering::Relaxed) {
                count = count.wrapping_add(1);
                // Operation and segments of all slots, valid and not.
                for slot in 0..32 {
                    memory[16 + slot * 27]
                        .store(((count % 14) << 8) | (count % 8), Ordering::Relaxed);
                }
            }
        });
        let segments = [segment(0, 0); 11];
        let sent = Sent::Direct {
            operation: 0,
            nr_segments: 11,
            handle: 0,
            id: 4,
            sector: 0,
            segments: &segments,
        };
        let mut copy = RawRequest::default();
        for _ in 0..50_000 {
            front.push_request(&sent.encode(Abi::X86_32)).unwrap();
            let _ = front.publish();
            let claim = copy.take_from(&mut back, Abi::X86_32).unwrap().unwrap();
            let counted = usize::from(copy.words()[0].to_le_bytes()[1]);
            let response = match Request::parse(&copy, &disk()) {
                Ok(request) => {
                    if let Body::Read(data) | Body::Write(data) = request.body {
                        assert_eq!(data.segments().len(), counted);
                        assert_eq!(data.sectors() as usize, counted);
                    }
                    request.echo().okay()
                }
                Err(reject) => reject.response(),
            };
            back.respond(claim, &response.encode(Abi::X86_32));
            let _ = back.publish();
            assert!(front.take_response::<3>().unwrap().is_some());
        }
        stop.store(true, Ordering::Relaxed);
    });
}
