//! Sizes, offsets and numbers as `xen/include/public/io/netif.h` has them, written out.

use ring_proto::netif::{
    CONTROL_RING, ControlAnswer, ControlEcho, ControlRequest, ControlSent, ControlStatus, Extra,
    Hash, HashKind, Ip, MAX_RX_FRAME, RX_RING, RxAnswer, RxSent, TX_RING, TxAnswer, TxSent,
    TxStatus, control_type, rx_flag, tx_flag,
};
use ring_proto::{GrantRef, MacAddr, RingShape};

use crate::gso;

fn bytes(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_le_bytes()).collect()
}

#[test]
fn rings_are_a_page_as_both_sides_compute_it() {
    for (shape, slots, bytes) in [
        (TX_RING, 256, 12),
        (RX_RING, 256, 8),
        (CONTROL_RING, 128, 16),
    ] {
        assert_eq!((shape.slots(), shape.stride_words() * 4), (slots, bytes));
        assert_eq!(Some(shape), RingShape::fitting(1, bytes / 4));
    }
}

#[test]
fn a_transmit_request_is_12_bytes() {
    let sent = TxSent::Data {
        gref: GrantRef::new(0x0403_0201),
        offset: 0x0605,
        flags: 0x0807,
        id: 0x0a09,
        size: 0x0c0b,
    };
    assert_eq!(bytes(&sent.encode()), (1..=12).collect::<Vec<u8>>());
}

#[test]
fn a_transmit_response_is_4_bytes() {
    let answer = TxAnswer::decode([u32::from_le_bytes([1, 2, 0xfe, 0xff])]);
    assert_eq!(
        answer,
        TxAnswer {
            id: 0x0201,
            status: -2
        }
    );
}

#[test]
fn a_receive_request_is_8_bytes_two_of_them_padding() {
    let sent = RxSent {
        id: 0x0201,
        gref: GrantRef::new(0x0807_0605),
    };
    assert_eq!(bytes(&sent.encode()), [1, 2, 0, 0, 5, 6, 7, 8]);
}

#[test]
fn a_receive_response_is_8_bytes() {
    let words = [0x0403_0201, 0x8807_0605];
    let expected = RxAnswer {
        id: 0x0201,
        offset: 0x0403,
        flags: 0x0605,
        status: -30713, // 0x8807
    };
    assert_eq!(RxAnswer::decode(words), expected);
}

#[test]
fn extra_infos_are_8_bytes() {
    let hash = Hash {
        kind: HashKind::Ipv6Tcp,
        value: 0x0807_0605,
    };
    for (extra, expected) in [
        (Extra::gso(gso(Ip::V4, 0x0403)), [1, 0, 3, 4, 1, 0, 0, 0]),
        (Extra::gso(gso(Ip::V6, 0x0403)), [1, 0, 3, 4, 2, 0, 0, 0]),
        (Extra::new(2, [3, 4, 5, 6, 7, 8]), [2, 0, 3, 4, 5, 6, 7, 8]),
        (Extra::hash(hash), [4, 0, 3, 1, 5, 6, 7, 8]),
        (Extra::xdp(0x0403), [5, 0, 3, 4, 0, 0, 0, 0]),
        (Extra::xdp(256).followed(), [5, 1, 0, 1, 0, 0, 0, 0]),
    ] {
        assert_eq!(bytes(&extra.words()), expected);
        assert_eq!(Extra::from_words(extra.words()), extra);
        assert_eq!(extra.kind(), expected[0]);
        assert_eq!(extra.is_followed(), expected[1] == 1);
        assert_eq!(extra.body(), expected[2..]);
        assert_eq!(bytes(&TxSent::Extra(extra).encode())[..8], expected);
    }
    let kinds = [
        Extra::GSO,
        Extra::MULTICAST_ADD,
        Extra::MULTICAST_DEL,
        Extra::HASH,
        Extra::XDP,
    ];
    assert_eq!(kinds, [1, 2, 3, 4, 5]);
    assert_eq!(HashKind::ALL.map(HashKind::wire), [0, 1, 2, 3]);
}

#[test]
fn two_flags_are_swapped_between_the_directions() {
    assert_eq!((tx_flag::CSUM_BLANK, tx_flag::DATA_VALIDATED), (1, 2));
    assert_eq!((rx_flag::DATA_VALIDATED, rx_flag::CSUM_BLANK), (1, 2));
    assert_eq!((tx_flag::MORE_DATA, tx_flag::EXTRA_INFO), (4, 8));
    assert_eq!((rx_flag::MORE_DATA, rx_flag::EXTRA_INFO), (4, 8));
}

#[test]
fn statuses_are_those_of_the_header() {
    let statuses = [TxStatus::Okay, TxStatus::Error, TxStatus::Dropped];
    assert_eq!(statuses.map(TxStatus::wire), [0, -1, -2]);
    assert_eq!(TxAnswer::NULL, 1);
    let statuses = [
        ControlStatus::Success,
        ControlStatus::NotSupported,
        ControlStatus::InvalidParameter,
        ControlStatus::BufferOverflow,
    ];
    assert_eq!(statuses.map(ControlStatus::wire), [0, 1, 2, 3]);
}

#[test]
fn control_messages_are_16_and_12_bytes() {
    let sent = ControlSent {
        id: 0x0201,
        kind: 7,
        data: [1, 0x0c0b_0a09, 0x100f_0e0d],
    };
    let expected = [1, 2, 7, 0, 1, 0, 0, 0, 9, 10, 11, 12, 13, 14, 15, 16];
    assert_eq!(bytes(&sent.encode()), expected);

    let echo: ControlEcho = ControlRequest::parse(sent.encode()).unwrap().echo;
    let words = echo.success(0x0c0b_0a09).encode();
    // The slot is 16 bytes, and the last 4 are nobody's (RNG-03).
    let expected = [1, 2, 7, 0, 0, 0, 0, 0, 9, 10, 11, 12, 0, 0, 0, 0];
    assert_eq!(bytes(&words), expected);
    let answer = ControlAnswer::decode([words[0], words[1], words[2]]);
    let expected = ControlAnswer {
        id: 0x0201,
        kind: 7,
        status: 0,
        data: 0x0c0b_0a09,
    };
    assert_eq!(answer, expected);
    let words = echo.failed(ControlStatus::BufferOverflow).encode();
    assert_eq!(words[1..], [3, 0, 0]);
}

#[test]
fn control_types_are_those_of_the_header() {
    use control_type as t;
    let types = [
        t::GET_HASH_FLAGS,
        t::SET_HASH_FLAGS,
        t::SET_HASH_KEY,
        t::GET_HASH_MAPPING_SIZE,
        t::SET_HASH_MAPPING_SIZE,
        t::SET_HASH_MAPPING,
        t::SET_HASH_ALGORITHM,
        t::GET_GREF_MAPPING_SIZE,
        t::ADD_GREF_MAPPING,
        t::DEL_GREF_MAPPING,
    ];
    assert_eq!(types, [1, 2, 3, 4, 5, 6, 7, 8, 9, 10]);
}

#[test]
fn addresses_read_as_people_write_them() {
    let address = MacAddr::new([0x00, 0x16, 0x3e, 0x0a, 0xbc, 0xff]);
    assert_eq!(address.to_string(), "00:16:3e:0a:bc:ff");
    assert_eq!(address.bytes()[5], 0xff);
}

#[test]
fn the_longest_frame_is_the_longest_ip_packet_with_a_tag() {
    assert_eq!(MAX_RX_FRAME, 65_553);
}
