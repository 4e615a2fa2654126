//! What a policy says beside its rules.

use std::net::IpAddr;

use broker::config::ConfigError;

use super::profile::Profile;
use super::quantity::{RATE_FORM, parse_rate, parse_size};
use super::section::{Item, Section};
use super::source::Warning;
use super::vlan;
use crate::policy::{Action, Addresses, Dhcp, HostService, Limit, Prefix, VifPolicy};

/// The keys that [`read`] looks at.
pub(super) const KEYS: [&str; 26] = [
    "ipv4",
    "ipv6",
    "mac-guard",
    "ip-guard",
    "ipv6-link-local",
    "ra-guard",
    "dhcp",
    "dhcp-servers",
    "l2",
    "bpdu",
    "rarp",
    "vlan",
    "isolated",
    "host",
    "rate-out",
    "rate-in",
    "packets-out",
    "packets-in",
    "burst-out",
    "burst-in",
    "storm",
    "multicast-flood",
    "default-out",
    "default-in",
    "stateful",
    "flows",
];

pub(super) const DHCP: &[(&str, Dhcp)] = &[
    ("client", Dhcp::Client),
    ("server", Dhcp::Server),
    ("off", Dhcp::Off),
    ("any", Dhcp::Any),
];

pub(super) const SERVICES: &[(&str, HostService)] = &[
    ("dhcp", HostService::Dhcp),
    ("dns", HostService::Dns),
    ("ping", HostService::Ping),
    ("http", HostService::Http),
];

pub(super) const ACTIONS: &[(&str, Action)] = &[
    ("accept", Action::Accept),
    ("drop", Action::Drop),
    ("reject", Action::Reject),
];

/// What says whether frames are of IP only.
pub(super) const LAYERS: &[(&str, bool)] = &[("ip-only", true), ("any", false)];

/// What says whether any link-local address is a guest's own.
pub(super) const LINK_LOCAL: &[(&str, bool)] = &[("own", false), ("any", true)];

/// More packets a second than Ethernet carries are no limit.
const PACKETS: i64 = 100_000_000;

/// The longest packet is nearly that long: a smaller burst would never let it through.
const BURST: std::ops::RangeInclusive<u64> = 65_536..=1 << 30;

/// Reads them over what the profile says; `default-in` and rules are to be filled in.
pub(super) fn read(
    section: Section<'_>,
    profile: Profile,
    warnings: &mut Vec<Warning>,
) -> Result<VifPolicy, ConfigError> {
    let mut policy = profile.policy();
    guards(section, &mut policy)?;
    policy.addresses = addresses(section, policy.addresses.is_some(), warnings)?;
    layers(section, &mut policy, warnings)?;
    policy.limit_out = limit(section, ["rate-out", "packets-out", "burst-out"])?;
    policy.limit_in = limit(section, ["rate-in", "packets-in", "burst-in"])?;
    if let Some(action) = section.optional("default-out", |item| item.word(ACTIONS))? {
        policy.default_out = action;
    }
    if let Some(flows) = section.optional("flows", |item| item.number(1, 1 << 20))? {
        policy.flows = flows;
    }
    Ok(policy)
}

fn guards(section: Section<'_>, policy: &mut VifPolicy) -> Result<(), ConfigError> {
    for (key, guard) in [
        ("mac-guard", &mut policy.mac_guard),
        ("ra-guard", &mut policy.ra_guard),
        ("bpdu", &mut policy.bpdu),
        ("rarp", &mut policy.rarp),
        ("isolated", &mut policy.isolated),
        ("multicast-flood", &mut policy.multicast_flood),
    ] {
        *guard = section.optional(key, Item::flag)?.unwrap_or(*guard);
    }
    if let Some(dhcp) = section.optional("dhcp", |item| item.word(DHCP))? {
        policy.dhcp = dhcp;
    }
    if let Some(item) = section.get("dhcp-servers") {
        let server = |item: Item<'_>| {
            let prefix = own(item)?;
            let single = Prefix::host(prefix.address()) == prefix;
            single
                .then_some(prefix.address())
                .ok_or_else(|| item.wrong("write the address of each server"))
        };
        policy.dhcp_servers = item.each().map(server).collect::<Result<_, _>>()?;
        policy.dhcp_servers.sort_unstable();
        policy.dhcp_servers.dedup();
    }
    if let Some(item) = section.get("host") {
        policy.host = host(item)?;
    }
    if let Some(item) = section.get("storm") {
        policy.storm = match item.text() {
            Some("off") => None,
            Some(_) => return Err(item.wrong(STORM_FORM)),
            None => Some(item.number(1, PACKETS)?),
        };
    }
    Ok(())
}

const STORM_FORM: &str = "write a number of packets a second, or \"off\" for any number";

fn host(item: Item<'_>) -> Result<Option<Vec<HostService>>, ConfigError> {
    if item.text() == Some("all") {
        return Ok(None);
    }
    let services = item.each().map(|item| {
        let known = item.word(SERVICES);
        known.map_err(|_none| item.wrong("write \"all\", or a list of dhcp, dns, ping and http"))
    });
    let mut services: Vec<_> = services.collect::<Result<_, _>>()?;
    services.sort_unstable();
    services.dedup();
    Ok(Some(services))
}

/// Whose addresses are checked, and against what.
fn addresses(
    section: Section<'_>,
    guarded: bool,
    warnings: &mut Vec<Warning>,
) -> Result<Option<Addresses>, ConfigError> {
    let guarded = match section.get("ip-guard") {
        None => guarded,
        Some(item) if item.text() == Some("learn-dhcp") => return Err(item.wrong(LEARN)),
        Some(item) => item.flag()?,
    };
    let link_local = section.optional("ipv6-link-local", |item| item.word(LINK_LOCAL))?;
    let mut addresses = Vec::new();
    for (key, v4) in [("ipv4", true), ("ipv6", false)] {
        let Some(item) = section.get(key) else {
            continue;
        };
        for item in item.each() {
            let prefix = own(item)?;
            if prefix.is_v4() != v4 {
                let other = if v4 { "ipv6" } else { "ipv4" };
                return Err(item.wrong(&format!("write it in {other}")));
            }
            addresses.push(prefix);
        }
    }
    if guarded {
        return Ok(Some(Addresses::new(addresses, link_local.unwrap_or(false))));
    }
    for key in ["ipv4", "ipv6", "ipv6-link-local"] {
        if let Some(item) = section.get(key) {
            warnings.push(item.doubt("it has no effect, since ip-guard is false"));
        }
    }
    Ok(None)
}

const LEARN: &str = "addresses are not learned from DHCP: whoever answers first would decide what \
                     the guard lets through. Write true, and the addresses in ipv4 and ipv6 or in \
                     the guest's ip= key";

/// An address, or addresses, that may be one guest's.
fn own(item: Item<'_>) -> Result<Prefix, ConfigError> {
    let prefix: Prefix = item.parsed("write an address or prefix in quotes")?;
    let (single, address) = (Prefix::host(prefix.address()) == prefix, prefix.address());
    let broadcast = address == IpAddr::from([255; 4]);
    let nobody = single && (address.is_unspecified() || address.is_loopback() || broadcast);
    if nobody || address.is_multicast() {
        return Err(item.wrong("no guest has this address: it is nobody's, or a group's"));
    }
    Ok(prefix)
}

fn layers(
    section: Section<'_>,
    policy: &mut VifPolicy,
    warnings: &mut Vec<Warning>,
) -> Result<(), ConfigError> {
    if let Some(ip_only) = section.optional("l2", |item| item.word(LAYERS))? {
        policy.ip_only = ip_only;
    }
    if let Some(vlan) = section.optional("vlan", vlan::read)? {
        policy.vlan = vlan;
    }
    if let Some(item) = section
        .get("bpdu")
        .filter(|_| policy.bpdu && policy.ip_only)
    {
        warnings.push(item.doubt("l2 = \"ip-only\" drops them all the same: write l2 = \"any\""));
    }
    Ok(())
}

/// The limit of a direction: the keys of its rate, packets and burst.
fn limit(section: Section<'_>, keys: [&'static str; 3]) -> Result<Limit, ConfigError> {
    let [rate, packets, burst] = keys;
    let bytes = section.optional(rate, |item| {
        let rate = item.text().and_then(parse_rate);
        rate.ok_or_else(|| item.wrong(RATE_FORM))
    })?;
    let packets = section.optional(packets, |item| item.number(1, PACKETS))?;
    let burst = section.optional(burst, |item| {
        let number = item.integer().and_then(|number| u64::try_from(number).ok());
        let size = number.or_else(|| item.text().and_then(parse_size));
        match size.filter(|size| BURST.contains(size)) {
            None => Err(item.wrong("write a size like \"256KiB\", from 64KiB to 1GiB")),
            Some(_) if bytes.is_none() => Err(item.wrong(&format!("it needs {rate} beside it"))),
            Some(size) => Ok(size),
        }
    })?;
    Ok(Limit {
        bytes: bytes.unwrap_or(0),
        packets: packets.unwrap_or(0),
        burst: burst.unwrap_or(0),
    })
}
