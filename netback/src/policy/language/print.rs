//! Policies as text, in the form that they are read in, with everything said.

use std::fmt;

use broker::config::name;

use super::entry::Policy;
use super::network;
use super::quantity::show_rate;
use super::ranges::Ranges;
use super::rules::{DIRECTIONS, PROTOCOLS};
use super::settings::{ACTIONS, DHCP, LAYERS, LINK_LOCAL, SERVICES};
use super::vlan;
use crate::policy::{Limit, PortRange, Prefix, Protocol, Rule, VifPolicy};

impl fmt::Display for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let policy = &self.settings;
        writeln!(f, "[[policy]]\nname = \"{}\"", policy.name)?;
        if !self.matching.is_any() {
            writeln!(f, "match = {{ {} }}", self.matching)?;
        }
        writeln!(f, "profile = \"{}\"", self.profile.as_str())?;
        if let Some(network) = &self.network {
            network::print(f, network)?;
        }
        settings(f, policy, self.says_vlan)
    }
}

/// Everything that it says of the interface that it governs.
impl fmt::Display for VifPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "name = \"{}\"\nmac = \"{}\"", self.name, self.mac)?;
        settings(f, self, true)
    }
}

fn settings(f: &mut fmt::Formatter<'_>, policy: &VifPolicy, says_vlan: bool) -> fmt::Result {
    addresses(f, policy)?;
    guards(f, policy)?;
    if says_vlan {
        writeln!(f, "vlan = {}", vlan::show(&policy.vlan))?;
    }
    limit(f, "out", policy.limit_out)?;
    limit(f, "in", policy.limit_in)?;
    writeln!(f, "default-out = {:?}", name(ACTIONS, policy.default_out))?;
    writeln!(f, "default-in = {:?}", name(ACTIONS, policy.default_in))?;
    writeln!(f, "flows = {}", policy.flows)?;
    let mut rules = policy.rules.iter();
    rules.try_for_each(|rule| print_rule(f, rule))
}

fn addresses(f: &mut fmt::Formatter<'_>, policy: &VifPolicy) -> fmt::Result {
    writeln!(f, "mac-guard = {}", policy.mac_guard)?;
    writeln!(f, "ip-guard = {}", policy.addresses.is_some())?;
    let Some(addresses) = &policy.addresses else {
        return Ok(());
    };
    let (v4, v6): (Vec<Prefix>, Vec<Prefix>) =
        addresses.own.iter().partition(|prefix| prefix.is_v4());
    writeln!(f, "ipv4 = {}", list(&v4))?;
    writeln!(f, "ipv6 = {}", list(&v6))?;
    let link_local = name(LINK_LOCAL, addresses.any_link_local);
    writeln!(f, "ipv6-link-local = {link_local:?}")
}

fn guards(f: &mut fmt::Formatter<'_>, policy: &VifPolicy) -> fmt::Result {
    writeln!(f, "ra-guard = {}", policy.ra_guard)?;
    writeln!(f, "dhcp = {:?}", name(DHCP, policy.dhcp))?;
    writeln!(f, "dhcp-servers = {}", list(&policy.dhcp_servers))?;
    writeln!(f, "l2 = {:?}", name(LAYERS, policy.ip_only))?;
    writeln!(f, "bpdu = {}", policy.bpdu)?;
    writeln!(f, "rarp = {}", policy.rarp)?;
    writeln!(f, "isolated = {}", policy.isolated)?;
    match &policy.host {
        None => writeln!(f, "host = \"all\"")?,
        Some(services) => {
            let words: Vec<_> = services.iter().map(|&s| name(SERVICES, s)).collect();
            writeln!(f, "host = {}", list(&words))?;
        }
    }
    match policy.storm {
        None => writeln!(f, "storm = \"off\"")?,
        Some(packets) => writeln!(f, "storm = {packets}")?,
    }
    writeln!(f, "multicast-flood = {}", policy.multicast_flood)
}

fn limit(f: &mut fmt::Formatter<'_>, direction: &str, limit: Limit) -> fmt::Result {
    if limit.bytes > 0 {
        writeln!(f, "rate-{direction} = \"{}\"", show_rate(limit.bytes))?;
    }
    if limit.packets > 0 {
        writeln!(f, "packets-{direction} = {}", limit.packets)?;
    }
    if limit.burst > 0 {
        writeln!(f, "burst-{direction} = {}", limit.burst)?;
    }
    Ok(())
}

fn print_rule(f: &mut fmt::Formatter<'_>, rule: &Rule) -> fmt::Result {
    writeln!(f, "[[policy.rule]]")?;
    writeln!(f, "direction = {:?}", name(DIRECTIONS, rule.direction))?;
    match rule.protocol {
        Protocol::Number(number) => writeln!(f, "protocol = {number}")?,
        named => writeln!(f, "protocol = {:?}", name(PROTOCOLS, named))?,
    }
    if !rule.remote.is_empty() {
        writeln!(f, "remote = {}", list(&rule.remote))?;
    }
    for (key, ports) in [("ports", &rule.ports), ("source-ports", &rule.source_ports)] {
        if !ports.is_empty() {
            let range = |port: &PortRange| port.first..=port.last;
            let ports = Ranges::of(ports.iter().map(range).collect());
            writeln!(f, "{key} = \"{ports}\"")?;
        }
    }
    writeln!(f, "action = {:?}", name(ACTIONS, rule.action))?;
    writeln!(f, "stateful = {}", rule.stateful)?;
    if let Some(limit) = rule.limit {
        writeln!(f, "limit = {limit}")?;
    }
    writeln!(f, "log = {}", rule.log)
}

pub(super) fn list(values: &[impl fmt::Display]) -> String {
    let quoted: Vec<_> = values.iter().map(|value| format!("\"{value}\"")).collect();
    format!("[{}]", quoted.join(", "))
}

/// A text as TOML writes it.
pub(super) fn quoted(text: &str) -> String {
    let mut quoted = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            c if c.is_control() => quoted += &format!("\\u{:04x}", u32::from(c)),
            c => quoted.push(c),
        }
    }
    quoted + "\""
}
