//! What a guest says about a packet besides where it is: offloads, hashes, lists.

use ring_proto::MacAddr;
use ring_proto::netif::{
    BadPacket, Extra, Hash, HashKind, Ip, MulticastEdit, TxChecksum, TxFault, TxOffer, Verdict,
    tx_flag,
};

use crate::{chain, data, gso, offer, only, packet};

#[test]
fn net_07_long_frames_are_refused_unless_they_are_cut_up() {
    for (mtu, len, fits) in [
        (1500, 1518, true),
        (1500, 1519, false),
        (9000, 9018, true),
        (9000, 9019, false),
        (65_517, 65_535, true),
    ] {
        let offer = TxOffer {
            max_frame: mtu + 18,
            ..offer()
        };
        let rest = vec![4096; usize::from(len - 1) / 4096];
        let verdict = only(
            offer,
            &chain(len, &rest, &[]),
            |assembled| match assembled.verdict {
                Verdict::Packet(packet) => packet.len == len,
                Verdict::Bad(bad) => {
                    let max = offer.max_frame;
                    assert_eq!(bad, BadPacket::TooLong { len, max });
                    false
                }
                Verdict::Multicast(_) => panic!("{assembled:?}"),
            },
        );
        assert_eq!(verdict, Ok(fits), "{mtu} {len}");
        let slots = chain(len, &rest, &[Extra::gso(gso(Ip::V4, 1448))]);
        packet(offer, &slots, |packet| assert_eq!(packet.len, len));
    }
}

/// NET-08, as far as it can be seen without the headers.
#[test]
fn net_08_odd_gso_requests_cost_the_packet() {
    let extra = |size: u16, kind: u8| {
        let [low, high] = size.to_le_bytes();
        Extra::new(Extra::GSO, [low, high, kind, 0xff, 0xff, 0xff])
    };
    let verdict = |offer, extra| {
        only(
            offer,
            &chain(3000, &[], &[extra]),
            |assembled| match assembled.verdict {
                Verdict::Packet(packet) => Ok(packet.gso),
                Verdict::Bad(bad) => Err(bad),
                Verdict::Multicast(_) => panic!("{assembled:?}"),
            },
        )
        .unwrap()
    };
    for kind in 0..=255 {
        let expected = match kind {
            1 => Ok(Some(gso(Ip::V4, 1448))),
            2 => Ok(Some(gso(Ip::V6, 1448))),
            other => Err(BadPacket::GsoType(other)),
        };
        assert_eq!(verdict(offer(), extra(1448, kind)), expected);
    }
    for size in 0..=u16::MAX {
        let expected = if size < 256 {
            Err(BadPacket::GsoSize { size, min: 256 })
        } else {
            Ok(Some(gso(Ip::V4, size)))
        };
        assert_eq!(verdict(offer(), extra(size, 1)), expected);
    }
    for (v4, v6) in [(true, false), (false, true), (false, false)] {
        let offer = TxOffer {
            gso_v4: v4,
            gso_v6: v6,
            ..offer()
        };
        for (kind, ip, offered) in [(1, Ip::V4, v4), (2, Ip::V6, v6)] {
            let expected = if offered {
                Ok(Some(gso(ip, 1448)))
            } else {
                Err(BadPacket::GsoNotOffered(ip))
            };
            assert_eq!(verdict(offer, extra(1448, kind)), expected);
        }
    }
}

/// NET-09 and NET-10: the flags are handed on as what they are, a guest's word.
#[test]
fn net_10_what_is_said_about_the_checksum() {
    for (flags, expected) in [
        (0, TxChecksum::Plain),
        (tx_flag::DATA_VALIDATED, TxChecksum::SaidToBeRight),
        (tx_flag::CSUM_BLANK, TxChecksum::Blank),
        (
            tx_flag::CSUM_BLANK | tx_flag::DATA_VALIDATED,
            TxChecksum::Blank,
        ),
        // Bits without a meaning have none.
        (0xfff0, TxChecksum::Plain),
        (0xfff3, TxChecksum::Blank),
    ] {
        packet(offer(), &[data(0, 0, 60, flags)], |packet| {
            assert_eq!(packet.checksum, expected);
        });
        // Those of later slots mean nothing.
        let slots = [
            data(0, 0, 200, tx_flag::MORE_DATA | flags),
            data(1, 0, 100, !tx_flag::MORE_DATA),
        ];
        packet(offer(), &slots, |packet| {
            assert_eq!(packet.checksum, expected);
        });
    }
}

#[test]
fn net_20_hashes_of_unknown_kinds_are_ignored() {
    for kind in 0..=255 {
        for algorithm in [0, 1, 2, 255] {
            let extra = Extra::new(Extra::HASH, [kind, algorithm, 1, 2, 3, 4]);
            packet(offer(), &chain(100, &[], &[extra]), |packet| {
                let known = HashKind::ALL.into_iter().find(|one| one.wire() == kind);
                let expected = known.filter(|_| algorithm == 1).map(|kind| Hash {
                    kind,
                    value: 0x0403_0201,
                });
                assert_eq!(packet.hash, expected);
            });
        }
    }
}

#[test]
fn net_21_multicast_edits_come_instead_of_a_packet() {
    let address = MacAddr::new([1, 0, 0x5e, 7, 8, 9]);
    let add = Extra::new(Extra::MULTICAST_ADD, address.bytes());
    let remove = Extra::new(Extra::MULTICAST_DEL, address.bytes());
    for (extras, edit) in [
        (vec![add], MulticastEdit::Add(address)),
        (vec![remove], MulticastEdit::Remove(address)),
        (vec![remove, add], MulticastEdit::Add(address)),
        (
            vec![Extra::gso(gso(Ip::V4, 1)), remove],
            MulticastEdit::Remove(address),
        ),
    ] {
        // The first slot is a dummy: neither its length nor its promise of more counts.
        for (size, flags) in [(0, 0), (u16::MAX, 0), (1, tx_flag::MORE_DATA)] {
            let mut slots = chain(size, &[], &extras);
            slots[0] = data(0, u16::MAX, size, tx_flag::EXTRA_INFO | flags);
            only(offer(), &slots, |assembled| {
                assert_eq!(assembled.verdict, Verdict::Multicast(edit));
                assert_eq!(usize::from(assembled.slots), extras.len() + 1);
            })
            .unwrap();
        }
    }
}

#[test]
fn refusals_and_faults_say_what_is_wrong_with_numbers() {
    for (bad, text) in [
        (BadPacket::TooManySlots(20), "20 slots, at most 19 allowed"),
        (
            BadPacket::Oversum { len: 9, rest: 10 },
            "10 bytes behind the first slot of a packet of 9 bytes",
        ),
        (BadPacket::TooShort(13), "13 bytes, at least 14 needed"),
        (BadPacket::EmptyFirst, "nothing in the first slot"),
        (
            BadPacket::TooLong {
                len: 1519,
                max: 1518,
            },
            "1519 bytes, at most 1518 allowed",
        ),
        (
            BadPacket::GsoType(3),
            "GSO type 3 is neither TCPv4 nor TCPv6",
        ),
        (
            BadPacket::GsoNotOffered(Ip::V6),
            "GSO for IPv6 was not offered",
        ),
        (
            BadPacket::GsoSize { size: 1, min: 256 },
            "GSO into pieces of 1 bytes, at least 256 needed",
        ),
    ] {
        assert_eq!(bad.to_string(), text);
    }
    let crossing = TxFault::CrossesPage {
        slot: 2,
        offset: 4000,
        len: 97,
    };
    for (fault, text) in [
        (TxFault::TooManySlots, "a packet has more than 21 slots"),
        (
            crossing,
            "slot 2 of a packet: 97 bytes from 4000 leave the page",
        ),
        (TxFault::UnknownExtra(6), "unknown extra info type 6"),
        (
            TxFault::TooManyExtras,
            "a packet has more than 5 extra infos",
        ),
    ] {
        assert_eq!(fault.to_string(), text);
    }
}
