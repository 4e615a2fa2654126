//! What a guest may talk to of the host itself.

use super::frames::*;
use super::live::{ip, send};
use super::*;
use crate::policy::HostService;
use crate::tap::tests::in_own_network;
use crate::tap::{Tap, TapQueue};

/// The host's address, which answers.
const HOST4: &str = "192.0.2.1";

/// NET-23: on a routed interface, whose guest has the host next to it.
#[test]
fn net_23_a_guest_talks_to_no_more_of_the_host_than_it_may() {
    in_own_network(|| {
        let tap = Tap::create(&name(), 1500, 500).unwrap();
        let guest = TapQueue::adopt(tap.queue().unwrap());
        tap.set_carrier(true).unwrap();
        let interface = name();
        let interface = interface.as_str();
        ip(&format!("link set {interface} up"));
        ip(&format!("addr add {HOST4}/24 dev {interface}"));
        ip(&format!(
            "neigh replace 192.0.2.7 lladdr 00:16:3e:00:00:01 dev {interface}"
        ));
        let service = |kind: &str, port: u16| {
            let address = format!("{HOST4}:{port}");
            match kind {
                "udp" => Socket::Udp(std::net::UdpSocket::bind(address).unwrap()),
                _ => Socket::Tcp(std::net::TcpListener::bind(address).unwrap()),
            }
        };
        let sockets = [
            service("udp", 53),
            service("udp", 67),
            service("udp", 123),
            service("tcp", 22),
            service("tcp", 80),
        ];
        // One packet for each, from a port of its own each time, then what of them got there.
        let from = std::cell::Cell::new(2000);
        let reached = || {
            from.set(from.get() + 1);
            let host = [0xfe, 0xff, 0xff, 0xff, 0xff, 0xff];
            for socket in &sockets {
                let (protocol, payload) = match socket.port() {
                    port @ (22 | 80) => (6, syn(from.get(), port)),
                    port => (17, ports(from.get(), port, b"hello")),
                };
                let packet = ip4(OWN4, [192, 0, 2, 1], protocol, &payload);
                send(&guest, &ethernet(host, MAC.0, IP4, &packet));
            }
            let answers = kernel::received(&guest);
            let got = sockets.iter().filter(|socket| socket.was_reached(&answers));
            got.map(Socket::port).collect::<Vec<_>>()
        };
        assert_eq!(reached(), [53, 67, 123, 22, 80], "without a policy");
        for (services, wanted) in [
            (vec![HostService::Dns], vec![53]),
            (vec![HostService::Dhcp, HostService::Http], vec![67, 80]),
            (vec![], vec![]),
        ] {
            let policy = VifPolicy {
                host: Some(services),
                ..VifPolicy::open(MAC)
            };
            Kernel.install(&name(), &policy).unwrap();
            assert_eq!(reached(), wanted, "{:?}", policy.host);
        }
        Kernel.remove(&name()).unwrap();
        assert_eq!(reached().len(), 5, "nothing is left");
        tap.remove().unwrap();
    });
}

/// The first packet of a connection, with its checksum.
fn syn(from: u16, to: u16) -> Vec<u8> {
    let mut syn = ports(from, to, &[])[..4].to_vec();
    syn.extend([0, 0, 0, 1, 0, 0, 0, 0, 5 << 4, 2, 0xff, 0xff, 0, 0, 0, 0]);
    let pseudo = [&OWN4[..], &[192, 0, 2, 1], &[0, 6, 0, 20]].concat();
    let words = pseudo.chunks(2).chain(syn.chunks(2));
    let sum: u32 = words
        .map(|word| u32::from(u16::from_be_bytes([word[0], word[1]])))
        .sum();
    let folded = (sum >> 16) + (sum & 0xffff);
    let sum = u16::try_from((folded >> 16) + (folded & 0xffff)).unwrap();
    syn[16..18].copy_from_slice(&(!sum).to_be_bytes());
    syn
}

enum Socket {
    Udp(std::net::UdpSocket),
    Tcp(std::net::TcpListener),
}

impl Socket {
    fn port(&self) -> u16 {
        let address = match self {
            Self::Udp(socket) => socket.local_addr(),
            Self::Tcp(socket) => socket.local_addr(),
        };
        address.unwrap().port()
    }

    /// A datagram has come; or the kernel has answered the guest for the listener.
    fn was_reached(&self, answers: &[Vec<u8>]) -> bool {
        match self {
            Self::Udp(socket) => {
                socket.set_nonblocking(true).unwrap();
                socket.recv(&mut [0; 64]).is_ok()
            }
            Self::Tcp(_) => answers.iter().any(|frame| {
                frame.get(23) == Some(&6) && frame.get(34..36) == Some(&self.port().to_be_bytes())
            }),
        }
    }
}
