//! Control messages: what they ask for, and what those that make no sense are told.

use ring_proto::netif::{
    CONTROL_RING, ControlAnswer, ControlMessage, ControlRequest, ControlSent, ControlStatus,
    HashAlgorithm, HashKind, HashKinds, Refusal,
};
use ring_proto::{BackRing, FrontRing, GrantRef};

use crate::page;

fn parse(kind: u16, data: [u32; 3]) -> Result<ControlMessage, (Refusal, ControlStatus)> {
    let sent = ControlSent {
        id: 0xabcd,
        kind,
        data,
    };
    match ControlRequest::parse(sent.encode()) {
        Ok(request) => {
            assert_eq!(
                request.echo.success(0).encode()[0],
                0xabcd | u32::from(kind) << 16
            );
            Ok(request.message)
        }
        Err(reject) => {
            let response = reject.response();
            assert_eq!(response.encode()[0], 0xabcd | u32::from(kind) << 16);
            assert_eq!(response.encode()[2..], [0, 0]);
            Err((reject.why(), response.status()))
        }
    }
}

#[test]
fn messages_mean_what_the_header_says() {
    let gref = GrantRef::new(99);
    assert_eq!(parse(1, [0; 3]), Ok(ControlMessage::GetHashFlags));
    assert_eq!(parse(4, [7; 3]), Ok(ControlMessage::GetHashMappingSize));
    assert_eq!(
        parse(3, [99, 40, 0]),
        Ok(ControlMessage::SetHashKey { gref, len: 40 })
    );
    assert_eq!(
        parse(5, [128, 0, 0]),
        Ok(ControlMessage::SetHashMappingSize(128))
    );
    assert_eq!(
        parse(6, [99, 28, 100]),
        Ok(ControlMessage::SetHashMapping {
            gref,
            count: 28,
            offset: 100
        })
    );
    for (number, algorithm) in [(0, HashAlgorithm::None), (1, HashAlgorithm::Toeplitz)] {
        assert_eq!(
            parse(7, [number, 0, 0]),
            Ok(ControlMessage::SetHashAlgorithm(algorithm))
        );
    }
}

#[test]
fn kinds_of_hash_are_a_set() {
    for bits in 0..=20_u32 {
        let expected = match HashKinds::new(bits) {
            Some(kinds) => {
                for kind in HashKind::ALL {
                    assert_eq!(kinds.contains(kind), bits & 1 << kind.wire() != 0);
                }
                assert_eq!((kinds.bits(), kinds.is_empty()), (bits, bits == 0));
                Ok(ControlMessage::SetHashFlags(kinds))
            }
            None => Err((Refusal::HashFlags(bits), ControlStatus::InvalidParameter)),
        };
        assert_eq!(parse(2, [bits, 0, 0]), expected);
        assert_eq!(expected.is_ok(), bits < 16);
    }
    assert_eq!(HashKinds::ALL.bits(), 15);
    assert!(parse(2, [1 << 31, 0, 0]).is_err());
}

/// XSA-270: no offset and length reach outside the table, whatever their sum wraps around to.
#[test]
fn net_20_lengths_and_offsets_are_inside_their_tables() {
    let invalid = ControlStatus::InvalidParameter;
    for len in [41, 4096, u32::MAX] {
        assert_eq!(
            parse(3, [1, len, 0]),
            Err((Refusal::KeyLength(len), invalid))
        );
    }
    for size in [129, 1 << 16, u32::MAX] {
        assert_eq!(
            parse(5, [size, 0, 0]),
            Err((Refusal::MappingSize(size), invalid))
        );
    }
    for count in [0, 1, 64, 127, 128, 129, 1 << 31, u32::MAX] {
        for offset in [0, 1, 64, 127, 128, 129, 1 << 31, u32::MAX] {
            let inside = u64::from(count) + u64::from(offset) <= 128;
            let parsed = parse(6, [1, count, offset]);
            assert_eq!(parsed.is_ok(), inside, "{count} {offset}");
            if !inside {
                assert_eq!(
                    parsed,
                    Err((Refusal::MappingRange { count, offset }, invalid))
                );
            }
        }
    }
    for number in [2, u32::MAX] {
        assert_eq!(
            parse(7, [number, 0, 0]),
            Err((Refusal::Algorithm(number), invalid))
        );
    }
}

#[test]
fn what_is_not_done_is_not_supported() {
    for kind in 0..=u16::MAX {
        let not = ControlStatus::NotSupported;
        match kind {
            1..=7 => assert!(parse(kind, [0; 3]).is_ok()),
            8..=10 => assert_eq!(parse(kind, [0; 3]), Err((Refusal::StaticGrants(kind), not))),
            other => assert_eq!(
                parse(other, [1; 3]),
                Err((Refusal::UnknownType(other), not))
            ),
        }
    }
}

#[test]
fn refusals_say_what_is_wrong_with_numbers() {
    let text = |kind, data| {
        let sent = ControlSent { id: 0, kind, data };
        ControlRequest::parse(sent.encode())
            .unwrap_err()
            .to_string()
    };
    for (kind, data, expected) in [
        (0, [0; 3], "control message 0: unknown type"),
        (
            9,
            [0; 3],
            "control message 9: static grants were not offered",
        ),
        (2, [16, 0, 0], "control message 2: hash kinds 0x10"),
        (
            3,
            [0, 41, 0],
            "control message 3: key of 41 bytes, at most 40",
        ),
        (
            5,
            [129, 0, 0],
            "control message 5: table of 129 entries, at most 128",
        ),
        (
            6,
            [0, 1, 128],
            "control message 6: 1 entries from 128 of a table of at most 128",
        ),
        (
            7,
            [2, 0, 0],
            "control message 7: hash algorithm 2 does not exist",
        ),
    ] {
        assert_eq!(text(kind, data), expected);
    }
}

#[test]
fn messages_go_through_a_ring() {
    let memory = page(CONTROL_RING);
    let mut front = FrontRing::init(memory.clone(), CONTROL_RING).unwrap();
    let mut back = BackRing::attach(memory, CONTROL_RING).unwrap();
    for id in 0..300 {
        let sent = ControlSent {
            id,
            kind: 1 + id % 12,
            data: [1, 1, 1],
        };
        front.push_request(&sent.encode()).unwrap();
        let _ = front.publish();
        let (claim, words) = back.take().unwrap().unwrap();
        let response = match ControlRequest::parse(words) {
            Ok(request) => request.echo.success(u32::from(id)),
            Err(reject) => reject.response(),
        };
        back.respond(claim, &response.encode());
        let _ = back.publish();
        let answer = ControlAnswer::decode(front.take_response().unwrap().unwrap());
        assert_eq!((answer.id, answer.kind), (id, sent.kind));
        assert_eq!(answer.status, u32::from(sent.kind > 7));
        let data = if sent.kind > 7 { 0 } else { u32::from(id) };
        assert_eq!(answer.data, data);
    }
}
