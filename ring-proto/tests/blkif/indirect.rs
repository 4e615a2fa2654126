//! The validation catalogue for indirect requests.

use ring_proto::GrantRef;
use ring_proto::blkif::{Abi, Body, Geometry, Indirect, RawRequest, Request, Sent, Status, Why};

use crate::{ABIS, disk, raw, refused, segment};

fn indirect(abi: Abi, operation: u8, nr_segments: u16, sector: u64) -> RawRequest {
    let pages: Vec<GrantRef> = (100..108).map(GrantRef::new).collect();
    raw(
        abi,
        Sent::Indirect {
            operation,
            nr_segments,
            handle: 7,
            id: 6,
            sector,
            pages: &pages,
        },
    )
}

fn parsed<'r>(raw: &'r RawRequest, geometry: &Geometry) -> Indirect<'r> {
    match Request::parse(raw, geometry) {
        Ok(Request {
            body: Body::Indirect(indirect),
            ..
        }) => indirect,
        other => panic!("{other:?}"),
    }
}

#[test]
fn blk_02_as_many_segments_as_were_offered() {
    for offered in [0, 1, 11, 256, 4096, 4097, u16::MAX] {
        let geometry = Geometry {
            max_indirect_segments: offered,
            ..disk()
        };
        for count in 0..=u16::MAX {
            let raw = indirect(Abi::X86_32, 0, count, 0);
            let accepted = count > 0 && count <= offered.min(4096);
            assert_eq!(
                Request::parse(&raw, &geometry).is_ok(),
                accepted,
                "{count} of {offered}"
            );
        }
    }
}

#[test]
fn blk_05_only_reads_and_writes_can_be_indirect() {
    for abi in ABIS {
        for operation in 0..=255 {
            let raw = indirect(abi, operation, 20, 0);
            match Request::parse(&raw, &disk()) {
                Ok(request) => {
                    assert_eq!(request.echo().operation(), operation);
                    assert!(operation < 2);
                }
                Err(reject) => {
                    assert_eq!(reject.why(), Why::IndirectOperation(operation));
                    assert_eq!(reject.operation(), operation, "FE-04");
                    assert_eq!(Status::from(&reject), Status::Error);
                }
            }
        }
    }
}

#[test]
fn blk_05_not_offered_is_an_error_of_the_operation_inside() {
    let geometry = Geometry {
        max_indirect_segments: 0,
        ..disk()
    };
    for operation in [0, 1, 9] {
        let reject = refused(&indirect(Abi::Native, operation, 1, 0), &geometry);
        assert_eq!(
            (reject.why(), reject.operation()),
            (Why::IndirectNotOffered, operation)
        );
        assert_eq!(reject.response().status(), Status::Error);
    }
}

#[test]
fn blk_05_pages_are_as_many_as_the_segments_need() {
    let geometry = Geometry {
        max_indirect_segments: 4096,
        ..disk()
    };
    for (segments, pages) in [
        (1, 1),
        (511, 1),
        (512, 1),
        (513, 2),
        (1024, 2),
        (4095, 8),
        (4096, 8),
    ] {
        for abi in ABIS {
            let raw = indirect(abi, 1, segments, 0);
            let named: Vec<u32> = parsed(&raw, &geometry).pages().map(GrantRef::raw).collect();
            let expected: Vec<u32> = (100..100 + pages).collect();
            assert_eq!(named, expected);
        }
    }
}

#[test]
fn fe_04_an_indirect_request_echoes_what_it_wraps() {
    for operation in [0, 1] {
        let raw = indirect(Abi::Native, operation, 20, 0);
        let response = Request::parse(&raw, &disk()).unwrap().echo().okay();
        assert_eq!((response.operation(), response.id()), (operation, 6));
        // Refused after its pages were read.
        let indirect = parsed(&raw, &disk());
        let reject = indirect.resolve(&[[0, 0x0900]; 20], &disk()).unwrap_err();
        assert_eq!((reject.operation(), reject.id()), (operation, 6));
        assert_eq!(
            reject.why(),
            Why::Segment {
                index: 0,
                first: 0,
                last: 9
            }
        );
    }
}

#[test]
fn resolved_segments_are_judged_as_those_in_a_slot() {
    let raw = indirect(Abi::Native, 1, 100, 200);
    let request = parsed(&raw, &disk());
    let good = vec![segment(0, 7).words(); 100];
    let transfer = request.resolve(&good, &disk()).unwrap();
    assert_eq!((transfer.sectors(), transfer.segments().len()), (800, 100));
    assert_eq!(
        (transfer.offset(), transfer.bytes()),
        (200 * 512, 800 * 512)
    );

    let reject = request.resolve(
        &good,
        &Geometry {
            sectors: ring_proto::Sector::new(999),
            ..disk()
        },
    );
    assert!(matches!(
        reject.unwrap_err().why(),
        Why::OutsideDisk {
            sector: 200,
            count: 800,
            disk: 999
        }
    ));

    for index in 0..100 {
        for (first, last) in [(1, 0), (0, 8), (255, 255)] {
            let mut bad = good.clone();
            bad[index] = segment(first, last).words();
            let why = request.resolve(&bad, &disk()).unwrap_err().why();
            let index = u16::try_from(index).unwrap();
            assert_eq!(why, Why::Segment { index, first, last });
        }
    }
}

#[test]
fn descriptors_beyond_the_last_segment_are_not_looked_at() {
    let raw = indirect(Abi::Native, 0, 3, 0);
    let request = parsed(&raw, &disk());
    let mut descriptors = vec![segment(0, 0).words(); 3];
    descriptors.push([1, u32::MAX]);
    assert_eq!(request.resolve(&descriptors, &disk()).unwrap().sectors(), 3);
    let why = request
        .resolve(&descriptors[..2], &disk())
        .unwrap_err()
        .why();
    assert_eq!(
        why,
        Why::DescriptorsMissing {
            copied: 2,
            promised: 3
        }
    );
}
