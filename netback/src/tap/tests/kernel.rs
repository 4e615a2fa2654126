//! Frames of a guest judged by the kernel's TCP, and what it sends.

use std::io::{Read, Write};
use std::net::{IpAddr, TcpListener};

use ring_proto::netif::{Ip, RxOffload, TxChecksum};

use super::guest::{ACK, Got, Guest, SYN, gso, pattern};
use super::{Offload, Tap, TapQueue, in_own_network, ip, name};
use crate::headers::Transport;

/// A tap beside the kernel's TCP.
fn beside_tcp(ip_version: Ip, offload: Offload, test: fn(Guest, &TcpListener)) {
    in_own_network(move || {
        let tap = Tap::create(&name(), 1500, 500).unwrap();
        let queue = TapQueue::adopt(tap.queue().unwrap());
        tap.set_offload(offload).unwrap();
        tap.set_carrier(true).unwrap();
        ip("link set vif7.0 up");
        let (own, mask, guest) = match ip_version {
            Ip::V4 => ("192.0.2.1", "24", "192.0.2.2"),
            Ip::V6 => ("2001:db8::1", "64 nodad", "2001:db8::2"),
        };
        ip(&format!("addr add {own}/{mask} dev vif7.0"));
        ip(&format!(
            "neigh add {guest} lladdr 00:16:3e:00:00:01 dev vif7.0"
        ));
        let listener = TcpListener::bind((own.parse::<IpAddr>().unwrap(), 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let mut guest = Guest::new(queue, super::ADDRESS, ip_version, port);
        guest.knock();
        test(guest, &listener);
        tap.remove().unwrap();
    });
}

#[test]
fn net_10_the_kernel_looks_at_checksums_that_a_guest_calls_right() {
    for version in [Ip::V4, Ip::V6] {
        beside_tcp(version, Offload::default(), |mut guest, listener| {
            for (from, checksum) in [(7, TxChecksum::SaidToBeRight), (8, TxChecksum::Plain)] {
                guest.from = from;
                guest.send(guest.segment(SYN, &[], &[]), checksum, None);
            }
            guest.from = 9;
            // Were one of the others taken for right, its answer would come first.
            guest.connect(listener);
        });
    }
}

#[test]
fn net_09_the_kernel_takes_what_is_blank_and_what_is_to_be_cut_up() {
    for version in [Ip::V4, Ip::V6] {
        beside_tcp(version, Offload::default(), |mut guest, listener| {
            let mut stream = guest.connect(listener);
            for (len, forgets) in [(100, false), (20_000, false), (20_000, true)] {
                let sent = pattern(len);
                let mut frame = guest.segment(ACK, &[], &sent);
                let large = gso(guest.ip).filter(|gso| len > gso.size.get().into());
                if forgets {
                    // A frontend that does not say that its checksum is blank, and it is not even that.
                    let at = Transport::parse(&frame).unwrap().l4 + 16;
                    frame[at..at + 2].fill(0xaa);
                    guest.send(frame, TxChecksum::Plain, large);
                } else {
                    guest.send(frame, TxChecksum::Blank, large);
                }
                let mut got = vec![0; len];
                stream.read_exact(&mut got).unwrap();
                assert_eq!(got, sent);
                guest.seq += u32::try_from(len).unwrap();
            }
        });
    }
}

/// What the kernel sends as TCP, as the guest gets it.
fn fetch(guest: &mut Guest, listener: &TcpListener) -> Vec<Got> {
    let mut stream = guest.connect(listener);
    let sent = pattern(14_000);
    stream.write_all(&sent).unwrap();
    let (mut frames, mut payload) = (Vec::new(), Vec::<u8>::new());
    while payload.len() < sent.len() {
        let got = guest.receive();
        payload.extend_from_slice(got.payload());
        guest.ack = got.seq() + u32::try_from(got.payload().len()).unwrap();
        guest.send(guest.segment(ACK, &[], &[]), TxChecksum::Blank, None);
        frames.push(got);
    }
    assert_eq!(payload, sent);
    frames
}

#[test]
fn net_14_nothing_is_left_undone_for_who_has_agreed_to_nothing() {
    for version in [Ip::V4, Ip::V6] {
        beside_tcp(version, Offload::default(), |mut guest, listener| {
            for got in fetch(&mut guest, listener) {
                assert!(got.frame.len() <= 1514 && got.is_whole());
                assert_eq!(got.offload(), RxOffload::Plain);
            }
        });
    }
}

#[test]
fn net_14_who_has_agreed_to_checksums_only_gets_no_long_frames() {
    for version in [Ip::V4, Ip::V6] {
        let offload = Offload {
            checksum: true,
            ..Offload::default()
        };
        beside_tcp(version, offload, |mut guest, listener| {
            for got in fetch(&mut guest, listener) {
                assert!(got.frame.len() <= 1514 && got.is_blank());
                assert_eq!(got.offload(), RxOffload::Blank(guest.ip));
            }
        });
    }
}

#[test]
fn who_has_agreed_to_all_gets_long_frames_of_the_right_kind() {
    for version in [Ip::V4, Ip::V6] {
        let offload = Offload {
            checksum: true,
            tcpv4: version == Ip::V4,
            tcpv6: version == Ip::V6,
        };
        beside_tcp(version, offload, |mut guest, listener| {
            let frames = fetch(&mut guest, listener);
            let long: Vec<_> = frames.iter().filter(|got| got.frame.len() > 1514).collect();
            assert!(!long.is_empty());
            for got in long {
                assert!(got.is_blank(), "netfront looks for the pseudo header's sum");
                assert_eq!(Some(got.offload()), gso(guest.ip).map(RxOffload::Gso));
            }
        });
    }
}
