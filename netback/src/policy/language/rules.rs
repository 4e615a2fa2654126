//! The rules of a policy.

use std::ops::Range;

use broker::config::ConfigError;

use super::ranges::Ranges;
use super::section::{Item, Section};
use super::settings::ACTIONS;
use crate::policy::{Action, Direction, PortRange, Prefix, Protocol, Rule};

/// The keys there are.
pub(super) const KEYS: [&str; 9] = [
    "direction",
    "protocol",
    "ports",
    "source-ports",
    "remote",
    "action",
    "stateful",
    "limit",
    "log",
];

pub(super) const DIRECTIONS: &[(&str, Direction)] =
    &[("in", Direction::In), ("out", Direction::Out)];

pub(super) const PROTOCOLS: &[(&str, Protocol)] = &[
    ("any", Protocol::Any),
    ("tcp", Protocol::Tcp),
    ("udp", Protocol::Udp),
    ("icmp", Protocol::Icmp),
    ("icmp6", Protocol::Icmp6),
];

/// A rule, and where it stands.
#[derive(Debug)]
pub(super) struct Placed {
    pub(super) rule: Rule,
    pub(super) span: Range<usize>,
}

/// What rules are by default, and may be.
#[derive(Clone, Copy, Debug)]
pub(super) struct Defaults {
    /// Those that accept are stateful.
    pub(super) stateful: bool,
    /// The source address of frames is checked, which stateful rules need.
    pub(super) mac_guard: bool,
}

/// The rules of `section`, in order.
pub(super) fn read(section: Section<'_>, defaults: Defaults) -> Result<Vec<Placed>, ConfigError> {
    let Some(item) = section.get("rule") else {
        return Ok(Vec::new());
    };
    let sections = item.tables(&KEYS, "write [[policy.rule]], with two brackets")?;
    let placed = sections.map(|section| {
        let section = section?;
        Ok(Placed {
            rule: rule(section, defaults)?,
            span: section.span(),
        })
    });
    placed.collect()
}

fn rule(section: Section<'_>, defaults: Defaults) -> Result<Rule, ConfigError> {
    let direction = section.need("direction", "write direction = \"in\" or \"out\"")?;
    let action = section.need(
        "action",
        "write action = \"accept\", \"drop\" or \"reject\"",
    )?;
    let (direction, action) = (direction.word(DIRECTIONS)?, action.word(ACTIONS)?);
    let protocol = section.optional("protocol", protocol)?;
    let protocol = protocol.unwrap_or(Protocol::Any);
    Ok(Rule {
        direction,
        protocol,
        remote: remote(section, protocol)?,
        ports: ports(section, "ports", protocol)?,
        source_ports: ports(section, "source-ports", protocol)?,
        action,
        stateful: stateful(section, action, defaults)?,
        limit: section.optional("limit", |item| item.number(1, 10_000_000))?,
        log: section.optional("log", Item::flag)?.unwrap_or(false),
    })
}

fn protocol(item: Item<'_>) -> Result<Protocol, ConfigError> {
    if item.integer().is_none() {
        let known = item.word(PROTOCOLS);
        return known.map_err(|_none| item.wrong(PROTOCOL_FORM));
    }
    match item.number(0, 255)? {
        1 => Ok(Protocol::Icmp),
        6 => Ok(Protocol::Tcp),
        17 => Ok(Protocol::Udp),
        58 => Ok(Protocol::Icmp6),
        0 | 43 | 44 | 60 => Err(item.wrong(
            "it is an extension header, which rules look behind: write what comes after it",
        )),
        number => Ok(Protocol::Number(number)),
    }
}

const PROTOCOL_FORM: &str =
    "write \"any\", \"tcp\", \"udp\", \"icmp\", \"icmp6\" or a number from 0 to 255";

fn remote(section: Section<'_>, protocol: Protocol) -> Result<Vec<Prefix>, ConfigError> {
    let Some(item) = section.get("remote") else {
        return Ok(Vec::new());
    };
    let mut remote = Vec::new();
    for item in item.some()? {
        let prefix: Prefix = item.parsed("write an address or prefix in quotes")?;
        match (protocol, prefix.is_v4()) {
            (Protocol::Icmp, false) => {
                return Err(
                    item.wrong("protocol \"icmp\" is of IPv4: write another rule for icmp6")
                );
            }
            (Protocol::Icmp6, true) => {
                return Err(
                    item.wrong("protocol \"icmp6\" is of IPv6: write another rule for icmp")
                );
            }
            _ => remote.push(prefix),
        }
    }
    Ok(crate::policy::address::outermost(remote))
}

fn ports(
    section: Section<'_>,
    key: &'static str,
    protocol: Protocol,
) -> Result<Vec<PortRange>, ConfigError> {
    let Some(item) = section.get(key) else {
        return Ok(Vec::new());
    };
    if !matches!(protocol, Protocol::Tcp | Protocol::Udp) {
        return Err(item.wrong("only tcp and udp have ports: write protocol = \"tcp\" or \"udp\""));
    }
    let ranges = Ranges::read(item, &(0..=u16::MAX))?;
    let ports = ranges.iter().map(|range| PortRange {
        first: *range.start(),
        last: *range.end(),
    });
    Ok(ports.collect())
}

fn stateful(section: Section<'_>, action: Action, defaults: Defaults) -> Result<bool, ConfigError> {
    let item = section.get("stateful");
    let said = item.map(Item::flag).transpose()?;
    if action != Action::Accept {
        return match item {
            Some(item) if said == Some(true) => {
                Err(item.wrong("only rules that accept are stateful: leave it out"))
            }
            _ => Ok(false),
        };
    }
    let stateful = said.unwrap_or(defaults.stateful);
    if stateful && !defaults.mac_guard {
        let needs = "stateful rules need mac-guard = true, or others could take over flows: \
                     turn it on, or write stateful = false";
        return Err(match item {
            Some(item) => item.wrong(needs),
            None => section.error(&format!("{needs} here or in the policy")),
        });
    }
    Ok(stateful)
}
