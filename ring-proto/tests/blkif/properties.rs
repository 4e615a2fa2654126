//! Any 112 bytes, on any disk, in any layout: no panic, and the verdict of the independent reader.

use std::num::NonZeroU32;

use proptest::prelude::*;
use ring_proto::Sector;
use ring_proto::blkif::{Abi, DiscardLimits, Geometry, RawRequest, Request, SectorSize};

use crate::ABIS;
use crate::oracle::{id, judge, verdict};

fn geometries() -> impl Strategy<Value = Geometry> {
    let limits =
        (1..70u32, 0..100u32, any::<bool>()).prop_map(|(unit, alignment, secure)| DiscardLimits {
            granularity: NonZeroU32::new(unit).unwrap(),
            alignment,
            secure,
        });
    (
        prop_oneof![4 => 0..4000u64, 1 => Just(u64::MAX), 1 => any::<u64>()],
        prop::sample::select(vec![512, 512, 512, 1024, 2048, 4096]),
        prop::bool::weighted(0.2),
        prop::option::of(limits),
        prop_oneof![Just(0), 1..600u16, any::<u16>()],
    )
        .prop_map(
            |(sectors, block, read_only, discard, max_indirect_segments)| Geometry {
                sectors: Sector::new(sectors),
                sector_size: SectorSize::new(block).unwrap(),
                read_only,
                discard,
                max_indirect_segments,
            },
        )
}

fn put(bytes: &mut [u8; 112], at: usize, value: &[u8]) {
    bytes[at..at + value.len()].copy_from_slice(value);
}

/// Mostly near what is valid: random bytes alone are refused in the first byte.
fn slots(abi: Abi) -> impl Strategy<Value = [u8; 112]> {
    let sectors = prop_oneof![
        6 => (0..25u64).prop_map(|n| n * 8),
        2 => 0..200u64,
        1 => any::<u64>(),
        1 => (0..4u64).prop_map(|n| u64::MAX - n),
    ];
    let bound = prop_oneof![20 => Just((0, 8)), 1 => (0..8u8, 0..9u8)];
    let bounds = prop::collection::vec((any::<u32>(), bound, any::<u16>()), 11);
    let parts = (
        0..8u8,
        0..13u8,
        any::<u16>(),
        any::<u64>(),
        sectors.clone(),
        sectors,
        bounds,
    );
    let skip = if abi == Abi::Native { 8 } else { 4 };
    let shaped = parts.prop_map(move |(op, count, handle, id, sector, discard, segments)| {
        let mut bytes = [0xee; 112];
        put(&mut bytes, 0, &[op, count]);
        put(&mut bytes, 2, &(handle % 700).to_le_bytes());
        put(&mut bytes, skip, &id.to_le_bytes());
        put(&mut bytes, skip + 8, &sector.to_le_bytes());
        for (index, (gref, (first, len), padding)) in segments.into_iter().enumerate() {
            let at = skip + 16 + 8 * index;
            put(&mut bytes, at, &gref.to_le_bytes());
            put(
                &mut bytes,
                at + 4,
                &[first, (first + len).saturating_sub(1)],
            );
            put(&mut bytes, at + 6, &padding.to_le_bytes());
        }
        if op == 5 {
            put(&mut bytes, skip + 16, &discard.to_le_bytes());
        }
        bytes
    });
    prop_oneof![9 => shaped, 1 => any::<[[u8; 28]; 4]>().prop_map(|parts| {
        let mut bytes = [0; 112];
        bytes.copy_from_slice(parts.as_flattened());
        bytes
    })]
}

fn words(bytes: &[u8; 112]) -> [u32; 28] {
    std::array::from_fn(|at| u32::from_le_bytes(std::array::from_fn(|byte| bytes[4 * at + byte])))
}

fn agrees(abi: Abi, bytes: &[u8; 112], geometry: &Geometry) -> Result<(), TestCaseError> {
    let raw = RawRequest::decode(abi, words(bytes));
    let parsed = Request::parse(&raw, geometry);
    prop_assert_eq!(verdict(&parsed), judge(bytes, abi, geometry));
    let echoed = match &parsed {
        Ok(request) => {
            prop_assert_eq!(request.id, request.echo().id());
            prop_assert_eq!(request.echo().operation(), raw.echoed_operation());
            request.id
        }
        Err(reject) => reject.id(),
    };
    prop_assert_eq!(echoed, id(bytes, abi));
    // A journal keeps the words: the same request comes of them.
    let again = RawRequest::from_words(*raw.words());
    prop_assert_eq!(Request::parse(&again, geometry), parsed);
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(20_000) })]

    #[test]
    fn any_native_slot_is_judged_as_the_tables_say(bytes in slots(Abi::Native), geometry in geometries()) {
        agrees(Abi::Native, &bytes, &geometry)?;
    }

    #[test]
    fn any_x86_32_slot_is_judged_as_the_tables_say(bytes in slots(Abi::X86_32), geometry in geometries()) {
        agrees(Abi::X86_32, &bytes, &geometry)?;
    }
}

/// The shaped slots are worth something only if they are often accepted.
#[test]
fn shaped_slots_are_often_accepted() {
    use proptest::strategy::ValueTree;
    use proptest::test_runner::TestRunner;
    for abi in ABIS {
        let mut runner = TestRunner::deterministic();
        let accepted = (0..2000)
            .filter(|_| {
                let bytes = slots(abi).new_tree(&mut runner).unwrap().current();
                let geometry = geometries().new_tree(&mut runner).unwrap().current();
                let raw = RawRequest::decode(abi, words(&bytes));
                Request::parse(&raw, &geometry).is_ok()
            })
            .count();
        assert!(accepted > 250, "{abi}: {accepted} of 2000");
    }
}
