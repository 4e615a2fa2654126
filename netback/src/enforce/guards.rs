//! The guards: what may come out of the guest at all, in the order in which verdicts are given.

mod ip;
mod nd;

use super::table::{Table, braces};
use crate::limits::PACKET_BURST;
use crate::policy::{Dhcp, Direction, VifPolicy, Vlan};

/// EtherTypes of VLAN tags. Linux takes the first two off before it looks at the frame, whatever is
/// behind them; the third it does not know.
const TAGS: &str = "{ 0x8100, 0x88a8, 0x9100 }";
/// Beyond this many bytes a second Linux's buckets overflow.
const MOST_BYTES: u64 = 10_000_000_000;
/// Bytes that pass at once unless a policy says otherwise. No bucket may be smaller than the longest
/// frame that is cut up later.
const BURST: u64 = 128 << 10;

/// Is anything checked? Then what no line accepts is dropped.
pub(super) fn any(policy: &VifPolicy) -> bool {
    policy.mac_guard
        || policy.ip_only
        || !policy.bpdu
        || policy.vlan != Vlan::Any
        || policy.storm.is_some()
        || look_inside(policy)
}

/// Are IP packets looked at by a guard?
fn look_inside(policy: &VifPolicy) -> bool {
    policy.addresses.is_some() || policy.ra_guard || guards_dhcp(policy)
}

const fn guards_dhcp(policy: &VifPolicy) -> bool {
    matches!(policy.dhcp, Dhcp::Client | Dhcp::Off)
}

/// Are there rules that judge frames at the device, on their way out?
fn judged(policy: &VifPolicy) -> bool {
    !policy.is_stateful() && super::rules::judge(policy, Direction::Out)
}

/// Lines that drop what may not come out; what comes through them is left to the rules.
pub(super) fn lines(table: &mut Table, policy: &VifPolicy) -> Vec<String> {
    let mut lines = Vec::new();
    let both = policy.addresses.is_some() || guards_dhcp(policy) || judged(policy);
    if both {
        lines.extend(whole4(table, Direction::Out));
    }
    if both || policy.ra_guard {
        lines.extend(whole6(table, Direction::Out));
    }
    if policy.addresses.is_some() {
        lines.push(whole_arp(table, policy));
    }
    if policy.mac_guard {
        let drop = table.drop("out-mac");
        lines.push(format!("ether saddr != {} {drop}", policy.mac));
    }
    lines.extend(l2(table, policy));
    lines.extend(vlan(table, policy));
    if policy.addresses.is_some() {
        lines.extend(ip::arp(table, policy));
    }
    lines.extend(ip::dhcp(table, policy));
    if policy.ra_guard {
        let drop = table.drop("out-ra");
        lines.push(format!(
            "icmpv6 type {{ 134, 137, 146, 147, 151-153 }} {drop}"
        ));
    }
    if let Some(addresses) = &policy.addresses {
        lines.extend(nd::lines(table, policy, addresses));
        lines.extend(ip::sources(table, policy, addresses));
    }
    lines.extend(storm(table, policy));
    lines.extend(rate(table, policy));
    lines
}

/// IPv4 headers that are there, up to the ports, or the type of ICMP. Of what Linux cannot take for
/// IPv4 (wrong version or lengths, cut off), it knows no protocol.
pub(super) fn whole4(table: &mut Table, direction: Direction) -> Vec<String> {
    let drop = table.drop(&format!("{}-malformed", direction.word()));
    // Lengths with which ports or type would be padding, for each length of the header.
    let short =
        |more: u16| braces((5..=15).map(|words| format!("{words} . 0-{}", words * 4 + more)));
    let lines = vec![
        "meta l4proto != { 1, 6, 17 } return".to_owned(),
        // Only the first fragment has what is behind.
        "ip frag-off & 0x1fff != 0 return".to_owned(),
        // Enough behind the longest header.
        "ip length >= 64 return".to_owned(),
        format!(
            "meta l4proto 1 ip hdrlength . ip length != {} return",
            short(0)
        ),
        format!(
            "meta l4proto {{ 6, 17 }} ip hdrlength . ip length != {} return",
            short(3)
        ),
        drop,
    ];
    let chain = format!("{}-whole4", direction.word());
    table.chain(&chain, lines);
    vec![format!("meta protocol ip jump {}", table.name(&chain))]
}

/// The same of IPv6, extension headers included.
pub(super) fn whole6(table: &mut Table, direction: Direction) -> Vec<String> {
    let drop = table.drop(&format!("{}-malformed", direction.word()));
    let lines = vec![
        "meta l4proto != { 6, 17, 58 } return".to_owned(),
        "frag frag-off != 0 return".to_owned(),
        // Directly behind the header, the length tells it from padding.
        format!("@nh,48,8 {{ 6, 17 }} @nh,32,16 < 4 {drop}"),
        format!("@nh,48,8 58 @nh,32,16 < 1 {drop}"),
        // These look as if they were always true: only if there are so many bytes.
        "meta l4proto { 6, 17 } @th,24,8 >= 0 return".to_owned(),
        "meta l4proto 58 @th,0,8 >= 0 return".to_owned(),
        drop,
    ];
    let chain = format!("{}-whole6", direction.word());
    table.chain(&chain, lines);
    vec![format!("meta protocol ip6 jump {}", table.name(&chain))]
}

fn whole_arp(table: &mut Table, policy: &VifPolicy) -> String {
    let drop = table.drop("out-malformed");
    let lines = vec!["@nh,216,8 >= 0 return".to_owned(), drop];
    table.chain("out-whole-arp", lines);
    let types = if policy.rarp {
        "{ arp, 0x8035 }"
    } else {
        "arp"
    };
    format!("meta protocol {types} jump {}", table.name("out-whole-arp"))
}

fn l2(table: &mut Table, policy: &VifPolicy) -> Vec<String> {
    let mut lines = Vec::new();
    if !policy.bpdu {
        let drop = table.drop("out-l2");
        lines.push(format!(
            "ether daddr & ff:ff:ff:ff:ff:f0 == 01:80:c2:00:00:00 {drop}"
        ));
        lines.push(format!("ether daddr 01:00:0c:cc:cc:cc {drop}"));
    }
    if policy.ip_only {
        let mut types = vec!["0x0800", "0x0806", "0x86dd"];
        types.extend(policy.rarp.then_some("0x8035"));
        let types = braces(types);
        let drop = table.drop("out-l2");
        let chain = vec![
            format!("meta protocol {types} return"),
            format!("@ll,96,16 0x9100 @ll,128,16 {types} return"),
            drop,
        ];
        table.chain("out-l2", chain);
        lines.push(format!("jump {}", table.name("out-l2")));
    }
    lines
}

fn vlan(table: &mut Table, policy: &VifPolicy) -> Vec<String> {
    match &policy.vlan {
        Vlan::Any if !look_inside(policy) && !judged(policy) => Vec::new(),
        Vlan::Any => {
            // What Linux does not know as a tag it cannot look behind.
            let drop = table.drop("out-vlan");
            vec![format!("@ll,96,16 0x9100 {drop}")]
        }
        Vlan::Off | Vlan::Access(_) => {
            let drop = table.drop("out-vlan");
            vec![format!("@ll,96,16 {TAGS} {drop}")]
        }
        Vlan::Trunk { tags, native } => {
            let drop = table.drop("out-vlan");
            let mut chain = Vec::new();
            if native.is_some() {
                chain.push(format!("@ll,96,16 != {TAGS} return"));
            }
            chain.push(format!("@ll,128,16 {TAGS} {drop}"));
            if !tags.is_empty() {
                chain.push(format!("vlan id {} return", braces(tags)));
            }
            chain.push(drop);
            table.chain("out-vlan", chain);
            vec![format!("jump {}", table.name("out-vlan"))]
        }
    }
}

/// Frames to groups.
fn storm(table: &mut Table, policy: &VifPolicy) -> Option<String> {
    let many = policy.storm?;
    let drop = table.drop("out-storm");
    let over = match many {
        0 => String::new(),
        _ => {
            let burst = many.saturating_mul(2);
            format!("limit rate over {many}/second burst {burst} packets ")
        }
    };
    Some(format!(
        "ether daddr & 01:00:00:00:00:00 == 01:00:00:00:00:00 {over}{drop}"
    ))
}

/// The worker shapes, and this is for one that does not: a tenth more, and two bursts, are no offence.
fn rate(table: &mut Table, policy: &VifPolicy) -> Vec<String> {
    let mut lines = Vec::new();
    let limit = policy.limit_out;
    if (1..MOST_BYTES).contains(&limit.bytes) {
        let drop = table.drop("out-rate");
        let rate = limit.bytes + limit.bytes / 10;
        let burst = limit
            .burst
            .max(BURST)
            .saturating_mul(2)
            .min(u64::from(u32::MAX));
        lines.push(format!(
            "limit rate over {rate} bytes/second burst {burst} bytes {drop}"
        ));
    }
    if limit.packets > 0 {
        let drop = table.drop("out-rate");
        let rate = u64::from(limit.packets) + u64::from(limit.packets) / 10 + 1;
        let burst = u64::from(limit.packets).max(PACKET_BURST) * 2;
        let burst = burst.min(u64::from(u32::MAX));
        lines.push(format!(
            "limit rate over {rate}/second burst {burst} packets {drop}"
        ));
    }
    lines
}
