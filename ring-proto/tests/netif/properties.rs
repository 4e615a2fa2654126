//! Any slots, in any portions: no panic, and the verdicts of the independent reader.

use std::num::NonZeroU16;

use proptest::prelude::*;
use ring_proto::netif::{Assembler, TX_RING, TxAnswer, TxOffer, TxRing, TxStatus, Verdict};
use ring_proto::{FrontRing, Notify};

use crate::oracle::{Event, Slot, What, event, judge, what};
use crate::page;

pub(crate) fn offers() -> impl Strategy<Value = TxOffer> {
    (
        prop::sample::select(vec![1518, 9018, 65_535]),
        prop::bool::weighted(0.9),
        prop::bool::weighted(0.9),
        prop::sample::select(vec![1_u16, 88, 256]),
    )
        .prop_map(|(max_frame, gso_v4, gso_v6, floor)| TxOffer {
            max_frame,
            gso_v4,
            gso_v6,
            gso_floor: NonZeroU16::new(floor).unwrap(),
        })
}

fn slot(gref: u32, offset: u16, flags: u16, id: u16, size: u16) -> Slot {
    let mut bytes = [0; 12];
    bytes[..4].copy_from_slice(&gref.to_le_bytes());
    for (at, value) in [(4, offset), (6, flags), (8, id), (10, size)] {
        bytes[at..at + 2].copy_from_slice(&value.to_le_bytes());
    }
    bytes
}

fn sizes() -> impl Strategy<Value = u16> {
    prop_oneof![6 => 1..400_u16, 3 => 1..4097_u16, 1 => Just(0), 1 => Just(4096)]
}

fn extras() -> impl Strategy<Value = Vec<Slot>> {
    let kind =
        prop_oneof![30 => Just(1_u8), 10 => Just(4), 5 => Just(5), 1 => 2..4_u8, 1 => 0..8_u8];
    let one =
        (kind, any::<[u8; 10]>(), 0..3_u8, 80..2000_u16).prop_map(|(kind, noise, gso, size)| {
            let mut bytes = [0; 12];
            bytes[2..].copy_from_slice(&noise);
            bytes[0] = kind;
            bytes[1] = noise[9] & 0xfe;
            if kind == 1 {
                bytes[2..4].copy_from_slice(&size.to_le_bytes());
                bytes[4] = if gso == 0 { noise[0] % 4 } else { gso };
            } else if kind == 4 {
                bytes[2] %= 5;
                bytes[3] %= 2;
            }
            bytes
        });
    let count = prop_oneof![12 => Just(0..=0_usize), 6 => Just(1..=2), 1 => Just(0..=7)];
    count.prop_flat_map(move |count| prop::collection::vec(one.clone(), count))
}

/// The slots of something that is mostly a packet.
fn packets() -> impl Strategy<Value = Vec<Slot>> {
    let count = prop_oneof![8 => Just(0..=0_usize), 6 => Just(1..=4), 3 => Just(5..=18), 1 => Just(17..=23)];
    let rest = count.prop_flat_map(|count| prop::collection::vec(sizes(), count));
    let lie = prop_oneof![20 => Just(0_u16), 1 => any::<u16>(), 1 => 65_000..=u16::MAX];
    let offset = prop_oneof![60 => Just(0_u16), 1 => 0..5000_u16, 1 => any::<u16>()];
    (sizes(), rest, extras(), lie, offset, any::<[u16; 3]>()).prop_map(
        |(first, rest, extras, lie, offset, [gref, flags, id])| {
            let len = rest
                .iter()
                .fold(first.wrapping_add(lie), |sum, size| sum.wrapping_add(*size));
            let more = |more: bool| if more { 4 } else { 0 };
            let extra = if extras.is_empty() { 0 } else { 8 };
            let flags = flags & !12;
            let first_offset = if rest.is_empty() { offset } else { 0 };
            let gref = u32::from(gref) << 8;
            let mut slots = vec![slot(
                gref,
                first_offset,
                flags | extra | more(!rest.is_empty()),
                id,
                len,
            )];
            let last = extras.len().wrapping_sub(1);
            slots.extend(extras.into_iter().enumerate().map(|(at, mut extra)| {
                extra[1] |= u8::from(at != last);
                extra
            }));
            let last = rest.len().wrapping_sub(1);
            slots.extend(rest.into_iter().enumerate().map(|(at, size)| {
                let offset = if at == 0 { offset } else { 4096 - size };
                slot(gref + 1, offset, more(at != last), id.wrapping_add(1), size)
            }));
            slots
        },
    )
}

pub(crate) fn streams() -> impl Strategy<Value = Vec<Slot>> {
    let any_slot = any::<[u8; 12]>().prop_map(|slot| vec![slot]);
    let part = prop_oneof![200 => packets(), 1 => any_slot];
    prop::collection::vec(part, 1..40).prop_map(|parts| parts.concat())
}

pub(crate) fn words(slot: &Slot) -> [u32; 3] {
    std::array::from_fn(|at| u32::from_le_bytes(std::array::from_fn(|byte| slot[4 * at + byte])))
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(5000) })]

    #[test]
    fn any_slots_are_judged_as_the_tables_say(slots in streams(), offer in offers()) {
        let expected = judge(&slots, &offer);
        let mut assembler = Assembler::new(offer);
        let mut left = expected.as_slice();
        let mut since = 0;
        for one in &slots {
            since += 1;
            match assembler.push(words(one)) {
                Ok(None) => prop_assert_eq!(usize::from(assembler.waiting()), since),
                Ok(Some(assembled)) => {
                    let (expected, rest) = left.split_first().unwrap();
                    prop_assert_eq!(&event(&assembled), expected);
                    (left, since) = (rest, 0);
                }
                Err(fault) => {
                    let fatal = left.first().unwrap();
                    prop_assert_eq!(&fatal.what, &What::Fatal);
                    prop_assert_eq!(fatal.slots, since);
                    prop_assert_eq!(assembler.push(words(one)), Err(fault));
                    return Ok(());
                }
            }
        }
        prop_assert_eq!(left, &[]);
    }

    /// Through a ring: portions cut anywhere, packets settled in any order, answers in one.
    #[test]
    fn answers_come_in_the_order_of_the_slots(
        slots in streams(),
        offer in offers(),
        start in prop_oneof![Just(0), any::<u32>(), u32::MAX - 300..=u32::MAX],
        dice in prop::collection::vec(any::<u8>(), 1..60),
    ) {
        let expected = judge(&slots, &offer);
        let mut walk = Walk::new(offer, start, slots.clone());
        let mut dice = dice.into_iter().cycle();
        let mut seen = Vec::new();
        let (mut rounds, mut broken) = (0, false);
        while !broken && walk.answered < walk.due(&expected) {
            rounds += 1;
            prop_assert!(rounds < 10_000, "{} of {}", walk.answered, walk.due(&expected));
            walk.send(1 + usize::from(dice.next().unwrap()) % 40);
            broken = walk.take(&mut seen);
            walk.settle(usize::from(dice.next().unwrap()));
            walk.collect();
        }
        walk.finish();
        let good: Vec<&Event> = expected.iter().filter(|event| event.what != What::Fatal).collect();
        prop_assert_eq!(seen.len(), good.len());
        for (event, seen) in good.iter().zip(&seen) {
            prop_assert_eq!((&event.what, event.slots), (&seen.what, seen.slots));
        }
        prop_assert_eq!(&walk.answers, &answers(&slots, &good));
    }
}

/// The id and status that each slot of the events is answered with.
fn answers(slots: &[Slot], events: &[&Event]) -> Vec<TxAnswer> {
    let mut answers = Vec::new();
    for event in events {
        for slot in 0..event.slots {
            let bytes = slots[answers.len()];
            answers.push(if (1..=event.extras).contains(&slot) {
                TxAnswer {
                    id: 0,
                    status: TxAnswer::NULL,
                }
            } else {
                TxAnswer {
                    id: u16::from_le_bytes([bytes[8], bytes[9]]),
                    status: status(&event.what).wire(),
                }
            });
        }
    }
    answers
}

/// Some status for everything that can be told apart.
fn status(what: &What) -> TxStatus {
    match what {
        What::Packet { len, .. } if len % 3 == 0 => TxStatus::Dropped,
        What::Refused => TxStatus::Error,
        _ => TxStatus::Okay,
    }
}

pub(crate) struct Seen {
    what: What,
    slots: usize,
}

/// A frontend with slots to send, and a backend with packets under way.
struct Walk {
    front: FrontRing<crate::Memory>,
    back: TxRing<crate::Memory>,
    slots: std::vec::IntoIter<Slot>,
    open: Vec<(ring_proto::netif::Receipt, TxStatus)>,
    answers: Vec<TxAnswer>,
    answered: usize,
}

impl Walk {
    fn new(offer: TxOffer, start: u32, slots: Vec<Slot>) -> Self {
        let memory = page(TX_RING);
        let front = FrontRing::init_at(memory.clone(), TX_RING, start).unwrap();
        Self {
            front,
            back: TxRing::attach(memory, offer).unwrap(),
            slots: slots.into_iter(),
            open: Vec::new(),
            answers: Vec::new(),
            answered: 0,
        }
    }

    /// Slots that will be answered.
    fn due(&self, expected: &[Event]) -> usize {
        let good = expected.iter().filter(|event| event.what != What::Fatal);
        good.map(|event| event.slots).sum::<usize>() + usize::from(self.faulty(expected))
    }

    /// With a fault at the end there is always one more to wait for: the fault.
    fn faulty(&self, expected: &[Event]) -> bool {
        expected
            .last()
            .is_some_and(|event| event.what == What::Fatal)
    }

    fn send(&mut self, count: usize) {
        for _ in 0..count {
            if self.front.open() == self.front.slots() {
                break;
            }
            let Some(slot) = self.slots.next() else { break };
            self.front.push_request(&words(&slot)).unwrap();
        }
        let _ = self.front.publish();
    }

    /// Takes all that there is; `true` once the connection is over.
    fn take(&mut self, seen: &mut Vec<Seen>) -> bool {
        loop {
            match self.back.take() {
                Ok(None) => return false,
                Err(fault) => {
                    assert_eq!(self.back.take().map(|_| ()), Err(fault));
                    return true;
                }
                Ok(Some((receipt, verdict))) => {
                    let what = what(&verdict);
                    assert!(!matches!(verdict, Verdict::Bad(_)) || what == What::Refused);
                    let slots = usize::from(receipt.slots());
                    self.open.push((receipt, status(&what)));
                    seen.push(Seen { what, slots });
                }
            }
        }
    }

    /// Settles some packets, not always the oldest.
    fn settle(&mut self, dice: usize) {
        for _ in 0..1 + dice % 8 {
            if self.open.is_empty() {
                break;
            }
            let (receipt, status) = self.open.swap_remove(dice % self.open.len());
            self.back.settle(receipt, status);
        }
        let _: Notify = self.back.publish();
    }

    fn collect(&mut self) {
        while let Some(words) = self.front.take_response().unwrap() {
            self.answers.push(TxAnswer::decode(words));
        }
        self.answered = self.answers.len();
    }

    fn finish(&mut self) {
        for (receipt, status) in self.open.drain(..) {
            self.back.settle(receipt, status);
        }
        let _: Notify = self.back.publish();
        self.collect();
    }
}

/// The streams are worth something only if most packets are taken, and some of all kinds come.
#[test]
fn streams_are_mostly_packets_and_sometimes_all_else() {
    use proptest::strategy::ValueTree;
    use proptest::test_runner::TestRunner;
    let mut runner = TestRunner::deterministic();
    let mut counts = [0; 4];
    for _ in 0..500 {
        let slots = streams().new_tree(&mut runner).unwrap().current();
        let offer = offers().new_tree(&mut runner).unwrap().current();
        for event in judge(&slots, &offer) {
            counts[match event.what {
                What::Packet { .. } => 0,
                What::Add(_) | What::Remove(_) => 1,
                What::Refused => 2,
                What::Fatal => 3,
            }] += 1;
        }
    }
    let [packets, edits, refused, fatal] = counts;
    assert!(packets > 2000 && edits > 50 && refused > 300, "{counts:?}");
    assert!((50..450).contains(&fatal), "{counts:?}");
}
