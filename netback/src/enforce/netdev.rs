//! The table of one device: guards, and rules that need no more than a packet.

use std::collections::BTreeSet;
use std::net::IpAddr;

use super::table::{Family, Table};
use super::{guards, rules};
use crate::policy::{Action, Direction, VifPolicy};
use crate::tap::TapName;

/// Before all others that there may be.
const PRIORITY: i32 = -500;

/// The name of its table.
pub(super) fn table_name(name: &TapName) -> String {
    format!("xb-{name}", name = name.as_str())
}

/// What is in its table; without chains if there is nothing to check.
pub(super) fn table(name: &TapName, policy: &VifPolicy) -> Table {
    let mut table = Table::new(Family::Netdev, String::new());
    let here = !policy.is_stateful();
    let rate = policy.limit_out;
    let limited = rate.bytes > 0 || rate.packets > 0;
    if guards::any(policy) || limited || here && rules::judge(policy, Direction::Out) {
        let mut lines = guards::lines(&mut table, policy);
        lines.extend(end(&mut table, policy, Direction::Out));
        let fallback = if guards::any(policy) || policy.default_out != Action::Accept {
            "drop"
        } else {
            "accept"
        };
        hook(&mut table, name, "ingress", fallback, lines);
    }
    if !policy.dhcp_servers.is_empty() || here && rules::judge(policy, Direction::In) {
        let mut lines = guards::whole4(&mut table, Direction::In);
        lines.extend(guards::whole6(&mut table, Direction::In));
        lines.extend(servers(&mut table, policy));
        lines.extend(end(&mut table, policy, Direction::In));
        hook(&mut table, name, "egress", "accept", lines);
    }
    table
}

fn hook(table: &mut Table, name: &TapName, hook: &str, fallback: &str, lines: Vec<String>) {
    let device = name.as_str();
    let mut chain = vec![format!(
        "type filter hook {hook} device \"{device}\" priority {PRIORITY}; policy {fallback};"
    )];
    chain.extend(lines);
    table.chain(hook, chain);
}

fn end(table: &mut Table, policy: &VifPolicy, direction: Direction) -> Vec<String> {
    if policy.is_stateful() {
        // The shared tables count it.
        return vec!["accept".to_owned()];
    }
    rules::lines(table, policy, direction, rules::Part::All)
}

/// DHCP only from the servers that there are.
fn servers(table: &mut Table, policy: &VifPolicy) -> Vec<String> {
    if policy.dhcp_servers.is_empty() {
        return Vec::new();
    }
    let servers: BTreeSet<IpAddr> = policy.dhcp_servers.iter().copied().collect();
    let (v4, v6): (Vec<IpAddr>, Vec<IpAddr>) = servers.iter().partition(|ip| ip.is_ipv4());
    let mut chain = Vec::new();
    for (field, servers) in [("ip saddr", v4), ("ip6 saddr", v6)] {
        if !servers.is_empty() {
            let servers = super::table::braces(servers);
            chain.push(format!("{field} {servers} return"));
        }
    }
    chain.push(table.drop("in-dhcp"));
    table.chain("in-servers", chain);
    let servers = table.name("in-servers");
    vec![format!("udp sport {{ 67, 547 }} jump {servers}")]
}
