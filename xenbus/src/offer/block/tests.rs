use proptest::prelude::*;

use super::*;

const LIMITS: OfferLimits = OfferLimits {
    queues: 4,
    ring_page_order: 4,
};

fn values(keys: &[(&str, &str)]) -> Values {
    keys.iter()
        .map(|(key, value)| ((*key).to_owned(), value.as_bytes().to_vec()))
        .collect()
}

fn parse(keys: &[(&str, &str)]) -> Result<BlockOffer, BadOffer> {
    BlockOffer::parse(&values(keys), LIMITS)
}

fn refs(offer: &BlockOffer) -> Vec<Vec<u32>> {
    offer
        .rings
        .iter()
        .map(|ring| ring.refs.iter().map(|gref| gref.raw()).collect())
        .collect()
}

#[test]
fn one_page_one_queue() {
    let offer = parse(&[
        ("ring-ref", "8"),
        ("event-channel", "15"),
        ("protocol", "x86_64-abi"),
        ("feature-persistent", "1"),
    ])
    .expect("an offer");
    assert_eq!(offer.protocol.as_deref(), Some("x86_64-abi"));
    assert!(offer.persistent);
    assert_eq!(
        offer.rings,
        [RingOffer {
            refs: vec![GrantRef::new(8)],
            port: 15
        }]
    );
}

#[test]
fn a_page_order_means_numbered_names_even_when_zero() {
    let many = [
        ("ring-page-order", "1"),
        ("ring-ref0", "8"),
        ("ring-ref1", "9"),
        ("ring-ref", "77"),
        ("event-channel", "15"),
    ];
    assert_eq!(refs(&parse(&many).expect("an offer")), [[8, 9]]);
    let zero = [
        ("ring-page-order", "0"),
        ("ring-ref0", "8"),
        ("ring-ref", "77"),
        ("event-channel", "15"),
    ];
    assert_eq!(refs(&parse(&zero).expect("an offer")), [[8]]);
    let plain = [
        ("ring-page-order", "0"),
        ("ring-ref", "77"),
        ("event-channel", "15"),
    ];
    assert_eq!(refs(&parse(&plain).expect("an offer")), [[77]]);
    let absent = [("ring-ref0", "8"), ("event-channel", "15")];
    assert_eq!(parse(&absent), Err(bad("ring-ref", OfferFault::Missing)));
}

#[test]
fn several_queues_live_in_directories_and_a_single_one_does_not() {
    let two = [
        ("multi-queue-num-queues", "2"),
        ("queue-0/ring-ref", "8"),
        ("queue-0/event-channel", "15"),
        ("queue-1/ring-ref", "9"),
        ("queue-1/event-channel", "16"),
        ("ring-ref", "77"),
    ];
    let offer = parse(&two).expect("an offer");
    assert_eq!(refs(&offer), [[8], [9]]);
    assert_eq!(
        offer.rings.iter().map(|ring| ring.port).collect::<Vec<_>>(),
        [15, 16]
    );
    let one = [
        ("multi-queue-num-queues", "1"),
        ("ring-ref", "8"),
        ("event-channel", "15"),
    ];
    assert_eq!(refs(&parse(&one).expect("an offer")), [[8]]);
}

#[test]
fn con_04_numbers_that_are_none_and_numbers_beyond_what_was_advertised() {
    let good = [
        ("multi-queue-num-queues", "1"),
        ("ring-page-order", "0"),
        ("ring-ref0", "8"),
        ("event-channel", "15"),
        ("feature-persistent", "0"),
    ];
    assert!(parse(&good).is_ok());
    let digits = "9".repeat(4096);
    let hostile = [
        "",
        "-1",
        " 7",
        "0x7",
        "4294967296",
        &digits,
        "1\0",
        "\u{fffd}",
        "1 ",
        "+1",
    ];
    for (key, _) in good {
        for value in hostile {
            let mut keys = values(&good);
            keys.insert(key.to_owned(), value.as_bytes().to_vec());
            let error = BlockOffer::parse(&keys, LIMITS).expect_err(value);
            assert_eq!(error.key, key);
            assert!(error.to_string().len() < 200, "{error}");
        }
        let mut keys = values(&good);
        keys.insert(key.to_owned(), vec![0xff, 0xfe]);
        assert!(BlockOffer::parse(&keys, LIMITS).is_err());
    }
    for (key, value) in [
        ("ring-page-order", "5"),
        ("ring-page-order", "99"),
        ("ring-page-order", "31"),
        ("ring-page-order", "4294967295"),
        ("multi-queue-num-queues", "0"),
        ("multi-queue-num-queues", "5"),
        ("multi-queue-num-queues", "65536"),
        ("event-channel", "0"),
        ("event-channel", "131072"),
        ("event-channel", "2147483648"),
        ("feature-persistent", "2"),
    ] {
        let mut keys = values(&good);
        keys.insert(key.to_owned(), value.as_bytes().to_vec());
        assert_eq!(BlockOffer::parse(&keys, LIMITS).expect_err(value).key, key);
    }
}

#[test]
fn con_04_nothing_is_named_twice() {
    let pages = [
        ("ring-page-order", "1"),
        ("ring-ref0", "8"),
        ("ring-ref1", "8"),
        ("event-channel", "15"),
    ];
    assert_eq!(parse(&pages), Err(bad("ring-ref1", OfferFault::Twice(8))));
    let ports = [
        ("multi-queue-num-queues", "2"),
        ("queue-0/ring-ref", "8"),
        ("queue-0/event-channel", "15"),
        ("queue-1/ring-ref", "9"),
        ("queue-1/event-channel", "15"),
    ];
    assert_eq!(
        parse(&ports),
        Err(bad("queue-1/event-channel", OfferFault::Twice(15)))
    );
}

#[test]
fn con_04_a_protocol_name_is_short_and_printable() {
    let with = |protocol: &[u8]| {
        let mut keys = values(&[("ring-ref", "8"), ("event-channel", "15")]);
        keys.insert("protocol".to_owned(), protocol.to_vec());
        BlockOffer::parse(&keys, LIMITS).map(|offer| offer.protocol)
    };
    assert_eq!(
        with(b"x86_3"),
        Ok(Some("x86_3".to_owned())),
        "whether we speak it is not decided here"
    );
    for bad in [&[b'x'; 33][..], b"x86\n", b"\xff", b"x86 64", b"a\0"] {
        assert_eq!(with(bad).expect_err("bad").key, "protocol");
    }
}

#[test]
fn texts_of_errors() {
    let shown = |keys: &[(&str, &str)]| parse(keys).expect_err("bad").to_string();
    assert_eq!(shown(&[]), "frontend's ring-ref is missing");
    assert_eq!(
        shown(&[("ring-ref", "-1")]),
        "frontend's ring-ref = \"-1\" is not a decimal number"
    );
    assert_eq!(
        shown(&[("ring-page-order", "99")]),
        "frontend's ring-page-order = \"99\" is over the limit of 4"
    );
    assert_eq!(
        shown(&[("ring-ref", "8"), ("event-channel", "0")]),
        "frontend's event-channel is 0"
    );
    let long = "\u{1b}[2J".repeat(1000);
    let text = shown(&[("protocol", &long)]);
    assert!(
        text.is_ascii() && !text.contains('\u{1b}') && text.len() < 200,
        "{text}"
    );
    assert!(
        text.ends_with("... (4000 bytes) is no protocol name"),
        "{text}"
    );
}

fn key_name() -> impl Strategy<Value = String> {
    let names = [
        "ring-ref",
        "ring-ref0",
        "ring-ref1",
        "event-channel",
        "queue-0/ring-ref",
        "queue-0/event-channel",
    ];
    let more = [
        "queue-1/ring-ref",
        "queue-1/event-channel",
        "ring-page-order",
        "multi-queue-num-queues",
        "protocol",
    ];
    proptest::sample::select([&names[..], &more[..]].concat()).prop_map(str::to_owned)
}

fn value() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        4 => (0_u32..20).prop_map(|number| number.to_string().into_bytes()),
        1 => any::<u64>().prop_map(|number| number.to_string().into_bytes()),
        1 => proptest::collection::vec(any::<u8>(), 0..40),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn con_04_whatever_is_written_an_offer_keeps_its_promises(
        keys in proptest::collection::btree_map(key_name(), value(), 0..12),
    ) {
        match BlockOffer::parse(&keys, LIMITS) {
            Ok(offer) => {
                prop_assert!((1..=4).contains(&offer.rings.len()));
                let pages: Vec<usize> = offer.rings.iter().map(|ring| ring.refs.len()).collect();
                prop_assert!(pages.iter().all(|count| count.is_power_of_two() && *count <= 16 && *count == pages[0]));
                prop_assert!(offer.rings.iter().all(|ring| (1..=PORT_MAX).contains(&ring.port)));
                let mut all: Vec<_> = offer.rings.iter().flat_map(|ring| &ring.refs).collect();
                let before = all.len();
                all.sort();
                all.dedup();
                prop_assert_eq!(all.len(), before);
            }
            Err(error) => prop_assert!(error.to_string().is_ascii() && error.to_string().len() < 256),
        }
    }
}
