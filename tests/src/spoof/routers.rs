//! Router advertisements, what else only routers say, and who asks for them (NET-18).

use std::net::Ipv6Addr;

use super::build::{ICMP6, Ip6, icmp6};
use super::nd::{NODES, NONE, SOURCE, frame, in_front, lla};
use super::{List, Station};

const SOLICIT: u8 = 133;

const ROUTERS: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 2);

pub(super) fn add(list: &mut List) {
    says(list);
    asks(list);
}

fn says(list: &mut List) {
    let site = list.site;
    let says = |from: Ipv6Addr, kind: u8| {
        let rest = [&[64, 0, 7, 8][..], &[0; 8], &lla(SOURCE, site.own.mac)].concat();
        Ip6::new(from, NODES, ICMP6, icmp6(from, NODES, kind, 0, &rest))
    };
    let who = |station: Station| [station.link_local(), station.v6];
    for (name, kind) in [
        ("a router advertisement", 134),
        ("a redirect", 137),
        ("a home agent's answer", 145),
        ("a mobile prefix solicitation", 146),
        ("a mobile prefix advertisement", 147),
        ("a multicast router's advertisement", 151),
        ("a multicast router's solicitation", 152),
        ("a multicast router's goodbye", 153),
    ] {
        let [local, global] = who(site.own);
        if kind == 145 {
            list.pass(name, frame(list, &says(global, kind)));
            continue;
        }
        list.drop(
            "ra",
            format!("{name} from its link-local address"),
            frame(list, &says(local, kind)),
        );
        list.drop("ra", name, frame(list, &says(global, kind)));
        let [other, _] = who(site.gateway);
        list.drop(
            "ra",
            format!("{name} from the gateway"),
            frame(list, &says(other, kind)),
        );
    }
    let (local, kind) = (site.own.link_local(), 134);
    for (name, header, bytes) in in_front() {
        let name = format!("a router advertisement behind {name}");
        list.drop(
            "ra",
            name,
            frame(list, &says(local, kind).behind(header, bytes)),
        );
    }
    let mut hidden = says(local, kind);
    for count in 1..=9 {
        hidden = hidden.behind(60, vec![0, 0, 1, 4, 0, 0, 0, 0]);
        let name = format!("a router advertisement behind {count} extension headers");
        if count > 8 {
            list.drop("ip", name, frame(list, &hidden));
        } else if count > 1 {
            list.drop("ra", name, frame(list, &hidden));
        }
    }
    let later = says(local, kind).behind(44, vec![0, 0, 0, 8, 0, 0, 0, 3]);
    list.pass(
        "a later fragment that would be an advertisement",
        frame(list, &later),
    );
    let chain = says(local, kind).behind(60, vec![0, 0, 1, 4, 0, 0, 0, 0]);
    let mut split = chain.clone();
    split.payload.truncate(8);
    let split = split.behind(44, vec![0, 0, 0, 1, 0, 0, 0, 4]);
    let name = "a first fragment that ends in front of the advertisement";
    list.drop("malformed", name, frame(list, &split));
    let mut hops = says(local, kind);
    hops.hops = 64;
    list.drop(
        "ra",
        "a router advertisement that was passed on",
        frame(list, &hops),
    );
    let mut none = says(local, kind);
    none.payload.truncate(1);
    list.drop(
        "ra",
        "the first byte of a router advertisement",
        frame(list, &none),
    );
}

fn asks(list: &mut List) {
    let site = list.site;
    let asks = |from: Ipv6Addr, options: &[u8]| {
        let rest = [&[0; 4][..], options].concat();
        Ip6::new(
            from,
            ROUTERS,
            ICMP6,
            icmp6(from, ROUTERS, SOLICIT, 0, &rest),
        )
    };
    let mine = lla(SOURCE, site.own.mac);
    let local = site.own.link_local();
    list.pass("a router solicitation", frame(list, &asks(local, &mine)));
    list.pass(
        "a router solicitation from nobody",
        frame(list, &asks(NONE, &[])),
    );
    list.pass(
        "a router solicitation from its own address",
        frame(list, &asks(site.own.v6, &mine)),
    );
    let others = lla(SOURCE, site.neighbour.mac);
    list.drop(
        "nd",
        "a router solicitation with a neighbour's MAC",
        frame(list, &asks(local, &others)),
    );
    let foreign = asks(site.neighbour.link_local(), &mine);
    list.drop(
        "nd",
        "a router solicitation from a neighbour",
        frame(list, &foreign),
    );
    let prefix = asks(local, &[3, 1, 0, 0, 0, 0, 0, 0]);
    list.drop(
        "nd",
        "a router solicitation with a prefix",
        frame(list, &prefix),
    );
}
