//! The receive ring: how frames are cut up, and answers that frontends take.

use std::sync::atomic::Ordering;

use proptest::prelude::*;
use ring_proto::netif::{
    Extra, Hash, HashKind, Headroom, Ip, MAX_RX_FRAME, RX_RING, RxAnswer, RxFeatures, RxOffload,
    RxPiece, RxPlan, RxRing, RxSent,
};
use ring_proto::{FrontRing, GrantRef, Notify, Overrun};

use crate::{Memory, features, gso, page};

pub(crate) const HASH: Hash = Hash {
    kind: HashKind::Ipv6,
    value: 0x1234_5678,
};

fn pair(start: u32) -> (FrontRing<Memory>, RxRing<Memory>) {
    let memory = page(RX_RING);
    let front = FrontRing::init_at(memory.clone(), RX_RING, start).unwrap();
    (front, RxRing::attach(memory).unwrap())
}

/// Offers `count` buffers; the number of each is where it stands in the ring. `true` if
/// the backend asked to be woken.
fn offer(front: &mut FrontRing<Memory>, from: u16, count: u16) -> bool {
    for id in from..from + count {
        let gref = GrantRef::new(0x00de_0000 + u32::from(id));
        front.push_request(&RxSent { id, gref }.encode()).unwrap();
    }
    front.publish() == Notify::Needed
}

fn place(back: &mut RxRing<Memory>, plan: &RxPlan) -> Option<Vec<RxPiece>> {
    let mut pieces = Vec::new();
    let placed = back.place(plan, |piece| pieces.push(piece)).unwrap();
    placed.then_some(pieces)
}

fn plan(features: &RxFeatures, len: u32, offload: RxOffload) -> RxPlan {
    features.plan(len, offload, None).unwrap()
}

/// A frame as a frontend puts it together, as strict as Linux's: where its bytes are, and what is
/// said about it.
#[derive(Debug, PartialEq, Eq)]
struct Received {
    /// Number of the buffer, offset, length.
    parts: Vec<(u16, u16, u16)>,
    extras: Vec<Extra>,
    blank: bool,
    validated: bool,
}

/// FE-07, FE-08, FE-09 of the attack catalogue.
fn receive(front: &mut FrontRing<Memory>, mut slot: u16) -> Option<Received> {
    let mut next = |front: &mut FrontRing<Memory>| {
        let words = front.take_response::<2>().unwrap()?;
        slot += 1;
        Some((slot - 1, words))
    };
    let (id, words) = next(front)?;
    let first = RxAnswer::decode(words);
    let mut received = Received {
        parts: Vec::new(),
        extras: Vec::new(),
        blank: first.flags & 2 != 0,
        validated: first.flags & 1 != 0,
    };
    let part = |slot: u16, answer: RxAnswer| {
        assert_eq!(answer.id, slot, "in the request's own slot");
        let len = u16::try_from(answer.status).expect("no error");
        assert!(len > 0 && u32::from(answer.offset) + u32::from(len) <= 4096);
        (slot, answer.offset, len)
    };
    received.parts.push(part(id, first));
    let mut more_extras = first.flags & 8 != 0;
    while more_extras {
        let extra = Extra::from_words(next(front).expect("a missing extra info").1);
        more_extras = extra.is_followed();
        received.extras.push(extra);
    }
    let mut flags = first.flags;
    while flags & 4 != 0 {
        let (slot, words) = next(front).expect("a missing slot");
        let answer = RxAnswer::decode(words);
        assert_eq!(answer.flags & !4, 0, "flags behind the first slot");
        received.parts.push(part(slot, answer));
        flags = answer.flags;
    }
    assert!(received.parts.len() <= 18);
    Some(received)
}

#[test]
fn a_short_frame_takes_one_buffer() {
    let (mut front, mut back) = pair(0);
    offer(&mut front, 0, 3);
    let pieces = place(&mut back, &plan(&features(), 60, RxOffload::Plain)).unwrap();
    let [piece] = pieces[..] else {
        panic!("{pieces:?}");
    };
    assert_eq!(piece.gref.raw(), 0x00de_0000);
    assert_eq!((piece.offset, piece.from, piece.len), (0, 0, 60));
    assert_eq!(back.publish(), Notify::Needed);
    let received = receive(&mut front, 0).unwrap();
    assert_eq!(received.parts, [(0, 0, 60)]);
    assert!(!received.blank && !received.validated);
    assert_eq!(receive(&mut front, 1), None);
}

#[test]
fn net_10_what_the_guest_is_told_about_the_checksum() {
    for (offload, validated, blank) in [
        (RxOffload::Plain, false, false),
        (RxOffload::Validated, true, false),
        (RxOffload::Blank(Ip::V4), true, true),
        (RxOffload::Blank(Ip::V6), true, true),
        // FE-12: Windows insists on both.
        (RxOffload::Gso(gso(Ip::V4, 1448)), true, true),
    ] {
        let (mut front, mut back) = pair(0);
        offer(&mut front, 0, 10);
        place(&mut back, &plan(&features(), 5000, offload)).unwrap();
        let _ = back.publish();
        let received = receive(&mut front, 0).unwrap();
        assert_eq!((received.validated, received.blank), (validated, blank));
    }
}

/// All that can be said of a frame, at once: the extra infos are behind the first buffer, and the
/// data is behind its headroom.
#[test]
fn extras_take_buffers_that_stay_empty() {
    let features = RxFeatures {
        hash: true,
        headroom: Headroom::new(256).unwrap(),
        ..features()
    };
    let (mut front, mut back) = pair(u32::MAX - 2);
    offer(&mut front, 0, 10);
    let gso = gso(Ip::V6, 1428);
    let plan = features
        .plan(9000, RxOffload::Gso(gso), Some(HASH))
        .unwrap();
    assert_eq!((plan.requests(), plan.buffers()), (6, 3));
    let pieces: Vec<_> = place(&mut back, &plan)
        .unwrap()
        .into_iter()
        .map(|piece| (piece.gref.raw(), piece.offset, piece.from, piece.len))
        .collect();
    let expected = [
        (0x00de_0000, 256, 0, 3840),
        (0x00de_0004, 0, 3840, 4096),
        (0x00de_0005, 0, 7936, 1064),
    ];
    assert_eq!(pieces, expected);
    let _ = back.publish();
    let received = receive(&mut front, 0).unwrap();
    assert_eq!(received.parts, [(0, 256, 3840), (4, 0, 4096), (5, 0, 1064)]);
    let expected = [
        Extra::gso(gso).followed(),
        Extra::hash(HASH).followed(),
        Extra::xdp(256),
    ];
    assert_eq!(received.extras, expected);
    assert_eq!(back.waiting(4), Ok(4));
}

#[test]
fn too_few_buffers_are_left_for_later() {
    let (mut front, mut back) = pair(0);
    let plan = plan(&features(), 9000, RxOffload::Plain);
    offer(&mut front, 0, 2);
    assert_eq!(place(&mut back, &plan), None);
    assert_eq!(back.waiting(3), Ok(2));
    assert_eq!(back.publish(), Notify::NotNeeded);
    // The third one wakes us, and not a second time.
    assert_eq!(back.rearm(3), Ok(false));
    assert!(offer(&mut front, 2, 1), "woken");
    assert_eq!(back.rearm(3), Ok(true));
    assert_eq!(place(&mut back, &plan).unwrap().len(), 3);
}

#[test]
fn a_piece_that_cannot_be_copied_is_an_error_in_its_slot() {
    let (mut front, mut back) = pair(7);
    offer(&mut front, 0, 20);
    let plan = features()
        .plan(9000, RxOffload::Gso(gso(Ip::V4, 1000)), None)
        .unwrap();
    let pieces = place(&mut back, &plan).unwrap();
    back.fail(pieces[1].slot);
    let _ = back.publish();
    // Too late now.
    back.fail(pieces[0].slot);
    let words: Vec<[u32; 2]> = std::iter::from_fn(|| front.take_response().unwrap()).collect();
    assert_eq!(words.len(), 4);
    let answers = [0, 2, 3].map(|at| RxAnswer::decode(words[at]));
    assert_eq!(answers.map(|answer| answer.status), [4096, -1, 808]);
    assert_eq!(answers.map(|answer| answer.id), [0, 2, 3]);
    assert_eq!(answers.map(|answer| answer.flags), [15, 4, 0]);
    // And the next frame is none the worse.
    place(&mut back, &plan).unwrap();
    let _ = back.publish();
    assert_eq!(receive(&mut front, 4).unwrap().parts.len(), 3);
}

/// A failure that is noted too late, when its slot is another frame's, is not that frame's.
#[test]
fn a_failure_hits_no_later_frame() {
    let (mut front, mut back) = pair(0);
    let plan = plan(&features(), 60, RxOffload::Plain);
    offer(&mut front, 0, 256);
    let late = place(&mut back, &plan).unwrap()[0].slot;
    for _ in 1..256 {
        place(&mut back, &plan).unwrap();
    }
    let _ = back.publish();
    for slot in 0..256 {
        assert!(receive(&mut front, slot).is_some());
    }
    offer(&mut front, 256, 1);
    place(&mut back, &plan).unwrap();
    back.fail(late);
    let _ = back.publish();
    assert!(receive(&mut front, 256).is_some());
}

/// The journal of what a slot held is the slot itself until its answer is shown.
#[test]
fn answers_are_written_when_they_are_shown() {
    let (mut front, mut back) = pair(0);
    offer(&mut front, 0, 1);
    place(&mut back, &plan(&features(), 60, RxOffload::Plain)).unwrap();
    let gref = front.memory()[17].load(Ordering::Relaxed);
    assert_eq!(gref, 0x00de_0000);
    let _ = back.publish();
    assert_eq!(front.memory()[17].load(Ordering::Relaxed), 60 << 16);
}

#[test]
fn rng_01_impossible_indices_end_the_connection() {
    for lie in [257, 1 << 31, u32::MAX] {
        let (front, mut back) = pair(0);
        front.memory()[0].store(lie, Ordering::Relaxed);
        let overrun = back.waiting(1).unwrap_err();
        assert!(matches!(overrun, Overrun { slots: 256, .. }));
        let plan = plan(&features(), 60, RxOffload::Plain);
        assert_eq!(back.place(&plan, |_| ()), Err(overrun));
        assert_eq!(back.rearm(1), Err(overrun));
    }
}

fn all_features() -> impl Strategy<Value = RxFeatures> {
    let usual = prop::bool::weighted(0.8);
    let headroom = prop_oneof![Just(0), Just(256), 0..=2048_u32];
    (usual, any::<[bool; 5]>(), headroom).prop_map(|(sg, flags, headroom)| {
        let [blank_v4, blank_v6, gso_v4, gso_v6, hash] = flags;
        RxFeatures {
            sg,
            blank_v4,
            blank_v6,
            gso_v4,
            gso_v6,
            hash,
            headroom: Headroom::new(headroom).unwrap(),
        }
    })
}

fn frames() -> impl Strategy<Value = (u32, RxOffload, bool)> {
    let len = prop_oneof![
        4 => 14..1519_u32,
        2 => 14..=MAX_RX_FRAME,
        1 => (1..17_u32, 0..3_u32).prop_map(|(pages, more)| pages * 4096 - 1 + more),
    ];
    let ip = prop::sample::select(vec![Ip::V4, Ip::V6]);
    let offload = (0..4, ip, 1..2000_u16).prop_map(|(which, ip, size)| match which {
        0 => RxOffload::Plain,
        1 => RxOffload::Validated,
        2 => RxOffload::Blank(ip),
        _ => RxOffload::Gso(gso(ip, size)),
    });
    (len, offload, any::<bool>())
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(2000) })]

    /// Any frames to any frontend: what arrives is every byte once, in order, in its own slots; and
    /// nothing ever takes more than was said to be the most.
    #[test]
    fn frames_arrive_whole_and_in_order(
        features in all_features(),
        frames in prop::collection::vec(frames(), 1..30),
        start in prop_oneof![Just(0), any::<u32>(), u32::MAX - 300..=u32::MAX],
    ) {
        let (mut front, mut back) = pair(start);
        let (mut offered, mut taken) = (0_u16, 0_u16);
        for (len, offload, hashed) in frames {
            let Ok(plan) = features.plan(len, offload, hashed.then_some(HASH)) else {
                continue;
            };
            let mtu = len.saturating_sub(18);
            prop_assert!(plan.requests() <= features.most_requests(mtu));
            while u32::from(offered - taken) < plan.requests() {
                prop_assert_eq!(place(&mut back, &plan), None);
                offer(&mut front, offered, 1);
                offered += 1;
            }
            let pieces = place(&mut back, &plan).unwrap();
            let _ = back.publish();
            let received = receive(&mut front, taken).unwrap();
            taken += u16::try_from(plan.requests()).unwrap();
            prop_assert_eq!(receive(&mut front, taken), None);

            let mut from = 0;
            prop_assert_eq!(pieces.len(), received.parts.len());
            for (piece, part) in pieces.iter().zip(&received.parts) {
                prop_assert_eq!(piece.from, from);
                prop_assert_eq!(piece.gref.raw(), 0x00de_0000 + u32::from(part.0));
                prop_assert_eq!((piece.offset, piece.len), (part.1, part.2));
                from += u32::from(piece.len);
            }
            prop_assert_eq!(from, len);
            prop_assert_eq!(pieces.len() + received.extras.len(), plan.requests() as usize);
            let kinds: Vec<u8> = received.extras.iter().map(|extra| extra.kind()).collect();
            let expected: Vec<u8> = [
                matches!(offload, RxOffload::Gso(_)).then_some(1),
                (hashed && features.hash).then_some(4),
                (features.headroom.bytes() > 0).then_some(5),
            ]
            .into_iter()
            .flatten()
            .collect();
            prop_assert_eq!(kinds, expected);
        }
    }
}
