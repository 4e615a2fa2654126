//! What has probably another meaning than was meant is told, with its place.

use super::*;

fn warnings(text: &str) -> Vec<String> {
    let (_, warnings) = Policies::parse(Path::new("/etc/x.toml"), text).unwrap();
    warnings.iter().map(Warning::to_string).collect()
}

#[test]
fn what_has_no_effect_is_doubted() {
    let rule = |keys: &str| format!("[[policy.rule]]\ndirection = \"out\"\n{keys}\n");
    let all = rule("action = \"accept\"");
    for (text, expected) in [
        (
            with("ip-guard = false\nipv4 = \"192.0.2.1\""),
            ":4:8: ipv4 = \"192.0.2.1\": it has no effect, since ip-guard is false",
        ),
        (
            with("profile = \"open\"\nipv6-link-local = \"any\""),
            "ip-guard is false",
        ),
        (
            with("bpdu = true"),
            ":3:8: bpdu = true: l2 = \"ip-only\" drops them all the same",
        ),
        (
            with(&format!(
                "{all}{}",
                rule("protocol = \"tcp\"\nports = 25\naction = \"drop\"")
            )),
            ":6:1: this rule is never reached: the one of line 3 decides first",
        ),
        (
            format!("{}[[policy]]\nname = \"q\"\n", with("")),
            ":3:1: this policy never governs: \"p\" of /etc/x.toml:1 is for every interface",
        ),
        (
            with("[[policy.rule]]\ndirection = \"in\"\nprotocol = \"tcp\"\naction = \"accept\""),
            "gets no answers",
        ),
    ] {
        let warnings = warnings(&text);
        assert_eq!(warnings.len(), 1, "{text}: {warnings:?}");
        assert!(warnings[0].contains(expected), "{text}: {warnings:?}");
    }
}

#[test]
fn a_rule_is_unreachable_only_if_an_earlier_one_takes_all_of_it() {
    let rules = |first: &str, second: &str| {
        let rule = |keys: &str| format!("[[policy.rule]]\n{keys}\naction = \"drop\"\n");
        let text = with(&(rule(first) + &rule(second)));
        warnings(&text).len()
    };
    let (out, tcp) = (
        "direction = \"out\"",
        "direction = \"out\"\nprotocol = \"tcp\"",
    );
    let keys = |start: &str, more: &str| format!("{start}\n{more}");
    for (first, second, unreachable) in [
        (out.to_owned(), keys(tcp, "ports = 25"), true),
        (tcp.to_owned(), keys(tcp, "ports = 25"), true),
        (keys(tcp, "ports = 25"), tcp.to_owned(), false),
        (
            keys(tcp, "ports = \"20-30\""),
            keys(tcp, "ports = \"25,28\""),
            true,
        ),
        (
            keys(tcp, "ports = \"20-30\""),
            keys(tcp, "ports = \"25,31\""),
            false,
        ),
        (keys(tcp, "source-ports = 1"), tcp.to_owned(), false),
        (tcp.to_owned(), out.to_owned(), false),
        ("direction = \"in\"".to_owned(), out.to_owned(), false),
        (keys(out, "limit = 5"), out.to_owned(), false),
        (out.to_owned(), keys(out, "limit = 5"), true),
        (
            keys(out, "remote = \"10.0.0.0/8\""),
            keys(out, "remote = \"10.1.0.0/16\""),
            true,
        ),
        (keys(out, "remote = \"10.0.0.0/8\""), out.to_owned(), false),
        (
            keys(out, "remote = [\"0.0.0.0/0\", \"::/0\"]"),
            out.to_owned(),
            true,
        ),
        (keys(out, "remote = \"0.0.0.0/0\""), out.to_owned(), false),
        (
            keys(out, "remote = \"0.0.0.0/0\""),
            keys(out, "protocol = \"icmp\""),
            true,
        ),
        (
            keys(out, "remote = \"0.0.0.0/0\""),
            keys(out, "protocol = \"icmp6\""),
            false,
        ),
    ] {
        assert_eq!(
            rules(&first, &second),
            usize::from(unreachable),
            "{first} / {second}"
        );
    }
}
