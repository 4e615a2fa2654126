//! The rules of one direction, as chains.

use super::cells::{Cell, Ip};
use super::merge::{Group, Sort, groups};
use super::table::{Family, Table, braces};
use crate::policy::{Action, Dhcp, Direction, PortRange, VifPolicy};

/// How rules end that follow flows: a chain of that name.
pub(super) const OPEN: &str = "open";

/// Which rules of a direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    /// All.
    All,
    /// Those that judge packets and not flows.
    Stateless,
}

/// Is there anything that could drop, or is to be counted, in this direction?
pub(super) fn judge(policy: &VifPolicy, direction: Direction) -> bool {
    default_of(policy, direction) != Action::Accept
        || policy.rules.iter().any(|rule| rule.direction == direction)
}

/// The lines that judge what goes in `direction`; each packet meets a verdict in them.
pub(super) fn lines(
    table: &mut Table,
    policy: &VifPolicy,
    direction: Direction,
    part: Part,
) -> Vec<String> {
    let way = direction.word();
    let mut lines = Vec::new();
    if judge(policy, direction) {
        lines.extend(passes(table, policy, direction));
        let rules = policy.rules.iter().enumerate();
        let rules = rules.filter(|(_, rule)| rule.direction == direction);
        let rules = rules.filter(|(_, rule)| part == Part::All || !rule.stateful);
        for (at, group) in groups(rules).iter().enumerate() {
            if group
                .sort
                .alone
                .is_some_and(|index| policy.rules[index].log)
            {
                lines.extend(logged(table, group, direction));
            }
            let part = if part == Part::All { "" } else { "-reply" };
            let found = find(table, group, direction, &format!("{way}{part}-set{at}"));
            lines.push(ends(table, policy, group, direction, &found));
        }
    }
    let counted = table.count(&format!("{way}-default"));
    let end = verdict(table, default_of(policy, direction));
    lines.push(format!("{counted} {end}"));
    lines
}

const fn default_of(policy: &VifPolicy, direction: Direction) -> Action {
    match direction {
        Direction::Out => policy.default_out,
        Direction::In => policy.default_in,
    }
}

/// What rules do not judge.
fn passes(table: &mut Table, policy: &VifPolicy, direction: Direction) -> Vec<String> {
    let counted = table.count(&format!("{}-pass", direction.word()));
    let mut what = vec!["icmpv6 type { 130-137, 143 }"];
    if table.family() != Family::Inet {
        what.insert(0, "meta protocol != { ip, ip6 }");
    }
    what.extend::<&[&str]>(match (policy.dhcp, direction) {
        (Dhcp::Client, Direction::Out) => &[
            "meta protocol ip udp sport 68 udp dport 67",
            "meta protocol ip6 udp sport 546 udp dport 547",
        ],
        (Dhcp::Client, Direction::In) => &[
            "meta protocol ip udp sport 67 udp dport 68",
            "meta protocol ip6 udp sport 547 udp dport 546",
        ],
        (Dhcp::Server, Direction::Out) => &[
            "meta protocol ip udp sport 67",
            "meta protocol ip udp sport 68 udp dport 67",
            "meta protocol ip6 udp sport 547",
            "meta protocol ip6 udp sport 546 udp dport 547",
        ],
        _ => &[],
    });
    let line = |what| format!("{what} {counted} accept");
    what.into_iter().map(line).collect()
}

/// The expressions that say whether a packet is of the group, and count it if that is by element.
fn find(table: &mut Table, group: &Group, direction: Direction, set: &str) -> String {
    let shape = group.sort.shape;
    let v6 = shape.ip == Ip::V6;
    let remote = match (direction, v6) {
        (Direction::Out, false) => ("ip daddr", "ipv4_addr"),
        (Direction::In, false) => ("ip saddr", "ipv4_addr"),
        (Direction::Out, true) => ("ip6 daddr", "ipv6_addr"),
        (Direction::In, true) => ("ip6 saddr", "ipv6_addr"),
    };
    let fields = [
        shape.protocol.then_some(("meta l4proto", "inet_proto")),
        shape.remote.then_some(remote),
        shape.to.then_some(("th dport", "inet_service")),
        shape.from.then_some(("th sport", "inet_service")),
    ];
    let family = match shape.ip {
        Ip::V4 => "meta protocol ip ",
        Ip::V6 => "meta protocol ip6 ",
        Ip::Both => "",
    };
    let list = |pick: fn((&'static str, &'static str)) -> &'static str| {
        let words: Vec<&str> = fields.into_iter().flatten().map(pick).collect();
        words.join(" . ")
    };
    let keys = list(|(key, _)| key);
    if keys.is_empty() {
        return family.to_owned();
    }
    let members = &group.members;
    if group.only_rule().is_some() {
        let values = braces(members.iter().map(|member| element(&member.cell)));
        return format!("{family}{keys} {values} ");
    }
    let interval = members.iter().any(|member| is_range(&member.cell));
    let elements: Vec<String> = members
        .iter()
        .map(|member| format!("{} comment \"r{}\"", element(&member.cell), member.rule))
        .collect();
    table.set(set, &list(|(_, kind)| kind), interval, &elements);
    format!("{family}{keys} @{} ", table.name(set))
}

fn element(cell: &Cell) -> String {
    let fields = [
        cell.protocol.map(|number| number.to_string()),
        cell.remote.map(|prefix| prefix.to_string()),
        cell.to.map(ports),
        cell.from.map(ports),
    ];
    let fields: Vec<String> = fields.into_iter().flatten().collect();
    fields.join(" . ")
}

fn ports(range: PortRange) -> String {
    if range.first == range.last {
        range.first.to_string()
    } else {
        format!("{}-{}", range.first, range.last)
    }
}

fn is_range(cell: &Cell) -> bool {
    let wide = |range: Option<PortRange>| range.is_some_and(|range| range.first != range.last);
    let many = cell.remote.is_some_and(|prefix| {
        let all = if prefix.is_v4() { 32 } else { 128 };
        prefix.bits() != all
    });
    many || wide(cell.to) || wide(cell.from)
}

/// The line for packets that were `found`.
fn ends(
    table: &mut Table,
    policy: &VifPolicy,
    group: &Group,
    direction: Direction,
    found: &str,
) -> String {
    let Some(index) = group.only_rule() else {
        return format!("{found}{}", end(table, &group.sort, direction));
    };
    let rule = format!("{}-r{index}", direction.word());
    let counted = table.count(&rule);
    let end = end(table, &group.sort, direction);
    let Some(limit) = policy.rules[index].limit else {
        return format!("{found}{counted} {end}");
    };
    // Beyond its limit a rule does not match: then the packet comes back from this chain.
    let rate = format!("limit rate {limit}/second burst {limit} packets");
    let limited = if group.sort.stateful {
        // The limit is one of flows.
        let over = format!("limit rate over {limit}/second burst {limit} packets");
        vec![
            format!("ct state new {over} return"),
            format!("{counted} {end}"),
        ]
    } else {
        vec![format!("{rate} {counted} {end}")]
    };
    let chain = format!("{rule}-limit");
    table.chain(&chain, limited);
    format!("{found}jump {}", table.name(&chain))
}

fn end(table: &mut Table, sort: &Sort, direction: Direction) -> String {
    if sort.stateful {
        return format!(
            "goto {}",
            table.name(&format!("{}-{OPEN}", direction.word()))
        );
    }
    verdict(table, sort.action)
}

/// Whom the kernel can tell depends on the hook: a bridge tells nobody where it forwards, nor do
/// devices, of whose hooks Debian's kernels leave this out (`nft_reject_netdev`).
fn verdict(table: &mut Table, action: Action) -> String {
    match action {
        Action::Accept => "accept".to_owned(),
        Action::Reject if table.family() == Family::Inet => {
            let lines = [
                "meta l4proto tcp reject with tcp reset",
                "reject with icmpx admin-prohibited",
                "drop",
            ];
            table.chain("tell", lines.map(str::to_owned).to_vec());
            format!("goto {}", table.name("tell"))
        }
        Action::Drop | Action::Reject => "drop".to_owned(),
    }
}

/// One line a second in the kernel's log. The worker logs what it judges itself, so only flows are
/// logged here.
fn logged(table: &mut Table, group: &Group, direction: Direction) -> Option<String> {
    let index = group.only_rule()?;
    (table.family() != Family::Netdev).then(|| {
        let found = find(table, group, direction, "unused");
        let prefix = table.name(&format!("{}-r{index} ", direction.word()));
        format!("{found}limit rate 1/second burst 5 packets log prefix \"{prefix}\"")
    })
}
