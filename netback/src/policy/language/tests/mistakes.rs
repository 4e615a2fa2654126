//! What is wrong is told with its place and its remedy.

use super::*;

fn error(text: &str) -> String {
    let parsed = Policies::parse(Path::new("/etc/x.toml"), text);
    parsed.expect_err(text).to_string()
}

#[test]
fn every_mistake_is_named_with_its_place_and_its_remedy() {
    for (keys, expected) in [
        (
            "mac_guard = true",
            ":3:1: there is no key \"mac_guard\"; did you mean \"mac-guard\"?",
        ),
        (
            "rules = 1",
            ":3:1: there is no key \"rules\"; did you mean \"rule\"?",
        ),
        (
            "match = { domian = \"x\" }",
            ":3:11: there is no key \"domian\"; did you mean \"domain\"?",
        ),
        (
            "zzz = 1",
            ":3:1: there is no key \"zzz\"; the keys are name, match, profile",
        ),
        (
            "mac-guard = \"on\"",
            ":3:13: mac-guard = \"on\": write true or false",
        ),
        (
            "profile = \"lock\"",
            ":3:11: profile = \"lock\": write one of \"open\", \"locked\", \"isolated\"",
        ),
        (
            "dhcp = \"no\"",
            "dhcp = \"no\": write one of \"client\", \"server\", \"off\", \"any\"",
        ),
        (
            "dhcp-servers = \"192.0.2.0/24\"",
            "write the address of each server",
        ),
        (
            "host = [\"ssh\"]",
            ":3:9: host = \"ssh\": write \"all\", or a list of dhcp",
        ),
        ("host = \"none\"", "write \"all\", or a list"),
        ("storm = 0", "storm = 0: write a number from 1 to"),
        (
            "storm = \"none\"",
            "storm = \"none\": write a number of packets a second, or \"off\"",
        ),
        ("flows = 0", "flows = 0: write a number from 1 to 1048576"),
        (
            "l2 = \"ip\"",
            "l2 = \"ip\": write one of \"ip-only\", \"any\"",
        ),
        ("rule = 1", "write [[policy.rule]], with two brackets"),
        ("match = {}", "leave match out to match everything"),
        ("match = \"web\"", "write a table like { domain = \"web-*\""),
        ("match = { domain = [] }", "the list is empty"),
        (
            "match = { domain = 1 }",
            "domain = 1: write a name in quotes",
        ),
        (
            "match = { domid = 40000 }",
            "domid = 40000: write a number from 0 to 32751",
        ),
        (
            "match = { uuid = \"1\" }",
            "uuid = \"1\": is no UUID: write it as xl list -v",
        ),
        (
            "match = { mac = \"01:00:5e:00:00:01\" }",
            "is the address of a group",
        ),
    ] {
        let error = error(&with(keys));
        assert!(error.starts_with("/etc/x.toml:3:"), "{keys}: {error}");
        assert!(error.contains(expected), "{keys}: {error}");
        assert!(!error.contains('\n'), "{keys}: {error}");
    }
}

#[test]
fn net_15_to_18_addresses_that_no_guest_has_are_refused() {
    for (keys, expected) in [
        (
            "ipv4 = [\"192.0.2.1\", \"192.0.2.1/24\"]",
            ":3:22: ipv4 = \"192.0.2.1/24\": has bits behind \
          its length: write 192.0.2.0/24 for all of it, or 192.0.2.1 for one",
        ),
        (
            "ipv4 = \"2001:db8::1\"",
            "ipv4 = \"2001:db8::1\": write it in ipv6",
        ),
        ("ipv6 = \"192.0.2.1\"", "write it in ipv4"),
        ("ipv4 = 1", "write an address or prefix in quotes"),
        ("ipv4 = \"0.0.0.0\"", "no guest has this address"),
        ("ipv4 = \"255.255.255.255\"", "no guest has this address"),
        ("ipv4 = \"224.0.0.0/24\"", "no guest has this address"),
        ("ipv6 = \"ff02::1\"", "no guest has this address"),
        ("ipv6 = \"::\"", "no guest has this address"),
        (
            "ip-guard = \"learn-dhcp\"",
            ":3:12: ip-guard = \"learn-dhcp\": addresses are not learned",
        ),
    ] {
        let error = error(&with(keys));
        assert!(error.contains(expected), "{keys}: {error}");
    }
    one("ipv4 = \"0.0.0.0/0\"\nipv6 = \"::/0\"");
}

#[test]
fn net_19_vlans_are_from_1_to_4094() {
    for (keys, expected) in [
        (
            "vlan = \"access\"",
            "write \"off\", \"any\", { access = 5 }",
        ),
        ("vlan = 5", "write \"off\", \"any\", { access = 5 }"),
        ("vlan = {}", "write \"off\", \"any\", { access = 5 }"),
        (
            "vlan = { native = 5 }",
            "write \"off\", \"any\", { access = 5 }",
        ),
        (
            "vlan = { access = 5, trunk = [6] }",
            "write \"off\", \"any\", { access = 5 }",
        ),
        (
            "vlan = { access = 0 }",
            ":3:19: access = 0: write a number from 1 to 4094",
        ),
        (
            "vlan = { access = 4095 }",
            "access = 4095: write a number from 1 to 4094",
        ),
        (
            "vlan = { trunk = [0] }",
            "trunk = 0: \"0\" is no number from 1 to 4094",
        ),
        (
            "vlan = { trunk = \"5-4095\" }",
            "\"4095\" is no number from 1 to 4094",
        ),
        ("vlan = { trunk = [] }", "the list is empty"),
        (
            "vlan = { trunk = \"20-10\" }",
            "20 is more than 10: write 10-20",
        ),
        (
            "vlan = { trunk = \"1-20\", native = 10 }",
            "VLAN 10 is in trunk and native",
        ),
    ] {
        let error = error(&with(keys));
        assert!(error.contains(expected), "{keys}: {error}");
    }
}

#[test]
fn net_11_limits_that_let_nothing_pass_are_refused() {
    for (keys, expected) in [
        (
            "rate-out = 100",
            "rate-out = 100: write a rate like \"100Mbit/s\"",
        ),
        ("rate-in = \"0Mbit/s\"", "write a rate like"),
        ("packets-out = 0", "packets-out = 0: write a number from 1"),
        (
            "burst-out = \"1MiB\"",
            "burst-out = \"1MiB\": it needs rate-out beside it",
        ),
        (
            "rate-out = \"1Mbit/s\"\nburst-in = \"1MiB\"",
            "it needs rate-in beside it",
        ),
        (
            "rate-out = \"1Mbit/s\"\nburst-out = 1500",
            "from 64KiB to 1GiB",
        ),
    ] {
        let error = error(&with(keys));
        assert!(error.contains(expected), "{keys}: {error}");
    }
}

#[test]
fn rules_that_contradict_themselves_are_refused() {
    for (keys, expected) in [
        (
            "direction = \"both\"",
            "direction = \"both\": write one of \"in\", \"out\"",
        ),
        (
            "action = \"deny\"",
            "action = \"deny\": write one of \"accept\", \"drop\", \"reject\"",
        ),
        ("ports = 80", "ports = 80: only tcp and udp have ports"),
        (
            "protocol = \"icmp\"\nports = 80",
            "only tcp and udp have ports",
        ),
        (
            "protocol = 47\nsource-ports = 80",
            "source-ports = 80: only tcp and udp have ports",
        ),
        (
            "protocol = \"tcp\"\nports = \"90-80\"",
            "90 is more than 80: write 80-90",
        ),
        (
            "protocol = \"tcp\"\nports = 65536",
            "\"65536\" is no number from 0 to 65535",
        ),
        (
            "protocol = \"tcp\"\nports = \"http\"",
            "\"http\" is no number from 0 to 65535",
        ),
        ("protocol = \"tcp\"\nports = \"80,\"", "\"\" is no number"),
        (
            "protocol = \"tcp\"\nports = true",
            "ports = true: write a number, a text like",
        ),
        (
            "protocol = \"icmp\"\nremote = [\"10.0.0.0/8\", \"::/0\"]",
            "write another rule for icmp6",
        ),
        (
            "protocol = \"icmp6\"\nremote = \"10.0.0.0/8\"",
            "write another rule for icmp",
        ),
        (
            "protocol = \"sctp\"",
            "write \"any\", \"tcp\", \"udp\", \"icmp\", \"icmp6\" or a number",
        ),
        ("protocol = 44", "protocol = 44: it is an extension header"),
        ("protocol = 256", "write a number from 0 to 255"),
        ("remote = []", "the list is empty"),
        ("remote = \"example.org\"", "is no address or prefix"),
        ("limit = 0", "limit = 0: write a number from 1"),
        (
            "action = \"drop\"\nstateful = true",
            "only rules that accept are stateful",
        ),
        (
            "port = 1",
            "there is no key \"port\"; did you mean \"ports\"?",
        ),
    ] {
        let mut rule = format!("{keys}\n");
        for (key, value) in [("direction", "in"), ("action", "accept")] {
            if !keys.contains(key) {
                rule += &format!("{key} = \"{value}\"\n");
            }
        }
        let error = error(&with(&format!("[[policy.rule]]\n{rule}")));
        assert!(error.contains(expected), "{keys}: {error}");
    }
}

#[test]
fn what_a_rule_must_say_is_missed() {
    for (keys, expected) in [
        (
            "action = \"drop\"",
            ":3:1: direction is missing: write direction = \"in\" or \"out\"",
        ),
        (
            "direction = \"in\"",
            ":3:1: action is missing: write action = \"accept\", \"drop\"",
        ),
    ] {
        let error = error(&with(&format!("[[policy.rule]]\n{keys}")));
        assert!(error.contains(expected), "{error}");
    }
}

#[test]
fn net_22_stateful_rules_need_the_guard_of_the_source() {
    let rule = "[[policy.rule]]\ndirection = \"in\"\naction = \"accept\"\n";
    let by_default = error(&with(&format!("mac-guard = false\n{rule}")));
    assert!(
        by_default.contains("x.toml:4:1: stateful rules need mac-guard"),
        "{by_default}"
    );
    let said = error(&with(&format!("profile = \"open\"\n{rule}stateful = true")));
    assert!(
        said.contains("x.toml:7:12: stateful = true: stateful rules need"),
        "{said}"
    );
}

#[test]
fn con_04_names_are_of_few_characters_and_are_used_once() {
    for name in [
        "",
        "Web",
        "a b",
        "ü",
        "a_b",
        "../x",
        "a\\nb",
        &"x".repeat(64),
    ] {
        let error = error(&format!("[[policy]]\nname = \"{name}\""));
        assert!(error.contains(":2:8: name = "), "{error}");
        assert!(error.contains("write 1 to 63 of a-z, 0-9 and -"), "{error}");
        assert!(error.len() < 200 && !error.contains('\n'), "{error}");
    }
    for name in ["open", "locked", "isolated"] {
        let error = error(&format!("[[policy]]\nname = \"{name}\""));
        assert!(error.contains("this is a profile's name"), "{error}");
    }
    let twice = error("[[policy]]\nname = \"a\"\n[[policy]]\nname = \"a\"\n");
    assert!(twice.contains("x.toml:4:8: name = \"a\": "), "{twice}");
    assert!(twice.contains("/etc/x.toml:1"), "{twice}");
    assert!(error("[[policy]]\nmac-guard = true").contains(":1:1: name is missing"));
    assert!(error("[policy]\nname = \"a\"").contains("write [[policy]], with two brackets"));
    assert!(error("policy = [1]").contains("write [[policy]], with two brackets"));
    assert!(error("[[policy]\n").starts_with("/etc/x.toml:1:"));
}

#[test]
fn a_policy_that_no_worker_could_be_told_of_is_refused_and_ten_thousand_rules_are_not() {
    let rules = |count| {
        let rule = "[[policy.rule]]\ndirection = \"out\"\naction = \"drop\"\n";
        format!("\n[[policy]]\nname = \"x\"\n{}", rule.repeat(count))
    };
    let path = Path::new("/etc/x.toml");
    assert!(Policies::parse(path, &rules(10_000)).is_ok());
    let refused = error(&rules(30_000));
    assert!(
        refused.contains("x.toml:2:1: the policy x is too long"),
        "{refused}"
    );
}
