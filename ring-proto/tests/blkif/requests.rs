//! The validation catalogue for reads, writes and flushes, each rule over its whole range.

use ring_proto::Sector;
use ring_proto::blkif::{Abi, Body, Geometry, RawSegment, Request, SectorSize, Sent, Status, Why};

use crate::{ABIS, disk, one_sector, raw, refused, segment};

fn direct(operation: u8, nr_segments: u8, sector: u64, segments: &[RawSegment]) -> Sent<'_> {
    Sent::Direct {
        operation,
        nr_segments,
        handle: 3,
        id: u64::MAX,
        sector,
        segments,
    }
}

#[test]
fn blk_01_no_sector_outside_the_disk() {
    for size in [0, 1, 7, 8, 1000, 1 << 40, u64::MAX] {
        let geometry = Geometry {
            sectors: Sector::new(size),
            ..disk()
        };
        let edges = [
            0,
            1,
            size,
            1 << 54,
            1 << 63,
            u64::MAX,
            u64::MAX / 512,
            i64::MAX as u64 / 512,
        ];
        for edge in edges {
            for sector in (0..20u64).map(|near| edge.wrapping_add(near).wrapping_sub(10)) {
                for last in 0..8u8 {
                    let raw = raw(Abi::Native, direct(1, 1, sector, &[segment(0, last)]));
                    let end = u128::from(sector) + u128::from(last) + 1;
                    let fits = end <= u128::from(size) && end * 512 <= i64::MAX as u128;
                    let parsed = Request::parse(&raw, &geometry);
                    assert_eq!(parsed.is_ok(), fits, "{sector}+{last} of {size}");
                    if let Ok(Request {
                        body: Body::Write(transfer),
                        ..
                    }) = parsed
                    {
                        assert_eq!(u128::from(transfer.offset()), u128::from(sector) * 512);
                    }
                }
            }
        }
    }
}

#[test]
fn blk_02_one_to_eleven_segments() {
    let segments = [segment(0, 7); 11];
    for abi in ABIS {
        for operation in [0, 1] {
            for count in 0..=255 {
                let raw = raw(abi, direct(operation, count, 0, &segments));
                let parsed = Request::parse(&raw, &disk());
                assert_eq!(parsed.is_ok(), (1..=11).contains(&count), "{count}");
                match parsed.map_err(|reject| reject.why()) {
                    Err(why) if count == 0 => assert_eq!(why, Why::NoSegments),
                    Err(why) => {
                        let segments = u16::from(count);
                        assert_eq!(why, Why::TooManySegments { segments, max: 11 });
                    }
                    Ok(_) => {}
                }
            }
        }
    }
}

#[test]
fn blk_03_every_segment_is_inside_its_page() {
    for abi in ABIS {
        for first in 0..=255 {
            for last in 0..=255 {
                // The bad one behind a good one: one refuses all.
                let segments = [segment(0, 7), segment(first, last)];
                let raw = raw(abi, direct(0, 2, 0, &segments));
                let parsed = Request::parse(&raw, &disk());
                assert_eq!(
                    parsed.is_ok(),
                    first <= last && last < 8,
                    "{first}..={last}"
                );
                if let Err(reject) = parsed {
                    assert_eq!(
                        reject.why(),
                        Why::Segment {
                            index: 1,
                            first,
                            last
                        }
                    );
                    assert_eq!(Status::from(&reject), Status::Error);
                }
            }
        }
    }
}

#[test]
fn blk_04_whole_logical_blocks() {
    for (bytes, block) in [(512, 1), (1024, 2), (2048, 4), (4096, 8)] {
        let geometry = Geometry {
            sector_size: SectorSize::new(bytes).unwrap(),
            ..disk()
        };
        for sector in 0..32 {
            for first in 0..8 {
                for last in first..8 {
                    let raw = raw(Abi::Native, direct(0, 1, sector, &[segment(first, last)]));
                    let whole = sector % block == 0 && u64::from(last - first + 1) % block == 0;
                    let parsed = Request::parse(&raw, &geometry);
                    assert_eq!(
                        parsed.is_ok(),
                        whole,
                        "{sector}: {first}..={last} of {block}"
                    );
                }
            }
        }
    }
}

#[test]
fn blk_06_nothing_writes_to_a_read_only_disk() {
    let geometry = Geometry {
        read_only: true,
        ..disk()
    };
    assert!(Request::parse(&one_sector(0, 0), &geometry).is_ok());
    for operation in [1, 3] {
        let reject = refused(&one_sector(operation, 0), &geometry);
        assert_eq!(
            (reject.why(), reject.operation()),
            (Why::ReadOnly, operation)
        );
        assert_eq!(Status::from(&reject), Status::Error);
    }
    for flags in [0, 1] {
        let sent = Sent::Discard {
            flags,
            handle: 0,
            id: 1,
            sector: 0,
            sectors: 8,
        };
        assert_eq!(
            refused(&raw(Abi::Native, sent), &geometry).why(),
            Why::ReadOnly
        );
    }
    let pages = [ring_proto::GrantRef::new(1)];
    for (operation, allowed) in [(0, true), (1, false)] {
        let sent = Sent::Indirect {
            operation,
            nr_segments: 20,
            handle: 0,
            id: 1,
            sector: 0,
            pages: &pages,
        };
        assert_eq!(
            Request::parse(&raw(Abi::Native, sent), &geometry).is_ok(),
            allowed
        );
    }
}

#[test]
fn an_empty_flush_is_executed_whatever_its_sector_and_disk() {
    for abi in ABIS {
        for sector in [0, 999, 1000, u64::MAX] {
            for read_only in [false, true] {
                let geometry = Geometry {
                    read_only,
                    sector_size: SectorSize::B4096,
                    ..disk()
                };
                let raw = raw(abi, direct(3, 0, sector, &[]));
                let request = Request::parse(&raw, &geometry).unwrap();
                assert_eq!(request.body, Body::Flush(None));
            }
        }
    }
}

#[test]
fn blk_08_a_flush_may_bring_data() {
    let raw = one_sector(3, 999);
    let Ok(Request {
        body: Body::Flush(Some(data)),
        ..
    }) = Request::parse(&raw, &disk())
    else {
        panic!("not a flush with data");
    };
    assert_eq!((data.sector(), data.bytes()), (Sector::new(999), 512));
    assert!(matches!(
        refused(&one_sector(3, 1000), &disk()).why(),
        Why::OutsideDisk { .. }
    ));
}

#[test]
fn blk_07_unknown_operations_are_not_supported_and_echoed() {
    for abi in ABIS {
        for operation in 0..=255 {
            for count in [0, 1, 255] {
                let raw = raw(abi, direct(operation, count, 0, &[segment(0, 0)]));
                let parsed = Request::parse(&raw, &disk());
                if matches!(operation, 0 | 1 | 3 | 5 | 6) {
                    continue;
                }
                let response = parsed.unwrap_err().response();
                assert_eq!(response.operation(), operation);
                assert_eq!(response.status(), Status::NotSupported);
                assert_eq!(response.id(), u64::MAX);
            }
        }
    }
}

#[test]
fn segments_are_handed_out_as_sent() {
    let segments: Vec<RawSegment> = (0..11u8)
        .map(|n| RawSegment::new(ring_proto::GrantRef::new(u32::from(n) << 24 | 9), n % 8, 7))
        .collect();
    for abi in ABIS {
        let raw = raw(abi, direct(1, 11, 8, &segments));
        let Ok(Request {
            body: Body::Write(transfer),
            ..
        }) = Request::parse(&raw, &disk())
        else {
            panic!("refused");
        };
        for (n, segment) in (0..11u16).zip(transfer.segments()) {
            assert_eq!(segment.gref().raw(), u32::from(n) << 24 | 9);
            assert_eq!(segment.offset(), n % 8 * 512);
            assert_eq!(segment.bytes(), 4096 - n % 8 * 512);
        }
        assert_eq!(transfer.segments().into_iter().len(), 11);
    }
}
