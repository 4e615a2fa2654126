//! The validation catalogue for discards.

use std::num::NonZeroU32;

use ring_proto::blkif::{
    Abi, Body, DiscardLimits, Extent, Geometry, Reject, Request, Sent, Status, Why,
};
use ring_proto::{Sector, blkif};

use crate::{ABIS, disk, raw};

fn with(granularity: u32, alignment: u32, secure: bool) -> Geometry {
    let granularity = NonZeroU32::new(granularity).unwrap();
    let limits = DiscardLimits {
        granularity,
        alignment,
        secure,
    };
    Geometry {
        discard: Some(limits),
        ..disk()
    }
}

fn discard(
    abi: Abi,
    flags: u8,
    sector: u64,
    sectors: u64,
    geometry: &Geometry,
) -> Result<Extent, Reject> {
    let raw = raw(
        abi,
        Sent::Discard {
            flags,
            handle: 1,
            id: 2,
            sector,
            sectors,
        },
    );
    match Request::parse(&raw, geometry)?.body {
        Body::Discard(extent) => Ok(extent),
        other => panic!("{other:?}"),
    }
}

#[test]
fn blk_09_only_whole_units_inside_are_discarded() {
    for (unit, alignment) in (1..10).flat_map(|unit| (0..13).map(move |shift| (unit, shift))) {
        let geometry = with(unit, alignment, false);
        for (first, count) in (0..30u64).flat_map(|first| (1..30u64).map(move |n| (first, n))) {
            // Unit by unit, on a disk small enough to count on.
            let inside = |sector: u64| sector >= first && sector < first + count;
            let (unit, shift) = (u64::from(unit), u64::from(alignment % unit));
            let whole: Vec<u64> = (0..70)
                .filter(|sector| {
                    let start = (sector + unit - shift) / unit * unit + shift;
                    start >= unit && (start - unit..start).all(inside)
                })
                .collect();
            let extent = discard(Abi::Native, 0, first, count, &geometry).unwrap();
            let sectors: Vec<u64> =
                (extent.sector().raw()..extent.sector().raw() + extent.sectors()).collect();
            assert_eq!(
                sectors, whole,
                "{count} from {first}, units of {unit} from {alignment}"
            );
            assert_eq!(extent.is_empty(), whole.is_empty());
        }
    }
}

#[test]
fn blk_09_what_is_not_on_the_disk_is_refused() {
    let geometry = with(8, 0, false);
    for abi in ABIS {
        for (sector, sectors) in [
            (0, 1001),
            (1000, 1),
            (992, 9),
            (1, u64::MAX),
            (u64::MAX, u64::MAX),
            (u64::MAX, 1),
            (0, 1 << 63),
        ] {
            let reject = discard(abi, 0, sector, sectors, &geometry).unwrap_err();
            assert_eq!(
                reject.why(),
                Why::OutsideDisk {
                    sector,
                    count: sectors,
                    disk: 1000
                }
            );
            assert_eq!(Status::from(&reject), Status::Error);
        }
    }
    let huge = Geometry {
        sectors: Sector::new(u64::MAX),
        ..geometry
    };
    assert!(
        discard(Abi::Native, 0, 0, u64::MAX, &huge).is_err(),
        "offset beyond i64"
    );
    let most = i64::MAX as u64 / 512;
    let extent = discard(Abi::Native, 0, 0, most, &huge).unwrap();
    assert!(extent.offset() + extent.bytes() <= i64::MAX as u64);
}

#[test]
fn blk_09_nothing_to_discard_is_fine() {
    for sector in [0, 5, 1000, u64::MAX] {
        assert!(
            discard(Abi::X86_32, 0, sector, 0, &with(8, 0, false))
                .unwrap()
                .is_empty()
        );
    }
}

#[test]
fn blk_09_secure_is_ignored_unless_offered_and_then_exact() {
    assert!(
        !discard(Abi::Native, 1, 0, 16, &with(8, 0, false))
            .unwrap()
            .is_secure()
    );
    assert!(
        !discard(Abi::Native, 0, 0, 16, &with(8, 0, true))
            .unwrap()
            .is_secure()
    );
    assert!(
        discard(Abi::Native, 1, 8, 16, &with(8, 0, true))
            .unwrap()
            .is_secure()
    );
    let reject = discard(Abi::Native, 1, 1, 16, &with(8, 0, true)).unwrap_err();
    assert_eq!(
        reject.why(),
        Why::SecureUnaligned {
            sector: 1,
            count: 16,
            granularity: 8
        }
    );
    assert_eq!(Status::from(&reject), Status::Error);
}

#[test]
fn fe_16_a_discard_that_was_not_offered_is_not_supported() {
    for read_only in [false, true] {
        let geometry = Geometry {
            discard: None,
            read_only,
            ..disk()
        };
        let reject = discard(Abi::Native, 0, 0, 8, &geometry).unwrap_err();
        assert_eq!(reject.response().status(), Status::NotSupported);
        assert_eq!(reject.operation(), blkif::op::DISCARD);
    }
}
