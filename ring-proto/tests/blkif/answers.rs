//! Responses: what they repeat, and that they cannot lie in the ways that hurt.

use ring_proto::blkif::{Abi, Answer, Body, Geometry, Request, SectorSize, Sent, Status};

use crate::{ABIS, disk, one_sector, raw, refused, segment};

#[test]
fn rng_03_responses_are_whole_and_their_padding_is_zero() {
    for id in [0, 1, 0x0123_4567_89ab_cdef, u64::MAX] {
        let segments = [segment(0, 0)];
        let sent = Sent::Direct {
            operation: 1,
            nr_segments: 1,
            handle: 0,
            id,
            sector: 0,
            segments: &segments,
        };
        for abi in ABIS {
            let raw = raw(abi, sent);
            let echo = Request::parse(&raw, &disk()).unwrap().echo();
            let words = echo.failed().unwrap().encode(abi);
            let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
            let mut expected = id.to_le_bytes().to_vec();
            expected.extend([1, 0, 0xff, 0xff]);
            if abi == Abi::Native {
                expected.extend([0; 4]);
            }
            assert_eq!(bytes, expected);
            let answer = Answer::decode([words[0], words[1], words[2]]);
            assert_eq!(
                answer,
                Answer {
                    id,
                    operation: 1,
                    status: -1
                }
            );
        }
    }
}

#[test]
fn blk_20_reads_and_writes_are_never_unsupported() {
    // All refusals that a read or write can meet, by all operations and what they may wrap.
    let disks = [
        disk(),
        Geometry {
            read_only: true,
            ..disk()
        },
        Geometry {
            max_indirect_segments: 0,
            discard: None,
            ..disk()
        },
        Geometry {
            sector_size: SectorSize::B4096,
            ..disk()
        },
    ];
    for geometry in disks {
        for first in 0..=u16::MAX {
            let [operation, second] = first.to_le_bytes();
            let mut words = *one_sector(operation, 1).words();
            words[0] = u32::from_le_bytes([operation, second, 20, 0]);
            let raw = ring_proto::blkif::RawRequest::from_words(words);
            let responses = match Request::parse(&raw, &geometry) {
                Err(reject) => vec![reject.response()],
                Ok(request) => {
                    let echo = request.echo();
                    [Some(echo.okay()), echo.failed(), Some(echo.unsupported())]
                        .into_iter()
                        .flatten()
                        .collect()
                }
            };
            for response in responses {
                let unsupported = response.status() == Status::NotSupported;
                assert!(!unsupported || response.operation() > 1, "{first:#x}");
            }
        }
    }
}

#[test]
fn fe_14_a_flush_without_data_cannot_be_called_failed() {
    let sent = Sent::Direct {
        operation: 3,
        nr_segments: 0,
        handle: 0,
        id: 1,
        sector: 0,
        segments: &[],
    };
    let empty = raw(Abi::Native, sent);
    let echo = Request::parse(&empty, &disk()).unwrap().echo();
    assert_eq!(echo.failed(), None);
    assert_eq!(echo.okay().status(), Status::Okay);
    assert_eq!(echo.unsupported().status(), Status::NotSupported);

    let with_data = one_sector(3, 0);
    let echo = Request::parse(&with_data, &disk()).unwrap().echo();
    assert_eq!(echo.failed().unwrap().status(), Status::Error);
}

#[test]
fn fe_04_every_operation_is_echoed() {
    for operation in [0, 1, 3] {
        let raw = one_sector(operation, 0);
        assert_eq!(
            Request::parse(&raw, &disk()).unwrap().echo().operation(),
            operation
        );
    }
    let sent = Sent::Discard {
        flags: 0,
        handle: 0,
        id: 9,
        sector: 0,
        sectors: 8,
    };
    let raw = raw(Abi::X86_32, sent);
    let request = Request::parse(&raw, &disk()).unwrap();
    assert!(matches!(request.body, Body::Discard(_)));
    assert_eq!((request.echo().operation(), request.echo().id()), (5, 9));
}

#[test]
fn statuses_are_those_of_the_header() {
    assert_eq!(
        [Status::Okay, Status::Error, Status::NotSupported].map(Status::wire),
        [0, -1, -2]
    );
}

#[test]
fn refusals_say_what_is_wrong_with_numbers() {
    let read_only = Geometry {
        read_only: true,
        discard: None,
        ..disk()
    };
    let blocks = Geometry {
        sector_size: SectorSize::B4096,
        ..disk()
    };
    let send = |sent| raw(Abi::Native, sent);
    let direct = |operation, nr_segments, sector, segments| {
        send(Sent::Direct {
            operation,
            nr_segments,
            handle: 0,
            id: 0,
            sector,
            segments,
        })
    };
    let page = [ring_proto::GrantRef::new(1)];
    let indirect = |operation, nr_segments| {
        send(Sent::Indirect {
            operation,
            nr_segments,
            handle: 0,
            id: 0,
            sector: 0,
            pages: &page,
        })
    };
    let discard = send(Sent::Discard {
        flags: 1,
        handle: 0,
        id: 0,
        sector: 1,
        sectors: 8,
    });
    let secure = Geometry {
        discard: disk()
            .discard
            .map(|limits| ring_proto::blkif::DiscardLimits {
                secure: true,
                ..limits
            }),
        ..disk()
    };
    for (raw, geometry, text) in [
        (direct(0, 0, 0, &[]), disk(), "operation 0: no segments"),
        (
            direct(1, 12, 0, &[]),
            disk(),
            "operation 1: 12 segments, at most 11 allowed",
        ),
        (
            direct(0, 1, 0, &[segment(3, 9)]),
            disk(),
            "operation 0: segment 0: sectors 3 to 9 of a page of 8",
        ),
        (
            direct(0, 1, 0, &[segment(0, 2)]),
            blocks,
            "operation 0: segment 0: 3 sectors are no multiple of 4096 bytes",
        ),
        (
            direct(0, 1, 999, &[segment(0, 7)]),
            disk(),
            "operation 0: 8 sectors from 999, the disk has 1000",
        ),
        (
            direct(0, 1, 9, &[segment(0, 7)]),
            blocks,
            "operation 0: sector 9 is no multiple of 4096 bytes",
        ),
        (
            one_sector(1, 0),
            read_only,
            "operation 1: the disk is read-only",
        ),
        (
            indirect(1, 1),
            Geometry {
                max_indirect_segments: 0,
                ..disk()
            },
            "operation 1: indirect requests were not offered",
        ),
        (
            indirect(3, 1),
            disk(),
            "operation 3: indirect operation 3 is neither read nor write",
        ),
        (
            indirect(0, 257),
            disk(),
            "operation 0: 257 segments, at most 256 allowed",
        ),
        (discard, read_only, "operation 5: discard was not offered"),
        (
            discard,
            secure,
            "operation 5: secure discard of 8 sectors from 1 cuts units of 8",
        ),
        (
            one_sector(2, 0),
            disk(),
            "operation 2: barriers were not offered",
        ),
        (
            one_sector(200, 0),
            disk(),
            "operation 200: unknown operation 200",
        ),
    ] {
        assert_eq!(refused(&raw, &geometry).to_string(), text);
    }
}
