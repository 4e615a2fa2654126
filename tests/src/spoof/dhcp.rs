//! DHCP of both families: servers that are none, clients that are another (NET-17).

use std::net::{Ipv4Addr, Ipv6Addr};

use super::List;
use super::build::{BROADCAST, IPV4, IPV6, Ip4, Ip6, MORE, TCP, UDP, discover, ethernet, syn, udp};

pub(super) fn add(list: &mut List) {
    clients(list);
    others_clients(list);
    servers(list);
    from_nowhere(list);
    v6(list);
}

fn message(from: Ipv4Addr, to: Ipv4Addr, ports: (u16, u16), chaddr: [u8; 6]) -> Ip4 {
    Ip4::new(from, to, UDP, udp(ports.0, ports.1, &discover(chaddr)))
}

fn shout(list: &List, packet: &Ip4) -> Vec<u8> {
    ethernet(BROADCAST, list.site.own.mac, IPV4, &packet.bytes())
}

fn tell(list: &List, packet: &Ip4) -> Vec<u8> {
    ethernet(
        list.site.gateway.mac,
        list.site.own.mac,
        IPV4,
        &packet.bytes(),
    )
}

const NOBODY: Ipv4Addr = Ipv4Addr::UNSPECIFIED;
const ALL: Ipv4Addr = Ipv4Addr::BROADCAST;
const ASKING: (u16, u16) = (68, 67);

fn clients(list: &mut List) {
    let site = list.site;
    let own = site.own;
    let first = message(NOBODY, ALL, ASKING, own.mac);
    list.pass("a DHCP client's first message", shout(list, &first));
    let again = message(own.v4, site.gateway.v4, ASKING, own.mac);
    list.pass("a DHCP client that keeps its address", tell(list, &again));
    let rebinds = message(own.v4, ALL, ASKING, own.mac);
    list.pass(
        "a DHCP client that looks for any server",
        shout(list, &rebinds),
    );
    let mut options = message(NOBODY, ALL, ASKING, own.mac);
    options.options = vec![0x94, 4, 0, 0];
    list.pass("a DHCP client with IP options", shout(list, &options));
    let mut piece = first;
    piece.piece = MORE;
    list.pass("the first fragment of a DHCP client", shout(list, &piece));
    let short = &discover(own.mac)[..34];
    let least = Ip4::new(NOBODY, ALL, UDP, udp(68, 67, short));
    list.pass(
        "DHCP that ends behind the client's address",
        shout(list, &least),
    );
}

fn others_clients(list: &mut List) {
    let site = list.site;
    let mut almost = site.own.mac;
    almost[5] ^= 1;
    for (whose, chaddr) in [
        ("a neighbour's", site.neighbour.mac),
        ("the gateway's", site.gateway.mac),
        ("nobody's", [0; 6]),
        ("everybody's", BROADCAST),
        ("almost its own", almost),
        ("a random", [0x02, 0xde, 0xad, 0xbe, 0xef, 0x01]),
        ("another random", [0x02, 0xde, 0xad, 0xbe, 0xef, 0x02]),
    ] {
        let packet = message(NOBODY, ALL, ASKING, chaddr);
        list.drop(
            "dhcp",
            format!("DHCP for {whose} hardware"),
            shout(list, &packet),
        );
        let packet = message(site.own.v4, site.gateway.v4, ASKING, chaddr);
        let name = format!("DHCP from its own address for {whose} hardware");
        list.drop("dhcp", name, tell(list, &packet));
    }
    for len in [0, 27, 33] {
        let packet = Ip4::new(
            NOBODY,
            ALL,
            UDP,
            udp(68, 67, &discover(site.own.mac)[..len]),
        );
        list.drop("dhcp", format!("DHCP of {len} bytes"), shout(list, &packet));
    }
    let mut hidden = Ip4::new(NOBODY, ALL, UDP, udp(68, 67, &[]));
    hidden.piece = MORE;
    list.drop(
        "dhcp",
        "DHCP whose client comes in a later fragment",
        shout(list, &hidden),
    );
}

fn servers(list: &mut List) {
    let site = list.site;
    let own = site.own;
    for (what, to, ports) in [
        ("an offer", ALL, (67, 68)),
        ("an answer to one", site.neighbour.v4, (67, 68)),
        ("a relay", site.gateway.v4, (67, 67)),
        ("a server to another port", site.neighbour.v4, (67, 4011)),
        ("a server of IPv6 over IPv4", site.neighbour.v4, (547, 546)),
    ] {
        let packet = message(own.v4, to, ports, site.neighbour.mac);
        list.drop("dhcp", format!("DHCP as {what}"), tell(list, &packet));
        let packet = message(site.gateway.v4, to, ports, site.neighbour.mac);
        let name = format!("DHCP as {what}, from the gateway's address");
        list.drop("dhcp", name, tell(list, &packet));
    }
    let from_none = message(NOBODY, ALL, (67, 68), own.mac);
    list.drop("dhcp", "an offer from nobody", shout(list, &from_none));
    let mut piece = message(own.v4, ALL, (67, 68), own.mac);
    piece.piece = MORE;
    list.drop(
        "dhcp",
        "the first fragment of an offer",
        shout(list, &piece),
    );
    piece.options = vec![1; 40];
    list.drop(
        "dhcp",
        "an offer behind all options that fit",
        shout(list, &piece),
    );
    let nothing = Ip4::new(own.v4, ALL, UDP, vec![0, 67, 0, 68]);
    list.drop(
        "dhcp",
        "nothing but the ports of an offer",
        shout(list, &nothing),
    );
}

/// What only a client that has no address may say, said otherwise.
fn from_nowhere(list: &mut List) {
    let site = list.site;
    let own = site.own.mac;
    for (name, to, ports) in [
        ("to the gateway", site.gateway.v4, ASKING),
        ("to a neighbour", site.neighbour.v4, ASKING),
        (
            "to the network",
            Ipv4Addr::from(u32::from(site.own.v4) | 0xff),
            ASKING,
        ),
        ("to a group", Ipv4Addr::new(224, 0, 0, 1), ASKING),
        ("from port 69", ALL, (69, 67)),
        ("to port 68", ALL, (68, 68)),
        ("to port 69", ALL, (68, 69)),
        ("as a client of IPv6", ALL, (546, 547)),
    ] {
        let packet = message(NOBODY, to, ports, own);
        list.drop(
            "ip",
            format!("DHCP from nobody {name}"),
            shout(list, &packet),
        );
    }
    let packet = Ip4::new(NOBODY, ALL, TCP, syn(68, 67));
    list.drop(
        "ip",
        "TCP from nobody on DHCP's ports",
        shout(list, &packet),
    );
    let mut later = message(NOBODY, ALL, ASKING, own);
    later.piece = 8;
    list.drop(
        "ip",
        "a later fragment of DHCP from nobody",
        shout(list, &later),
    );
    let packet = message(site.neighbour.v4, site.gateway.v4, ASKING, own);
    list.drop(
        "ip",
        "DHCP for itself from a neighbour's address",
        tell(list, &packet),
    );
}

fn v6(list: &mut List) {
    let site = list.site;
    let own = site.own;
    let servers = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 1, 2);
    let group = [0x33, 0x33, 0, 1, 0, 2];
    let solicit = [1, 0xaa, 0xbb, 0xcc, 0, 8, 0, 2, 0, 0];
    let frame = |from: Ipv6Addr, ports: (u16, u16)| {
        let packet = Ip6::new(from, servers, UDP, udp(ports.0, ports.1, &solicit));
        ethernet(group, own.mac, IPV6, &packet.bytes())
    };
    list.pass("a DHCPv6 client", frame(own.link_local(), (546, 547)));
    list.pass(
        "a DHCPv6 client from its own address",
        frame(own.v6, (546, 547)),
    );
    list.pass(
        "UDP to a DHCPv6 server's port",
        frame(own.v6, (40_000, 547)),
    );
    for (which, from) in [("own", own.v6), ("link-local", own.link_local())] {
        for (what, ports) in [
            ("a server", (547, 546)),
            ("a relay", (547, 547)),
            ("a server to another port", (547, 40_000)),
            ("a server of IPv4", (67, 68)),
        ] {
            let name = format!("DHCPv6 as {what}, from its {which} address");
            list.drop("dhcp", name, frame(from, ports));
        }
    }
    let neighbour = site.neighbour;
    list.drop(
        "ip",
        "a DHCPv6 client from a neighbour's address",
        frame(neighbour.v6, (546, 547)),
    );
    let name = "a DHCPv6 client from a neighbour's link-local address";
    list.drop("ip", name, frame(neighbour.link_local(), (546, 547)));
    list.drop(
        "ip",
        "a DHCPv6 client from nobody",
        frame(Ipv6Addr::UNSPECIFIED, (546, 547)),
    );
}
