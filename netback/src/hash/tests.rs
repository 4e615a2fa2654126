use proptest::prelude::*;

use super::*;

/// The key of Microsoft's known answers.
pub(super) const KEY: [u8; 40] = [
    0x6d, 0x5a, 0x56, 0xda, 0x25, 0x5b, 0x0e, 0xc2, 0x41, 0x67, 0x25, 0x3d, 0x43, 0xa3, 0x8f, 0xb0,
    0xd0, 0xca, 0x2b, 0xcb, 0xae, 0x7b, 0x30, 0xb4, 0x77, 0xcb, 0x2d, 0xa3, 0x80, 0x30, 0xf2, 0x0c,
    0x6a, 0x42, 0xb7, 0x3b, 0xbe, 0xac, 0x01, 0xfa,
];

const PAGE: GrantRef = GrantRef::new(77);

fn nothing(_: GrantRef, _: &mut [u8]) -> bool {
    panic!("no page is named");
}

/// A page that starts with `bytes`.
fn page(bytes: &[u8]) -> impl FnOnce(GrantRef, &mut [u8]) -> bool {
    move |gref, wanted| {
        assert_eq!(gref, PAGE);
        wanted.copy_from_slice(&bytes[..wanted.len()]);
        true
    }
}

const TOEPLITZ: ControlMessage = ControlMessage::SetHashAlgorithm(HashAlgorithm::Toeplitz);

const fn key(len: u32) -> ControlMessage {
    ControlMessage::SetHashKey { gref: PAGE, len }
}

const fn mapping(count: u32, offset: u32) -> ControlMessage {
    ControlMessage::SetHashMapping {
        gref: PAGE,
        count,
        offset,
    }
}

fn entries(queues: &[u32]) -> Vec<u8> {
    queues
        .iter()
        .flat_map(|queue| queue.to_le_bytes())
        .collect()
}

/// All kinds, Microsoft's key, no table.
fn hashing(queues: u32) -> Hashing {
    let mut state = Hashing::new(queues);
    assert_eq!(state.handle(TOEPLITZ, nothing), Ok(0));
    let flags = ControlMessage::SetHashFlags(HashKinds::ALL);
    assert_eq!(state.handle(flags, nothing), Ok(0));
    assert_eq!(state.handle(key(40), page(&KEY)), Ok(0));
    state
}

/// The first of Microsoft's examples, as a frame.
fn frame(protocol: u8) -> Vec<u8> {
    let mut frame = vec![0; 14 + 20 + 20];
    frame[12..14].copy_from_slice(&[8, 0]);
    frame[14] = 0x45;
    frame[17] = 40;
    frame[23] = protocol;
    frame[26..34].copy_from_slice(&[66, 9, 149, 187, 161, 142, 100, 80]);
    frame[34..36].copy_from_slice(&2794_u16.to_be_bytes());
    frame[36..38].copy_from_slice(&1766_u16.to_be_bytes());
    frame
}

const PLAIN: Hash = Hash {
    kind: HashKind::Ipv4,
    value: 0x323e_8fc2,
};
const PORTS: Hash = Hash {
    kind: HashKind::Ipv4Tcp,
    value: 0x51cc_c178,
};

#[test]
fn what_a_guest_has_not_chosen_is_left_to_the_host() {
    let mut state = Hashing::new(4);
    let get = ControlMessage::GetHashFlags;
    assert_eq!(state.handle(get, nothing), Err(ControlStatus::NotSupported));
    let set = ControlMessage::SetHashFlags(HashKinds::ALL);
    let refused = state.handle(set, nothing);
    assert_eq!(refused, Err(ControlStatus::InvalidParameter));
    assert_eq!(state.of(&frame(TCP)), None);
    assert_eq!(state.queue(None), None);
    assert_eq!(state.handle(TOEPLITZ, nothing), Ok(0));
    assert_eq!(state.handle(get, nothing), Ok(15));
    let size = ControlMessage::GetHashMappingSize;
    assert_eq!(state.handle(size, nothing), Ok(128));
    assert_eq!(state.queue(None), None, "no kind of hash was chosen");
}

#[test]
fn frames_are_hashed_by_what_they_are_and_what_was_chosen() {
    let mut state = hashing(4);
    assert_eq!(state.of(&frame(TCP)), Some(PORTS));
    assert_eq!(state.of(&frame(17)), Some(PLAIN), "UDP is IP");
    for (at, value) in [(20, 0x20), (21, 1)] {
        let mut fragment = frame(TCP);
        fragment[at] = value;
        assert_eq!(state.of(&fragment), Some(PLAIN), "fragments stay together");
    }
    assert_eq!(state.of(&frame(TCP)[..36]), Some(PLAIN), "no ports there");
    let mut arp = frame(TCP);
    arp[13] = 6;
    assert_eq!(state.of(&arp), None);
    let only = |bits| ControlMessage::SetHashFlags(HashKinds::new(bits).unwrap());
    assert_eq!(state.handle(only(1), nothing), Ok(0));
    assert_eq!(state.of(&frame(TCP)), Some(PLAIN));
    assert_eq!(state.handle(only(2), nothing), Ok(0));
    assert_eq!(state.of(&frame(TCP)), Some(PORTS));
    assert_eq!(state.of(&frame(17)), None);
    assert_eq!(state.handle(only(12), nothing), Ok(0));
    assert_eq!(state.of(&frame(TCP)), None, "IPv6 only");
}

#[test]
fn ipv6_is_hashed_with_its_ports() {
    let mut frame = vec![0; 14 + 40 + 20];
    frame[12..14].copy_from_slice(&[0x86, 0xdd]);
    frame[14] = 0x60;
    frame[20] = TCP;
    let address = |text: &str| text.parse::<std::net::Ipv6Addr>().unwrap().octets();
    frame[22..38].copy_from_slice(&address("3ffe:2501:200:1fff::7"));
    frame[38..54].copy_from_slice(&address("3ffe:2501:200:3::1"));
    frame[54..56].copy_from_slice(&2794_u16.to_be_bytes());
    frame[56..58].copy_from_slice(&1766_u16.to_be_bytes());
    let hash = Hash {
        kind: HashKind::Ipv6Tcp,
        value: 0x4020_7d3d,
    };
    assert_eq!(hashing(4).of(&frame), Some(hash));
}

#[test]
fn queues_come_from_the_table_or_from_the_hash_itself() {
    let mut state = hashing(3);
    assert_eq!(state.queue(Some(PORTS)), Some(0x51cc_c178 % 3));
    assert_eq!(state.queue(None), Some(0));
    let size = ControlMessage::SetHashMappingSize(4);
    assert_eq!(state.handle(size, nothing), Ok(0));
    assert_eq!(
        state.queue(Some(PORTS)),
        Some(0),
        "all are queue 0 at first"
    );
    let fill = entries(&[1, 2, 0, 1]);
    assert_eq!(state.handle(mapping(4, 0), page(&fill)), Ok(0));
    let at = |state: &Hashing, value| {
        state.queue(Some(Hash {
            kind: HashKind::Ipv4,
            value,
        }))
    };
    let all: Vec<_> = (0..5).map(|value| at(&state, value).unwrap()).collect();
    assert_eq!(all, [1, 2, 0, 1, 1]);
    assert_eq!(state.handle(mapping(1, 3), page(&entries(&[2]))), Ok(0));
    assert_eq!(at(&state, 3), Some(2));
    let none = ControlMessage::SetHashAlgorithm(HashAlgorithm::None);
    assert_eq!(state.handle(none, nothing), Ok(0));
    assert_eq!(at(&state, 3), None);
}

#[test]
fn net_20_the_table_is_never_left_and_names_only_queues_there_are() {
    let mut state = hashing(2);
    assert_eq!(
        state.handle(ControlMessage::SetHashMappingSize(8), nothing),
        Ok(0)
    );
    let before = state.clone();
    let wrong = [
        (mapping(9, 0), vec![0; 9]),
        (mapping(1, 8), vec![0]),
        (mapping(u32::MAX, 2), vec![0]),
        (mapping(2, u32::MAX), vec![0]),
        (mapping(2, 0), vec![0, 2]),
        (mapping(2, 0), vec![u32::MAX, 0]),
    ];
    for (message, queues) in wrong {
        let answer = state.handle(message, page(&entries(&queues)));
        assert_eq!(answer, Err(ControlStatus::InvalidParameter), "{message:?}");
        assert_eq!(state, before, "{message:?}");
    }
    let away = |_: GrantRef, _: &mut [u8]| false;
    for message in [mapping(2, 0), key(40), key(1)] {
        let answer = state.handle(message, away);
        assert_eq!(answer, Err(ControlStatus::InvalidParameter));
        assert_eq!(state, before, "half of a page was taken over");
    }
    for message in [key(41), ControlMessage::SetHashMappingSize(129)] {
        let answer = state.handle(message, nothing);
        assert_eq!(answer, Err(ControlStatus::InvalidParameter));
    }
    assert_eq!(state.handle(mapping(0, 8), nothing), Ok(0));
}

#[test]
fn a_short_key_ends_in_zeros_and_none_hashes_all_alike() {
    let mut state = hashing(2);
    assert_eq!(state.handle(key(4), page(&KEY)), Ok(0));
    assert_ne!(state.of(&frame(TCP)), Some(PORTS));
    assert_eq!(state.handle(key(0), nothing), Ok(0));
    assert_eq!(state.of(&frame(TCP)).map(|hash| hash.value), Some(0));
}

fn any_message() -> impl Strategy<Value = ControlMessage> {
    let number = prop_oneof![0_u32..=129, any::<u32>()];
    (0..7, number.clone(), number).prop_map(|(which, a, b)| match which {
        0 => TOEPLITZ,
        1 => ControlMessage::GetHashFlags,
        2 => ControlMessage::SetHashFlags(HashKinds::new(a % 16).unwrap()),
        3 => key(a),
        4 => ControlMessage::GetHashMappingSize,
        5 => ControlMessage::SetHashMappingSize(a),
        _ => mapping(a, b),
    })
}

proptest! {
    #[test]
    fn no_message_leads_to_a_queue_that_does_not_exist(
        queues in 1_u32..5,
        talk in prop::collection::vec((any_message(), any::<[u8; 16]>()), 0..60),
        head in prop::collection::vec(any::<u8>(), 0..100),
        value in any::<u32>(),
    ) {
        let mut state = hashing(queues);
        for (message, fill) in talk {
            let _ = state.handle(message, |_, wanted| {
                for (place, byte) in wanted.iter_mut().zip(fill.iter().cycle()) {
                    *place = byte % 5;
                }
                for entry in wanted.chunks_exact_mut(4) {
                    entry[1..].fill(0);
                }
                true
            });
            let hash = Hash { kind: HashKind::Ipv4, value };
            for hash in [Some(hash), None, state.of(&head)] {
                prop_assert!(state.queue(hash).is_none_or(|queue| queue < queues));
            }
        }
    }
}
