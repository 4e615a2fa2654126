use std::path::Path;

use super::*;
use crate::policy::{
    Action, Dhcp, Direction, HostService, Limit, Mac, PortRange, Prefix, Protocol, VifPolicy, Vlan,
};
use crate::spec::RateSpec;

mod any_text;
mod doubts;
mod govern;
mod mistakes;
mod network;
mod printed;

/// The policies of a text without doubts.
fn parse(text: &str) -> Vec<Policy> {
    let (policies, warnings) = Policies::parse(Path::new("/etc/x.toml"), text).unwrap();
    let warnings: Vec<_> = warnings.iter().map(Warning::to_string).collect();
    assert!(warnings.is_empty(), "{text}: {warnings:?}");
    policies.0
}

/// What one policy says, named p, with `text` as its keys.
fn one(text: &str) -> VifPolicy {
    let text = format!("[[policy]]\nname = \"p\"\n{text}");
    let [policy] = <[Policy; 1]>::try_from(parse(&text)).unwrap();
    policy.settings
}

/// One policy with `keys` from line 3 on.
fn with(keys: &str) -> String {
    format!("[[policy]]\nname = \"p\"\n{keys}")
}

fn prefixes(texts: &[&str]) -> Vec<Prefix> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

const EXAMPLE: &str = include_str!("../../../../systemd/policy.d/example.toml");

fn example() -> String {
    let shown = EXAMPLE.lines().map(|line| match line.strip_prefix('#') {
        Some(code) if !code.starts_with(' ') => code,
        _ => line,
    });
    shown.fold(String::new(), |text, line| text + line + "\n")
}

#[test]
fn the_example_says_nothing_until_it_is_taken_up() {
    assert_eq!(parse(EXAMPLE).len(), 0);
    let names: Vec<_> = parse(&example())
        .iter()
        .map(|policy| policy.name().to_owned())
        .collect();
    assert_eq!(
        names,
        ["web", "tenant", "router", "hidden", "everything-else"]
    );
}

#[test]
fn the_example_shows_every_key_and_the_defaults_of_locked() {
    let text = example();
    for key in Policy::keys().iter().chain(&rules::KEYS) {
        let shown = format!("\n{key} = ");
        let table = format!("[[policy.{key}]]");
        assert!(text.contains(&shown) || text.contains(&table), "{key}");
        // And so does the table in the documentation.
        let manual = include_str!("../language.rs");
        assert!(
            manual.contains(&format!("`{key}`")) || manual.contains(&table),
            "{key}"
        );
    }
    let last = parse(&text).pop().unwrap();
    let mut locked = Profile::Locked.policy();
    locked.name = "everything-else".to_owned();
    assert_eq!(last.settings, locked);
}

#[test]
fn a_policy_of_a_profile_is_that_profile() {
    for (text, profile) in [
        ("", Profile::Locked),
        ("profile = \"locked\"", Profile::Locked),
        ("profile = \"open\"", Profile::Open),
        ("profile = \"isolated\"", Profile::Isolated),
    ] {
        let mut expected = profile.policy();
        expected.name = "p".to_owned();
        assert_eq!(one(text), expected, "{text}");
    }
    let isolated = one("profile = \"isolated\"");
    assert!(isolated.isolated && isolated.mac_guard);
    assert_eq!(isolated.host, Some(Vec::new()));
}

#[test]
fn net_15_to_19_every_guard_can_be_said() {
    let policy = one("mac-guard = true\nra-guard = false\ndhcp = \"server\"\n\
                      dhcp-servers = [\"192.0.2.2\", \"192.0.2.1\", \"192.0.2.2\"]\n\
                      l2 = \"any\"\nbpdu = true\nrarp = true\n\
                      ipv4 = [\"192.0.2.7\", \"192.0.2.0/28\"]\nipv6 = \"2001:db8::1\"\n\
                      ipv6-link-local = \"any\"\nvlan = { trunk = [20, \"10-12\", 11], native = 1 }");
    assert!(policy.mac_guard && !policy.ra_guard && !policy.ip_only);
    assert!(policy.bpdu && policy.rarp);
    assert_eq!(policy.dhcp, Dhcp::Server);
    let servers = ["192.0.2.1", "192.0.2.2"].map(|text| text.parse::<std::net::IpAddr>().unwrap());
    assert_eq!(policy.dhcp_servers, servers);
    let addresses = policy.addresses.unwrap();
    assert_eq!(addresses.own, prefixes(&["192.0.2.0/28", "2001:db8::1"]));
    assert!(addresses.any_link_local);
    let tags = vec![10, 11, 12, 20];
    let native = Some(1);
    assert_eq!(policy.vlan, Vlan::Trunk { tags, native });
    assert_eq!(one("vlan = \"any\"").vlan, Vlan::Any);
    assert_eq!(one("vlan = { access = 4094 }").vlan, Vlan::Access(4094));
    assert_eq!(one("ip-guard = false").addresses, None);
}

#[test]
fn net_21_to_23_limits_isolation_and_the_host_can_be_said() {
    let policy = one(
        "rate-out = \"80Mbit/s\"\nburst-out = \"1MiB\"\npackets-out = 5000\n\
                      packets-in = 7\nstorm = \"off\"\nmulticast-flood = false\nflows = 10\n\
                      isolated = true\nhost = [\"dns\", \"dhcp\", \"dns\"]",
    );
    let out = Limit {
        bytes: 10_000_000,
        packets: 5000,
        burst: 1 << 20,
    };
    assert_eq!(policy.limit_out, out);
    let into = Limit {
        packets: 7,
        ..Limit::default()
    };
    assert_eq!(policy.limit_in, into);
    assert_eq!((policy.storm, policy.flows), (None, 10));
    assert!(policy.isolated && !policy.multicast_flood);
    let services = vec![HostService::Dhcp, HostService::Dns];
    assert_eq!(policy.host, Some(services));
    assert_eq!(one("profile = \"isolated\"\nhost = \"all\"").host, None);
    assert_eq!(one("storm = 1").storm, Some(1));
}

#[test]
fn rules_are_read_in_order_and_in_one_form() {
    let policy = one("[[policy.rule]]\ndirection = \"in\"\nprotocol = 6\n\
                      ports = [443, \"80, 8000-8010\", \"8011\"]\nsource-ports = \"1024-65535\"\n\
                      remote = [\"10.1.0.0/16\", \"10.0.0.0/8\", \"2001:db8::/32\"]\n\
                      action = \"accept\"\nlimit = 100\nlog = true\n\
                      [[policy.rule]]\ndirection = \"out\"\nprotocol = 47\naction = \"reject\"\n\
                      [[policy.rule]]\ndirection = \"out\"\naction = \"accept\"\n");
    let [web, gre, rest] = policy.rules.as_slice() else {
        panic!("{:?}", policy.rules);
    };
    assert_eq!(web.direction, Direction::In);
    assert_eq!(web.protocol, Protocol::Tcp);
    let range = |first, last| PortRange { first, last };
    let ports = [range(80, 80), range(443, 443), range(8000, 8011)];
    assert_eq!(web.ports, ports);
    assert_eq!(web.source_ports, [range(1024, 65_535)]);
    assert_eq!(web.remote, prefixes(&["10.0.0.0/8", "2001:db8::/32"]));
    assert_eq!((web.limit, web.log), (Some(100), true));
    assert!(web.stateful && rest.stateful && !gre.stateful);
    assert_eq!(gre.protocol, Protocol::Number(47));
    assert_eq!(gre.action, Action::Reject);
    assert_eq!(rest.protocol, Protocol::Any);
}

#[test]
fn who_says_what_may_come_in_does_not_mean_the_rest() {
    let rule = |direction: &str, action: &str| {
        format!(
            "[[policy.rule]]\ndirection = \"{direction}\"\naction = \"{action}\"\nprotocol = \"udp\""
        )
    };
    let open = "profile = \"open\"\ndefault-out = \"drop\"\n";
    let default_in = |text: String| one(&format!("{open}{text}")).default_in;
    assert_eq!(default_in(String::new()), Action::Accept);
    assert_eq!(default_in(rule("out", "accept")), Action::Accept);
    assert_eq!(default_in(rule("in", "drop")), Action::Accept);
    assert_eq!(default_in(rule("in", "accept")), Action::Drop);
    let said = format!("default-in = \"reject\"\n{}", rule("in", "accept"));
    assert_eq!(default_in(said), Action::Reject);
}

#[test]
fn rules_that_accept_are_stateful_where_addresses_are_guarded() {
    let rule = "[[policy.rule]]\ndirection = \"out\"\naction = \"accept\"\n";
    for (keys, rule_keys, stateful) in [
        ("profile = \"open\"", "", false),
        ("profile = \"locked\"", "", true),
        ("profile = \"isolated\"", "", true),
        ("profile = \"locked\"\nstateful = false", "", false),
        ("profile = \"locked\"", "stateful = false", false),
        (
            "profile = \"locked\"\nmac-guard = false\nstateful = false",
            "",
            false,
        ),
        (
            "profile = \"open\"\nmac-guard = true\nstateful = true",
            "",
            true,
        ),
        (
            "profile = \"open\"\nmac-guard = true",
            "stateful = true",
            true,
        ),
    ] {
        let policy = one(&format!("{keys}\n{rule}{rule_keys}"));
        assert_eq!(policy.is_stateful(), stateful, "{keys}, {rule_keys}");
    }
}

#[test]
fn files_are_read_by_name_after_the_main_one() {
    let folder = std::env::temp_dir().join(format!("netback-policies-{}", std::process::id()));
    let fragments = folder.join("policy.d");
    std::fs::create_dir_all(&fragments).unwrap();
    let main = folder.join("netback.toml");
    let named = |name: &str| format!("[[policy]]\nname = \"{name}\"\nmatch = {{ domid = 1 }}\n");
    let load = || {
        let (policies, _) = Policies::load(Some(&main)).map_err(|error| error.to_string())?;
        Ok::<_, String>(
            policies
                .iter()
                .map(|p| p.name().to_owned())
                .collect::<Vec<_>>(),
        )
    };
    std::fs::write(&main, format!("max-queues = 2\n{}", named("main"))).unwrap();
    for (file, name) in [
        ("20-b.toml", "b"),
        ("10-a.toml", "a"),
        (".hidden.toml", "main"),
        ("30-c.toml.off", "main"),
    ] {
        std::fs::write(fragments.join(file), named(name)).unwrap();
    }
    assert_eq!(load().unwrap(), ["main", "a", "b"]);
    std::fs::write(fragments.join("20-b.toml"), "max-queues = 2").unwrap();
    let error = load().unwrap_err();
    let expected = "20-b.toml:1:1: there is no key \"max-queues\"; the keys are policy";
    assert!(error.ends_with(expected), "{error}");
    std::fs::write(fragments.join("20-b.toml"), named("main")).unwrap();
    let error = load().unwrap_err();
    assert!(
        error.contains("20-b.toml:2:8: name = \"main\": "),
        "{error}"
    );
    assert!(error.contains("netback.toml:2"), "{error}");
    std::fs::remove_dir_all(&folder).unwrap();
}
