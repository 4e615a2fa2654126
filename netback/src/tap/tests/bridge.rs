//! Frames seen by a tap that another crate has opened, for which the kernel leaves nothing undone,
//! at the other end of a bridge.

use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use ring_proto::netif::{Ip, TxChecksum};
use tun_tap::{Iface, Mode};

use super::guest::{ACK, Got, Guest, PATIENCE, gso, mss, pattern, wait};
use super::{Tap, TapQueue, in_own_network, ip, name};
use crate::headers::{TCP, Transport};
use crate::vnet::VNET_LEN;

/// A bridge between the guest's tap and one that the other crate has made; what comes out of that.
fn behind_a_bridge(test: fn(&TapQueue, &Iface, &Receiver<Vec<u8>>)) {
    in_own_network(move || {
        let tap = Tap::create(&name(), 1500, 500).unwrap();
        let queue = TapQueue::adopt(tap.queue().unwrap());
        tap.set_carrier(true).unwrap();
        let peer = Iface::without_packet_info("peer0", Mode::Tap).unwrap();
        ip("link add br0 type bridge");
        for port in ["vif7.0", "peer0"] {
            ip(&format!("link set {port} master br0"));
            ip(&format!("link set {port} up"));
        }
        ip("link set br0 up");
        let peer = Arc::new(peer);
        let (tell, told) = channel();
        let reader = Arc::clone(&peer);
        // Ends with the process: its tap has no other end.
        std::thread::spawn(move || {
            let mut bytes = [0; 70_000];
            while let Ok(len) = reader.recv(&mut bytes) {
                if tell.send(bytes[..len].to_vec()).is_err() {
                    break;
                }
            }
        });
        test(&queue, &peer, &told);
        tap.remove().unwrap();
    });
}

const PEER: [u8; 6] = [0, 0x16, 0x3e, 0, 0, 2];

/// The next TCP frame that comes out behind the bridge.
fn next(frames: &Receiver<Vec<u8>>) -> Got {
    loop {
        let patience = Duration::from_secs(PATIENCE.unsigned_abs());
        let frame = frames.recv_timeout(patience).unwrap();
        let header = [0; VNET_LEN];
        let found = Transport::parse(&frame).filter(|found| found.protocol == TCP);
        if let Some(found) = found {
            return Got {
                header,
                frame,
                found,
            };
        }
    }
}

#[test]
fn others_get_whole_frames_of_what_a_guest_sends() {
    behind_a_bridge(|queue, _, frames| {
        for version in [Ip::V4, Ip::V6] {
            let queue = TapQueue::adopt(queue.as_fd().try_clone_to_owned().unwrap());
            let guest = Guest::new(queue, PEER, version, 80);
            let short = guest.segment(ACK, &[], &pattern(99));
            guest.send(short, TxChecksum::Blank, None);
            let got = next(frames);
            assert!(got.is_whole() && got.payload() == pattern(99));
            for len in [1461, 20_000, 65_000] {
                let sent = pattern(len);
                let long = guest.segment(ACK, &[], &sent);
                guest.send(long, TxChecksum::Blank, gso(version));
                let mut payload = Vec::<u8>::new();
                while payload.len() < len {
                    let got = next(frames);
                    let expected = guest.seq + u32::try_from(payload.len()).unwrap();
                    assert_eq!(got.seq(), expected);
                    assert!(got.is_whole(), "{version} at {expected}");
                    assert!(got.payload().len() <= mss(version).into());
                    payload.extend_from_slice(got.payload());
                }
                assert!(payload == sent, "{version}, {len} bytes");
            }
        }
    });
}

#[test]
fn frames_of_others_come_as_they_were() {
    behind_a_bridge(|queue, peer, _| {
        for len in [60, 1514] {
            let mut frame = pattern(len);
            frame[..6].copy_from_slice(&[0, 0x16, 0x3e, 0, 0, 1]);
            frame[6..12].copy_from_slice(&PEER);
            frame[12..14].copy_from_slice(&[0x88, 0xb5]);
            peer.send(&frame).unwrap();
            loop {
                wait(queue);
                let mut bytes = vec![0; 70_000];
                let len = rustix::io::read(queue, &mut bytes).unwrap();
                // The bridge itself may speak.
                if bytes[24..26] == [0x88, 0xb5] {
                    assert_eq!(bytes[..VNET_LEN], [0; VNET_LEN]);
                    assert!(bytes[VNET_LEN..len] == frame);
                    break;
                }
            }
        }
    });
}
