//! Packets of a guest and of the world, through the kernels of three hosts.

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::host::{Host, Vif};
use crate::wire::connect;

const VIF: Vif = Vif(7);
/// The host's addresses in the world, and the world's.
const HOST: [&str; 2] = ["192.0.2.1", "2001:db8::1"];
const WORLD: [&str; 2] = ["192.0.2.2", "2001:db8::2"];

/// The world, a host in it, and the host's guest.
struct Three {
    world: Host,
    host: Host,
    guest: Host,
}

impl Three {
    /// The guest has `own`, an address of either family, and its host for a router.
    fn new(name: &str, mode: &str, own: [&'static str; 2], keys: &[(&str, &str)]) -> Self {
        let [world, host, guest] =
            ["world", "host", "guest"].map(|which| Host::new(&format!("{name}-{which}")));
        for host in [&world, &host, &guest] {
            // Addresses are there at once.
            host.sh(
                "for of in all default; do echo 0 >/proc/sys/net/ipv6/conf/$of/accept_dad; done",
            );
        }
        host.sh("echo 1 >/proc/sys/net/ipv6/conf/all/forwarding");
        connect((&world, "eth0"), (&host, "eth0"));
        for (host, [v4, v6]) in [(&world, WORLD), (&host, HOST)] {
            host.sh(&format!(
                "ip link set eth0 up\n\
                 ip address add {v4}/24 dev eth0\n\
                 ip address add {v6}/64 dev eth0 nodad"
            ));
        }
        host.sh(&format!("ip route add default via {}", WORLD[0]));
        let ip = own.join(" ");
        let mut all = vec![("network/mode", mode), ("ip", ip.as_str())];
        all.extend(keys);
        host.vif(VIF, &all);
        connect((&guest, "eth0"), (&host, "vif7.0"));
        let [v4, v6] = own;
        guest.sh(&format!(
            "ip link set eth0 up\n\
             ip address add {v4}/32 dev eth0\n\
             ip address add {v6}/128 dev eth0 nodad\n\
             ip route add default via {} dev eth0 onlink\n\
             ip -6 route add default via fe80::1 dev eth0",
            HOST[0]
        ));
        host.must(VIF, "online");
        Self { world, host, guest }
    }
}

/// Says `word` to one visitor; gives the address that it seems to come from.
fn listen(host: &Host, port: u16, word: &'static str) -> JoinHandle<IpAddr> {
    let (tell, told) = std::sync::mpsc::channel();
    let heard = host.inside(move || {
        let listener = TcpListener::bind(("::", port)).unwrap();
        tell.send(()).unwrap();
        let (mut stream, from) = listener.accept().unwrap();
        stream.write_all(word.as_bytes()).unwrap();
        from.ip().to_canonical()
    });
    told.recv().unwrap();
    heard
}

/// What somebody at `to` says to a visitor from `host`.
fn visit(host: &Host, to: &str, port: u16) -> String {
    let to = SocketAddr::new(to.parse().unwrap(), port);
    let visit = host.inside(move || {
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            match TcpStream::connect_timeout(&to, Duration::from_secs(5)) {
                Ok(mut stream) => {
                    let mut heard = String::new();
                    stream.read_to_string(&mut heard).unwrap();
                    return heard;
                }
                // The other end's carrier, or address, may take a moment.
                Err(error) => assert!(Instant::now() < deadline, "{to}: {error}"),
            }
        }
    });
    visit.join().unwrap()
}

#[test]
fn the_world_sees_a_hidden_guest_as_its_host_and_reaches_the_ports_that_lead_to_it() {
    let own = ["10.0.0.5", "fd00::5"];
    let forwards = ("network/forwards", "tcp any 8080 guest 80");
    let Three { world, host, guest } = Three::new("hidden", "nat", own, &[forwards]);
    for family in [0, 1] {
        let seen = listen(&world, 1000, "world");
        assert_eq!(visit(&guest, WORLD[family], 1000), "world");
        assert_eq!(seen.join().unwrap().to_string(), HOST[family]);

        let seen = listen(&guest, 80, "guest");
        assert_eq!(visit(&world, HOST[family], 8080), "guest");
        assert_eq!(seen.join().unwrap().to_string(), WORLD[family]);

        // The host itself: by its own address, and by the guest's.
        let seen = listen(&guest, 80, "guest");
        assert_eq!(visit(&host, HOST[family], 8080), "guest");
        seen.join().unwrap();
        let seen = listen(&guest, 80, "guest");
        assert_eq!(visit(&host, own[family], 80), "guest");
        seen.join().unwrap();
    }
    // Its own ports are its own again when the guest has gone.
    host.must(VIF, "offline");
    let seen = listen(&host, 8080, "host");
    assert_eq!(visit(&world, HOST[0], 8080), "host");
    seen.join().unwrap();
}

#[test]
fn a_hidden_guest_does_not_send_under_addresses_that_are_not_its_own() {
    let own = ["10.0.0.5", "fd00::5"];
    let Three { world, host, guest } = Three::new("liar", "nat", own, &[]);
    guest.sh("ip address add 10.0.0.6/32 dev eth0\nip address add fd00::6/128 dev eth0 nodad");
    // Nothing else is in the way: the kernel checks no IPv6 sources, and knows these addresses.
    host.sh("ip route add 10.0.0.6 dev vif7.0\nip -6 route add fd00::6 dev vif7.0");
    world.sh("ip route add 10.0.0.0/24 via 192.0.2.1\nip -6 route add fd00::/64 via 2001:db8::1");
    let gateways = [HOST[0], "fe80::1"];
    for (family, lie) in [(0, "10.0.0.6"), (1, "fd00::6")] {
        let seen = listen(&world, 1000, "world");
        let speak_as = |source| {
            let flag = ["-4", "-6"][family];
            guest.sh(&format!(
                "ip {flag} route replace {} via {} dev eth0 onlink src {source}",
                WORLD[family], gateways[family]
            ));
        };
        speak_as(lie);
        let to = SocketAddr::new(WORLD[family].parse().unwrap(), 1000);
        let lied = guest.inside(move || TcpStream::connect_timeout(&to, Duration::from_secs(1)));
        assert!(lied.join().unwrap().is_err());
        speak_as(own[family]);
        assert_eq!(visit(&guest, WORLD[family], 1000), "world");
        // Who came first, is the one who told the truth.
        assert_eq!(seen.join().unwrap().to_string(), HOST[family]);
    }
}

#[test]
fn the_world_reaches_a_routed_guest_under_its_own_address() {
    // In the network of the uplink: the world knows no way to it but to ask for it there.
    let own = ["192.0.2.7", "2001:db8::7"];
    let Three { world, host, guest } = Three::new("routed", "route", own, &[]);
    for family in [0, 1] {
        let seen = listen(&guest, 80, "guest");
        assert_eq!(visit(&world, own[family], 80), "guest");
        assert_eq!(seen.join().unwrap().to_string(), WORLD[family]);

        let seen = listen(&world, 1000, "world");
        assert_eq!(visit(&guest, WORLD[family], 1000), "world");
        assert_eq!(seen.join().unwrap().to_string(), own[family]);

        let seen = listen(&guest, 80, "guest");
        assert_eq!(visit(&host, own[family], 80), "guest");
        seen.join().unwrap();
    }
    // A guest that takes all of the network for its neighbours finds them as well.
    guest.sh("ip route replace 192.0.2.0/24 dev eth0");
    let seen = listen(&world, 1000, "world");
    assert_eq!(visit(&guest, WORLD[0], 1000), "world");
    seen.join().unwrap();
}
