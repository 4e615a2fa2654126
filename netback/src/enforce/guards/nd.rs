//! Neighbour discovery: who speaks for which address.

use std::net::IpAddr;

use super::ip::{hex, own6};
use crate::enforce::table::{Table, braces};
use crate::policy::{Addresses, Prefix, VifPolicy};

/// Bytes of a router solicitation, and of the other two, before their options.
const ROUTER: u16 = 8;
const NEIGHBOUR: u16 = 24;

pub(super) fn lines(table: &mut Table, policy: &VifPolicy, addresses: &Addresses) -> Vec<String> {
    let drop = table.drop("out-nd");
    let sources = own6(policy, addresses);
    let own = braces(sources.iter().map(targets));
    let sources = braces(sources);
    // Types and fields are read at fixed places, which is right only directly behind the IPv6 header:
    // 58 is the next one, and the hop limit 255 says that no router was in between.
    let [router, neighbour] = [ROUTER, NEIGHBOUR].map(|len| options(table, policy, len));
    let chain = vec![
        format!("@nh,48,16 != 0x3aff {drop}"),
        format!("icmpv6 type 133 ip6 saddr :: goto {router}"),
        format!("icmpv6 type 133 ip6 saddr {sources} goto {router}"),
        format!("icmpv6 type 133 {drop}"),
        format!("@nh,32,16 != {} {drop}", braces(lengths(NEIGHBOUR))),
        format!("icmpv6 type 136 @th,64,128 != {own} {drop}"),
        format!("icmpv6 type 135 ip6 saddr :: @th,64,128 != {own} {drop}"),
        format!("goto {neighbour}"),
    ];
    table.chain("out-nd", chain);
    let over = table.drop("out-nd-rate");
    let limit = format!("limit rate over 50/second burst 100 packets {over}");
    table.chain("out-nd-rate", vec![limit]);
    vec![format!(
        "icmpv6 type {{ 133, 135, 136 }} jump {}",
        table.name("out-nd")
    )]
}

/// Up to two options of 8 bytes behind `len` bytes: the guest's own address, or a nonce (RFC 7527).
/// Returns the name of the chain.
fn options(table: &mut Table, policy: &VifPolicy, len: u16) -> String {
    let drop = table.drop("out-nd");
    let rate = table.name("out-nd-rate");
    let mac = hex(policy.mac);
    let [none, one, _] = lengths(len);
    let mut chain = vec![
        // The payload is so long: Linux has compared it with the frame.
        format!("@nh,32,16 != {} {drop}", braces(lengths(len))),
        format!("@th,8,8 != 0 {drop}"),
        format!("@nh,32,16 {none} goto {rate}"),
    ];
    for at in [len, len + 8] {
        let (kind, address) = (at * 8, at * 8 + 16);
        chain.push(format!(
            "@th,{kind},16 != {{ 0x0101, 0x0201, 0x0e01 }} {drop}"
        ));
        chain.push(format!(
            "@th,{kind},16 {{ 0x0101, 0x0201 }} @th,{address},48 != {mac} {drop}"
        ));
        if at == len {
            chain.push(format!("@nh,32,16 {one} goto {rate}"));
        }
    }
    chain.push(format!("goto {rate}"));
    let what = format!("out-nd-options{len}");
    table.chain(&what, chain);
    table.name(&what)
}

fn lengths(len: u16) -> [u16; 3] {
    [len, len + 8, len + 16]
}

/// The addresses of a prefix as numbers: nft 1.0.6 has no name for the target's field.
fn targets(prefix: &Prefix) -> String {
    let first = match prefix.address() {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().into(),
        IpAddr::V6(v6) => u128::from(v6),
    };
    let rest = u128::MAX.checked_shr(prefix.bits().into()).unwrap_or(0);
    if rest == 0 {
        format!("0x{first:032x}")
    } else {
        format!("0x{first:032x}-0x{:032x}", first | rest)
    }
}
