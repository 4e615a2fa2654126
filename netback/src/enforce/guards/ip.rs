//! ARP, DHCP, and the addresses that packets come from.

use crate::enforce::table::{Table, braces};
use crate::policy::{Addresses, Dhcp, Mac, Prefix, VifPolicy, outermost};

/// The address that `mac` makes for itself (EUI-64, RFC 4291 appendix A).
pub(super) fn link_local(mac: Mac) -> Option<Prefix> {
    let [a, b, c, d, e, f] = mac.0;
    let id = [a ^ 2, b, c, 0xff, 0xfe, d, e, f];
    let mut octets = [0; 16];
    octets[..2].copy_from_slice(&[0xfe, 0x80]);
    octets[8..].copy_from_slice(&id);
    Prefix::new(std::net::IpAddr::from(octets), 128)
}

/// The IPv6 addresses that are the guest's, none inside another.
pub(super) fn own6(policy: &VifPolicy, addresses: &Addresses) -> Vec<Prefix> {
    let mut all: Vec<Prefix> = addresses.own.clone();
    all.retain(|prefix| !prefix.is_v4());
    if addresses.any_link_local {
        all.extend("fe80::/64".parse::<Prefix>());
    } else {
        all.extend(link_local(policy.mac));
    }
    outermost(all)
}

fn own4(addresses: &Addresses) -> Vec<Prefix> {
    let mut all = addresses.own.clone();
    all.retain(Prefix::is_v4);
    outermost(all)
}

/// ARP, and RARP if it passes.
pub(super) fn arp(table: &mut Table, policy: &VifPolicy) -> Vec<String> {
    let drop = table.drop("out-arp");
    let own = policy.addresses.as_ref().map(own4).unwrap_or_default();
    let mac = policy.mac;
    // Ethernet and IPv4, addresses of 6 and 4 bytes; then the operation, who speaks, and for what
    // address.
    let mut chain = vec![
        format!("@nh,0,48 != 0x000108000604 {drop}"),
        format!("@nh,48,16 != {{ 1, 2 }} {drop}"),
    ];
    if policy.mac_guard {
        chain.push(format!("@nh,64,48 != {} {drop}", hex(mac)));
    }
    let rate = table.name("out-arp-rate");
    if !own.is_empty() {
        chain.push(format!("arp saddr ip {} goto {rate}", braces(own)));
    }
    chain.push(format!("@nh,48,16 1 arp saddr ip 0.0.0.0 goto {rate}"));
    chain.push(drop.clone());
    table.chain("out-arp", chain);
    let over = table.drop("out-arp-rate");
    let limit = format!("limit rate over 50/second burst 100 packets {over}");
    table.chain("out-arp-rate", vec![limit]);
    let mut lines = vec![format!("meta protocol arp jump {}", table.name("out-arp"))];
    if policy.rarp {
        let own = hex(mac);
        let chain = vec![
            format!("@nh,48,16 {{ 3, 4 }} @nh,64,48 {own} @nh,144,48 {own} return"),
            drop,
        ];
        table.chain("out-rarp", chain);
        lines.push(format!(
            "meta protocol 0x8035 jump {}",
            table.name("out-rarp")
        ));
    }
    lines
}

pub(super) fn dhcp(table: &mut Table, policy: &VifPolicy) -> Vec<String> {
    let chain = match policy.dhcp {
        Dhcp::Any | Dhcp::Server => return Vec::new(),
        Dhcp::Off => {
            let drop = table.drop("out-dhcp");
            vec![
                format!("udp sport {{ 67, 547 }} {drop}"),
                format!("udp dport {{ 67, 547 }} {drop}"),
            ]
        }
        Dhcp::Client => client(table, policy),
    };
    table.chain("out-dhcp", chain);
    vec![format!("meta l4proto 17 jump {}", table.name("out-dhcp"))]
}

fn client(table: &mut Table, policy: &VifPolicy) -> Vec<String> {
    let drop = table.drop("out-dhcp");
    let over = table.drop("out-dhcp-rate");
    let limit = format!("limit rate over 10/second burst 20 packets {over}");
    table.chain("out-dhcp-rate", vec![limit]);
    let rate = table.name("out-dhcp-rate");
    let mut chain = Vec::new();
    if policy.mac_guard {
        // The hardware address that the client claims lies 28 bytes into the message.
        let own = hex(policy.mac);
        let claims = vec![format!("@th,288,48 {own} goto {rate}"), drop.clone()];
        table.chain("out-dhcp-client", claims);
        let client = table.name("out-dhcp-client");
        chain.push(format!(
            "meta protocol ip udp sport 68 udp dport 67 goto {client}"
        ));
    } else {
        chain.push(format!(
            "meta protocol ip udp sport 68 udp dport 67 goto {rate}"
        ));
    }
    chain.push(format!(
        "meta protocol ip6 udp sport 546 udp dport 547 goto {rate}"
    ));
    chain.push(format!("udp sport {{ 67, 547 }} {drop}"));
    chain
}

/// Where IP packets may come from.
pub(super) fn sources(table: &mut Table, policy: &VifPolicy, addresses: &Addresses) -> Vec<String> {
    let drop = table.drop("out-ip");
    let own = own4(addresses);
    let mut v4 = Vec::new();
    // Who has no address of a family may not speak it at all.
    if !own.is_empty() {
        v4.push(format!("ip saddr {} return", braces(own)));
        if policy.dhcp == Dhcp::Client {
            let asking = "ip saddr 0.0.0.0 ip daddr 255.255.255.255 udp sport 68 udp dport 67";
            v4.push(format!("{asking} return"));
        }
    }
    v4.push(drop.clone());
    table.chain("out-ip4", v4);
    let mut v6 = Vec::new();
    if addresses.own.iter().any(|prefix| !prefix.is_v4()) {
        v6.extend([
            // Extension headers that Linux does not walk (RFC 7045): what is behind was not seen.
            format!("meta l4proto {{ 135, 139, 140, 253, 254 }} {drop}"),
            format!("ip6 saddr {} return", braces(own6(policy, addresses))),
            // Who has no address yet: duplicates, routers, groups. ND was looked at before.
            "ip6 saddr :: icmpv6 type { 131, 133, 135, 143 } return".to_owned(),
        ]);
    }
    v6.push(drop);
    table.chain("out-ip6", v6);
    vec![
        format!("meta protocol ip jump {}", table.name("out-ip4")),
        format!("meta protocol ip6 jump {}", table.name("out-ip6")),
    ]
}

/// As a number, for headers that nft does not know the fields of.
pub(super) fn hex(mac: Mac) -> String {
    let [a, b, c, d, e, f] = mac.0;
    format!("0x{a:02x}{b:02x}{c:02x}{d:02x}{e:02x}{f:02x}")
}
