//! Which slots make a packet, which do not, and which end the connection: the cases of the attack
//! catalogue, each over its whole range.

use ring_proto::GrantRef;
use ring_proto::netif::{
    Assembler, BadPacket, Extra, Hash, HashKind, Ip, TxChecksum, TxFault, TxSent, Verdict, tx_flag,
};

use crate::{bad, chain, data, gso, jumbo, lengths, offer, only, packet};

#[test]
fn a_packet_in_one_slot_is_that_slot() {
    let slot = TxSent::Data {
        gref: GrantRef::new(77),
        offset: 4096 - 60,
        flags: 0,
        id: 9,
        size: 60,
    };
    packet(offer(), &[slot], |packet| {
        assert_eq!(lengths(packet), [60]);
        let only = packet.fragments[0];
        assert_eq!((only.gref().raw(), only.offset()), (77, 4036));
        assert_eq!(packet.len, 60);
        assert_eq!(packet.checksum, TxChecksum::Plain);
        assert_eq!((packet.gso, packet.hash), (None, None));
    });
}

#[test]
fn the_first_slot_has_what_the_others_leave() {
    packet(jumbo(), &chain(4000, &[1000, 900, 2000], &[]), |packet| {
        assert_eq!(lengths(packet), [100, 1000, 900, 2000]);
        let grefs: Vec<u32> = packet
            .fragments
            .iter()
            .map(|one| one.gref().raw())
            .collect();
        assert_eq!(grefs, [1000, 1001, 1002, 1003]);
    });
}

#[test]
fn extras_stand_between_the_first_slot_and_the_others() {
    let hash = Hash {
        kind: HashKind::Ipv4Tcp,
        value: 0xdead_beef,
    };
    let extras = [
        Extra::gso(gso(Ip::V6, 1440)),
        Extra::hash(hash),
        Extra::xdp(256),
    ];
    let slots = chain(9000, &[4096, 4096], &extras);
    only(offer(), &slots, |assembled| {
        assert_eq!((assembled.slots, assembled.extras), (6, 3));
        let Verdict::Packet(packet) = assembled.verdict else {
            panic!("{assembled:?}");
        };
        assert_eq!(lengths(packet), [808, 4096, 4096]);
        assert_eq!(packet.gso, Some(gso(Ip::V6, 1440)));
        assert_eq!(packet.hash, Some(hash));
    })
    .unwrap();
}

#[test]
fn of_two_extras_of_one_type_the_second_counts() {
    let extras = [500, 1000].map(|size| Extra::gso(gso(Ip::V4, size)));
    packet(offer(), &chain(4000, &[], &extras), |packet| {
        assert_eq!(packet.gso, Some(gso(Ip::V4, 1000)));
    });
}

#[test]
fn a_packet_may_come_slot_by_slot() {
    let mut assembler = Assembler::new(offer());
    let slots = chain(1400, &[400, 500], &[Extra::xdp(0)]);
    for (waiting, slot) in (1..).zip(&slots[..3]) {
        assert_eq!(assembler.push(slot.encode()), Ok(None));
        assert_eq!(assembler.waiting(), waiting);
    }
    let assembled = assembler.push(slots[3].encode()).unwrap().unwrap();
    assert!(matches!(assembled.verdict, Verdict::Packet(_)));
    assert_eq!(assembler.waiting(), 0);
}

/// Nothing of a packet is left for the next one, neither of a good one nor of a bad one.
#[test]
fn nothing_is_left_of_the_packet_before() {
    let hash = Hash {
        kind: HashKind::Ipv4,
        value: 1,
    };
    let extras = [Extra::gso(gso(Ip::V4, 1000)), Extra::hash(hash)];
    let before = [
        chain(4000, &[1000], &extras),
        chain(100, &[1000], &extras),
        chain(0, &[], &[Extra::new(Extra::MULTICAST_ADD, [1; 6])]),
        chain(100, &[0; 19], &[]),
    ];
    let after = chain(80, &[20], &[]);
    for slots in before {
        let mut assembler = Assembler::new(offer());
        for slot in slots {
            assembler.push(slot.encode()).unwrap();
        }
        assert_eq!(assembler.push(after[0].encode()), Ok(None));
        let assembled = assembler.push(after[1].encode()).unwrap().unwrap();
        let Verdict::Packet(packet) = assembled.verdict else {
            panic!("{assembled:?}");
        };
        assert_eq!(lengths(packet), [60, 20]);
        assert_eq!((packet.gso, packet.hash, assembled.extras), (None, None, 0));
    }
}

/// NET-01: a chain that does not end is waited for as long as it is possible, and not longer.
#[test]
fn net_01_a_chain_without_end_ends_the_connection() {
    let mut assembler = Assembler::new(offer());
    for slot in 0..21 {
        let sent = data(slot, 0, 1000, tx_flag::MORE_DATA);
        assert_eq!(assembler.push(sent.encode()), Ok(None));
    }
    for _ in 0..3 {
        let sent = data(21, 0, 0, tx_flag::MORE_DATA);
        assert_eq!(assembler.push(sent.encode()), Err(TxFault::TooManySlots));
        assert_eq!(assembler.waiting(), 0);
    }
}

#[test]
fn net_01_extras_without_end_end_the_connection() {
    let mut assembler = Assembler::new(offer());
    let first = data(0, 0, 100, tx_flag::EXTRA_INFO);
    assert_eq!(assembler.push(first.encode()), Ok(None));
    let again = TxSent::Extra(Extra::xdp(0).followed());
    for _ in 0..5 {
        assert_eq!(assembler.push(again.encode()), Ok(None));
    }
    assert_eq!(assembler.push(again.encode()), Err(TxFault::TooManyExtras));
}

#[test]
fn net_01_extras_of_unknown_types_end_the_connection() {
    for kind in 0..=255 {
        let verdict = only(
            offer(),
            &chain(100, &[], &[Extra::new(kind, [0; 6])]),
            |_| (),
        );
        let expected = if (1..=5).contains(&kind) {
            Ok(())
        } else {
            Err(TxFault::UnknownExtra(kind))
        };
        assert_eq!(verdict, expected);
    }
}

/// NET-02: Linux counts the slots behind the first: 18 are taken, 20 forgiven.
#[test]
fn net_02_slots_from_1_to_22_by_size() {
    for slots in 1..=22_usize {
        for size in [0, 1, 100, 3000] {
            let rest = vec![size; slots - 1];
            let sum = u32::from(size) * u32::try_from(rest.len()).unwrap();
            let len = u16::try_from(sum + 100).unwrap();
            let verdict = only(jumbo(), &chain(len, &rest, &[]), |assembled| {
                assert_eq!(usize::from(assembled.slots), slots);
                match assembled.verdict {
                    Verdict::Packet(packet) => {
                        let empty = if size == 0 { slots - 1 } else { 0 };
                        assert_eq!(packet.fragments.len(), slots - empty);
                        Ok(u32::from(packet.len))
                    }
                    Verdict::Bad(bad) => Err(bad),
                    Verdict::Multicast(_) => panic!("{assembled:?}"),
                }
            });
            let count = u8::try_from(slots).unwrap();
            let expected = match slots {
                1..=19 => Ok(Ok(sum + 100)),
                20 | 21 => Ok(Err(BadPacket::TooManySlots(count))),
                _ => Err(TxFault::TooManySlots),
            };
            assert_eq!(verdict, expected, "{slots} slots of {size}");
        }
    }
}

/// NET-02: every offset and size around the end of the page, in the first slot and in another.
#[test]
fn net_02_a_slot_that_leaves_its_page_ends_the_connection() {
    for offset in [0, 1, 14, 2000, 4081, 4095, 4096, 4097, 0x8000, u16::MAX] {
        for size in [0, 1, 14, 2096, 4095, 4096, 4097, u16::MAX] {
            let fits = u32::from(offset) + u32::from(size) <= 4096;
            let fault = |slot| {
                Err(TxFault::CrossesPage {
                    slot,
                    offset,
                    len: size,
                })
            };
            let later = [
                data(0, 0, size.saturating_add(100), tx_flag::MORE_DATA),
                data(1, offset, size, 0),
            ];
            let verdict = only(jumbo(), &later, |_| ());
            assert_eq!(
                verdict,
                if fits { Ok(()) } else { fault(1) },
                "{offset} {size}"
            );

            let alone = only(jumbo(), &[data(0, offset, size, 0)], |_| ());
            let expected = if fits || size < 14 { Ok(()) } else { fault(0) };
            assert_eq!(alone, expected, "{offset} {size}");

            // The size in the first slot is the packet's: what counts is what the others leave.
            let last = u16::try_from(4096_u32.saturating_sub(u32::from(offset))).unwrap();
            let over = [
                data(0, offset, last.saturating_add(2001), tx_flag::MORE_DATA),
                data(1, 0, 2000, 0),
            ];
            assert!(only(jumbo(), &over, |_| ()).is_err());
        }
    }
}

/// NET-02: a packet of 64 KiB or more, of which the first slot has the lower 16 bits.
#[test]
fn net_02_a_length_that_overflows_costs_the_packet() {
    for len in [0, 1, 99, 4095, 8191] {
        let refused = bad(jumbo(), &chain(len, &[4096, 4096], &[]));
        assert_eq!(refused, BadPacket::Oversum { len, rest: 8192 });
    }
    // And the slots are counted all the same.
    assert_eq!(
        only(jumbo(), &chain(0, &[4096; 21], &[]), |_| ()),
        Err(TxFault::TooManySlots)
    );
}

/// NET-03: headers that are cut anywhere are taken, so that nobody else sees them cut.
#[test]
fn net_03_a_packet_may_be_cut_anywhere() {
    for first in 1..=200_u16 {
        for second in [0, 1, 13, 60] {
            let slots = chain(first + second + 300, &[second, 300], &[]);
            let expected: Vec<u16> = [first, second, 300]
                .into_iter()
                .filter(|&len| len > 0)
                .collect();
            packet(offer(), &slots, |packet| {
                assert_eq!(lengths(packet), expected);
            });
        }
    }
}

/// NET-04: as many slots as there can be, all of one of the sizes that were fatal once, or two of
/// them in any order.
#[test]
fn net_04_many_slots_and_few_bytes() {
    let sizes = [0, 1, 13, 14, 127, 128, 129];
    for slots in 1..=18_usize {
        for (first, a, b) in sizes
            .into_iter()
            .flat_map(|first| sizes.map(|a| (first, a)))
            .flat_map(|(first, a)| sizes.map(|b| (first, a, b)))
        {
            let rest: Vec<u16> = (0..slots)
                .map(|at| if at % 2 == 0 { a } else { b })
                .collect();
            let len = first + rest.iter().sum::<u16>();
            let verdict = only(
                jumbo(),
                &chain(len, &rest, &[]),
                |assembled| match assembled.verdict {
                    Verdict::Packet(packet) => {
                        assert!(packet.fragments.iter().all(|one| one.len() > 0));
                        Ok(lengths(packet).iter().sum::<u16>())
                    }
                    Verdict::Bad(bad) => Err(bad),
                    Verdict::Multicast(_) => panic!("{assembled:?}"),
                },
            );
            let expected = match (len, first) {
                (0..14, _) => Err(BadPacket::TooShort(len)),
                (_, 0) => Err(BadPacket::EmptyFirst),
                _ => Ok(len),
            };
            assert_eq!(verdict, Ok(expected), "{first} {a} {b} {slots}");
        }
    }
}

/// NET-05: empty slots are skipped, wherever they are; an empty first one costs the packet.
#[test]
fn net_05_empty_slots_are_not_copied() {
    for empty in 0..1_u32 << 6 {
        let sizes: Vec<u16> = (0..6)
            .map(|at| if empty >> at & 1 == 1 { 0 } else { 100 })
            .collect();
        let len = sizes.iter().sum::<u16>();
        let slots = chain(len, &sizes[1..], &[]);
        if len == 0 {
            assert_eq!(bad(offer(), &slots), BadPacket::TooShort(0));
        } else if sizes[0] == 0 {
            assert_eq!(bad(offer(), &slots), BadPacket::EmptyFirst);
        } else {
            let full: Vec<u16> = sizes.iter().copied().filter(|&len| len > 0).collect();
            packet(offer(), &slots, |packet| assert_eq!(lengths(packet), full));
        }
    }
}

#[test]
fn net_06_frames_shorter_than_their_header_are_refused() {
    for len in 0..=64 {
        let verdict = only(offer(), &chain(len, &[], &[]), |assembled| {
            matches!(assembled.verdict, Verdict::Packet(_))
        });
        assert_eq!(verdict, Ok(len >= 14), "{len}");
    }
}
