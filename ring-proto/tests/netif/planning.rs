//! What a frame takes, and what a frontend must not be given.

use ring_proto::netif::{Headroom, Ip, MAX_RX_FRAME, RxFeatures, RxOffload, RxRefusal};

use crate::receiving::HASH;
use crate::{features, gso};

/// NET-12, XSA-392: what is waited for is enough for any frame that can come.
#[test]
fn net_12_the_most_that_a_frame_takes() {
    let all = RxFeatures {
        hash: true,
        headroom: Headroom::new(256).unwrap(),
        ..features()
    };
    assert_eq!(all.most_requests(1500), 17 + 3);
    assert_eq!(features().most_requests(1500), 17 + 1);
    let no_gso = RxFeatures {
        gso_v4: false,
        gso_v6: false,
        ..all
    };
    assert_eq!(no_gso.most_requests(1500), 1 + 2);
    assert_eq!(no_gso.most_requests(9000), 3 + 2);
    assert_eq!(no_gso.most_requests(u32::MAX), 17 + 2);
    let one = RxFeatures {
        sg: false,
        hash: false,
        headroom: Headroom::NONE,
        ..no_gso
    };
    assert_eq!(one.most_requests(9000), 1);
}

/// NET-14: what the frontend has not agreed to does not reach it.
#[test]
fn net_14_what_was_not_agreed_to_is_refused() {
    let none = RxFeatures {
        sg: false,
        blank_v4: false,
        blank_v6: false,
        gso_v4: false,
        gso_v6: false,
        ..features()
    };
    let refused = |features: RxFeatures, len, offload| features.plan(len, offload, None).err();
    for len in [0, 13, MAX_RX_FRAME + 1, u32::MAX] {
        let expected = Some(RxRefusal::Length(len));
        assert_eq!(refused(features(), len, RxOffload::Plain), expected);
    }
    for len in [14, MAX_RX_FRAME] {
        assert_eq!(refused(features(), len, RxOffload::Plain), None);
    }
    assert_eq!(refused(none, 4096, RxOffload::Validated), None);
    let expected = RxRefusal::NotScattered {
        len: 4097,
        room: 4096,
    };
    assert_eq!(refused(none, 4097, RxOffload::Plain), Some(expected));
    let headroom = RxFeatures {
        headroom: Headroom::new(256).unwrap(),
        ..none
    };
    assert_eq!(refused(headroom, 3840, RxOffload::Plain), None);
    let expected = RxRefusal::NotScattered {
        len: 3841,
        room: 3840,
    };
    assert_eq!(refused(headroom, 3841, RxOffload::Plain), Some(expected));
    for ip in [Ip::V4, Ip::V6] {
        let blank = RxFeatures {
            blank_v4: ip == Ip::V4,
            blank_v6: ip == Ip::V6,
            ..none
        };
        let other = if ip == Ip::V4 { Ip::V6 } else { Ip::V4 };
        assert_eq!(refused(blank, 60, RxOffload::Blank(ip)), None);
        let expected = Some(RxRefusal::Blank(other));
        assert_eq!(refused(blank, 60, RxOffload::Blank(other)), expected);
        let expected = Some(RxRefusal::Gso(ip));
        let segments = RxOffload::Gso(gso(ip, 500));
        assert_eq!(refused(blank, 600, segments), expected);
        // Cutting up includes the checksum.
        let only_gso = RxFeatures {
            gso_v4: true,
            gso_v6: true,
            ..none
        };
        assert_eq!(refused(only_gso, 600, segments), Some(RxRefusal::Blank(ip)));
    }
    let plan = features().plan(60, RxOffload::Plain, Some(HASH)).unwrap();
    assert_eq!(plan.requests(), 1, "a hash that was not asked for");
}

#[test]
fn refusals_say_what_is_wrong_with_numbers() {
    for (refusal, text) in [
        (RxRefusal::Length(13), "13 bytes, a frame has 14 to 65553"),
        (
            RxRefusal::NotScattered {
                len: 4097,
                room: 4096,
            },
            "4097 bytes, and one buffer of 4096 is all the frontend takes",
        ),
        (
            RxRefusal::Blank(Ip::V4),
            "IPv4 packet without checksum, which the frontend wants",
        ),
        (
            RxRefusal::Gso(Ip::V6),
            "IPv6 packet to be cut up, which the frontend does not do",
        ),
    ] {
        assert_eq!(refusal.to_string(), text);
    }
}

#[test]
fn con_04_headroom_leaves_room() {
    for (bytes, fits) in [
        (0, true),
        (256, true),
        (2048, true),
        (2049, false),
        (65_536, false),
        (65_792, false),
        (u32::MAX, false),
    ] {
        assert_eq!(Headroom::new(bytes).is_some(), fits, "{bytes}");
    }
    assert_eq!(Headroom::new(0), Some(Headroom::NONE));
}
