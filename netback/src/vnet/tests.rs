use proptest::prelude::*;

use super::*;
use crate::headers::{UDP, fold, sum};

/// TCP over IPv4 with `payload` bytes and a checksum field of 0xaaaa.
fn tcp4(payload: usize) -> Vec<u8> {
    let mut frame = vec![0; 14 + 20 + 20 + payload];
    frame[12..14].copy_from_slice(&[8, 0]);
    frame[14] = 0x45;
    let total = u16::try_from(40 + payload).unwrap();
    frame[16..18].copy_from_slice(&total.to_be_bytes());
    frame[23] = TCP;
    frame[26..34].copy_from_slice(&[192, 0, 2, 1, 192, 0, 2, 2]);
    frame[46] = 5 << 4;
    frame[50..52].copy_from_slice(&[0xaa, 0xaa]);
    frame
}

fn tcp6(payload: usize) -> Vec<u8> {
    let mut frame = vec![0; 14 + 40 + 20 + payload];
    frame[12..14].copy_from_slice(&[0x86, 0xdd]);
    frame[14] = 0x60;
    let len = u16::try_from(20 + payload).unwrap();
    frame[18..20].copy_from_slice(&len.to_be_bytes());
    frame[20] = TCP;
    frame[66] = 5 << 4;
    frame
}

fn gso(ip: Ip, size: u16) -> Option<Gso> {
    let size = NonZeroU16::new(size).unwrap();
    Some(Gso { ip, size })
}

fn ask(frame: &[u8], checksum: TxChecksum, gso: Option<Gso>) -> Result<FromGuest, Untrue> {
    let head = &frame[..frame.len().min(HEAD)];
    from_guest(head, frame.len(), 1518, checksum, gso)
}

/// (flags, GSO type, header length, GSO size, checksum start, checksum offset)
fn fields(header: &Header) -> (u8, u8, u16, u16, u16, u16) {
    let word = |at: usize| u16::from_ne_bytes([header[at], header[at + 1]]);
    (header[0], header[1], word(2), word(4), word(6), word(8))
}

#[test]
fn net_10_what_a_guest_calls_right_is_not_passed_on_as_right() {
    for checksum in [TxChecksum::SaidToBeRight, TxChecksum::Plain] {
        let said = ask(&tcp4(10), checksum, None).unwrap();
        assert_eq!((said.header, said.patch), ([0; VNET_LEN], None));
    }
}

#[test]
fn net_09_a_blank_checksum_is_where_the_headers_say() {
    let said = ask(&tcp4(10), TxChecksum::Blank, None).unwrap();
    assert_eq!(fields(&said.header), (1, 0, 0, 0, 34, 16));
    let mut udp = tcp4(10);
    udp[23] = UDP;
    let said = ask(&udp, TxChecksum::Blank, None).unwrap();
    assert_eq!(fields(&said.header), (1, 0, 0, 0, 34, 6));
    let said = ask(&tcp6(10), TxChecksum::Blank, None).unwrap();
    assert_eq!(fields(&said.header), (1, 0, 0, 0, 54, 16));
}

#[test]
fn net_09_nothing_else_may_have_a_blank_checksum() {
    let mut icmp = tcp4(10);
    icmp[23] = 1;
    let mut fragment = tcp4(10);
    fragment[20] = 0x20;
    let mut later = tcp4(10);
    later[21] = 1;
    let mut arp = tcp4(10);
    arp[13] = 6;
    let mut options = tcp4(0);
    options[14] = 0x4f;
    for frame in [
        &icmp,
        &fragment,
        &later,
        &arp,
        &options,
        &tcp4(0)[..40].to_vec(),
    ] {
        let said = ask(frame, TxChecksum::Blank, None);
        assert_eq!(said, Err(Untrue::NoChecksum), "{frame:?}");
    }
    let mut long = tcp4(10);
    long[17] = 51;
    assert_eq!(ask(&long, TxChecksum::Blank, None), Err(Untrue::Short));
}

#[test]
fn net_08_what_is_cut_up_is_the_tcp_that_was_named() {
    let said = ask(&tcp4(5000), TxChecksum::Blank, gso(Ip::V4, 1448)).unwrap();
    assert_eq!(fields(&said.header), (1, GSO_TCPV4, 54, 1448, 34, 16));
    let said = ask(&tcp6(5000), TxChecksum::Blank, gso(Ip::V6, 1428)).unwrap();
    assert_eq!(fields(&said.header), (1, GSO_TCPV6, 74, 1428, 54, 16));
    let mut udp = tcp4(5000);
    udp[23] = UDP;
    let mut long = tcp4(5000);
    long[46] = 4 << 4;
    for (frame, ip) in [
        (&tcp4(5000), Ip::V6),
        (&tcp6(5000), Ip::V4),
        (&udp, Ip::V4),
        (&long, Ip::V4),
    ] {
        let said = ask(frame, TxChecksum::Blank, gso(ip, 1448));
        assert_eq!(said, Err(Untrue::NotThatTcp(ip)));
    }
}

/// The floor bounds the pieces: no packet at or above it has too many.
#[test]
fn net_08_the_longest_packet_may_be_cut_as_small_as_the_floor_allows_and_one_piece_is_none() {
    let longest = tcp4(65_535 - 54);
    for floor in [GSO_FLOOR, LEAST_GSO_FLOOR] {
        let most = ask(&longest, TxChecksum::Blank, gso(Ip::V4, floor)).unwrap();
        assert_eq!(fields(&most.header).3, floor);
    }
    let one = ask(&tcp4(1000), TxChecksum::Blank, gso(Ip::V4, 1448)).unwrap();
    assert_eq!(fields(&one.header), (1, 0, 0, 0, 34, 16));
}

#[test]
fn net_08_what_starts_or_ends_a_connection_is_not_cut_up() {
    const FIN: u8 = 1;
    const PSH: u8 = 8;
    const ACK: u8 = 16;
    const ECE: u8 = 64;
    const CWR: u8 = 128;
    for (frame, ip, at) in [(tcp4(5000), Ip::V4, 47), (tcp6(5000), Ip::V6, 67)] {
        for flags in 0..=u8::MAX {
            let mut frame = frame.clone();
            frame[at] = flags;
            let said = ask(&frame, TxChecksum::Blank, gso(ip, 1400));
            let stream = flags & !(FIN | PSH | ACK | ECE | CWR) == 0;
            let refused = Err(Untrue::NotStream(flags));
            assert!(
                if stream {
                    said.is_ok()
                } else {
                    said == refused
                },
                "{flags:#x}"
            );
            // One segment may have them.
            assert!(ask(&frame, TxChecksum::Blank, None).is_ok());
        }
    }
}

#[test]
fn net_08_bytes_behind_the_ip_packet_are_not_cut_up_with_it() {
    for (mut frame, ip) in [(tcp4(5000), Ip::V4), (tcp6(5000), Ip::V6)] {
        frame.extend([0; 3]);
        for checksum in [TxChecksum::Blank, TxChecksum::Plain] {
            let said = ask(&frame, checksum, gso(ip, 1400));
            assert_eq!(said, Err(Untrue::Trailer(3)));
        }
        // A frame that was filled up to Ethernet's least is as it should be.
        assert!(ask(&frame, TxChecksum::Blank, None).is_ok());
    }
}

#[test]
fn a_checksum_that_should_be_blank_is_made_so() {
    for (frame, ip) in [(tcp4(5000), Ip::V4), (tcp6(5000), Ip::V6)] {
        let said = ask(&frame, TxChecksum::Plain, gso(ip, 1400)).unwrap();
        let (field, value) = said.patch.unwrap();
        let found = Transport::parse(&frame).unwrap();
        assert_eq!(field, found.l4 + 16);
        let (from, to) = match ip {
            Ip::V4 => (26, 34),
            Ip::V6 => (22, 54),
        };
        let tail = [
            0,
            0,
            5020_u16.to_be_bytes()[0],
            5020_u16.to_be_bytes()[1],
            0,
            TCP,
        ];
        let expected = fold(sum(sum(0, &frame[from..to]), &tail));
        assert_eq!(value, expected.to_be_bytes());
    }
}

#[test]
fn net_07_cutting_up_is_no_way_around_the_mtu() {
    for frame in [tcp4(5000), tcp4(60_000)] {
        for size in [1465, 5000, u16::MAX] {
            let said = ask(&frame, TxChecksum::Blank, gso(Ip::V4, size));
            assert!(matches!(said, Err(Untrue::LongPieces(1519..))), "{said:?}");
        }
        assert!(ask(&frame, TxChecksum::Blank, gso(Ip::V4, 1464)).is_ok());
    }
}

#[test]
fn net_08_an_ip_header_that_promises_nothing_is_no_packet_to_cut_up() {
    for promised in [0_u16, 1, 19, 39] {
        let mut frame = tcp4(5000);
        frame[16..18].copy_from_slice(&promised.to_be_bytes());
        for checksum in [TxChecksum::Blank, TxChecksum::Plain] {
            let said = ask(&frame, checksum, gso(Ip::V4, 1448));
            assert_eq!(said, Err(Untrue::Short), "{promised}");
        }
    }
}

#[test]
fn a_tap_says_what_is_left_undone() {
    let header = |flags, kind, size: u16, start: u16, offset: u16| {
        Fields {
            flags,
            kind,
            headers: 0,
            size,
            start,
            offset,
        }
        .encode()
    };
    let frame = tcp4(100);
    let cases = [
        (header(0, 0, 0, 0, 0), ToGuest::Offload(RxOffload::Plain)),
        (
            header(2, 0, 0, 0, 0),
            ToGuest::Offload(RxOffload::Validated),
        ),
        (
            header(1, 0, 0, 34, 16),
            ToGuest::Offload(RxOffload::Blank(Ip::V4)),
        ),
        (
            header(1, 0, 0, 60, 16),
            ToGuest::Complete {
                start: 60,
                offset: 16,
                outermost: false,
            },
        ),
        (
            header(1, 0, 0, 34, 8),
            ToGuest::Complete {
                start: 34,
                offset: 8,
                outermost: false,
            },
        ),
    ];
    for (header, expected) in cases {
        assert_eq!(to_guest(&header, &frame), Ok(expected));
    }
    let cut = header(1, GSO_TCPV4, 1448, 38, 16);
    let tag = [0x81, 0, 0, 5];
    let tagged = [&frame[..12], &tag, &frame[12..]].concat();
    let complete = ToGuest::Complete {
        start: 38,
        offset: 16,
        outermost: true,
    };
    assert_eq!(to_guest(&header(1, 0, 0, 38, 16), &tagged), Ok(complete));
    let pieces = ToGuest::Cut(gso(Ip::V4, 1448).unwrap());
    assert_eq!(to_guest(&cut, &tagged), Ok(pieces));
    let cut = to_guest(&header(1, GSO_TCPV4 | GSO_ECN, 1448, 34, 16), &frame);
    let offload = RxOffload::Gso(gso(Ip::V4, 1448).unwrap());
    assert_eq!(cut, Ok(ToGuest::Offload(offload)));
    for kind in [2, 3, 5, GSO_TCPV4] {
        assert!(to_guest(&header(1, kind, 0, 34, 16), &frame).is_err());
    }
    let other = header(1, GSO_TCPV6, 1448, 34, 16);
    assert_eq!(to_guest(&other, &frame), Err(UnknownGso(GSO_TCPV6)));
}

proptest! {
    #[test]
    fn any_frame_is_judged_without_harm(
        bytes in prop::collection::vec(any::<u8>(), 14..400),
        size in 1_u16..,
        checksum in prop::sample::select(vec![
            TxChecksum::Blank, TxChecksum::SaidToBeRight, TxChecksum::Plain,
        ]),
        header in any::<[u8; VNET_LEN]>(),
    ) {
        for gso in [None, gso(Ip::V4, size), gso(Ip::V6, size)] {
            if let Ok(said) = ask(&bytes, checksum, gso) {
                let (_, _, headers, _, start, offset) = fields(&said.header);
                prop_assert!(usize::from(headers) <= bytes.len());
                if said.header[0] == 1 {
                    prop_assert!(usize::from(start) + usize::from(offset) + 2 <= bytes.len());
                }
            }
        }
        let _ = to_guest(&header, &bytes);
    }
}
