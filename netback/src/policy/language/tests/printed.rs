//! What is printed is what was read.

use proptest::prelude::*;
use proptest::sample::select;

use super::*;

/// A key with one of some values, or without it.
fn maybe(key: &'static str, values: &'static [&'static str]) -> impl Strategy<Value = String> {
    prop_oneof![
        Just(String::new()),
        select(values).prop_map(move |value| format!("{key} = {value}\n")),
    ]
}

const FLAG: &[&str] = &["true", "false"];
const ACTION: &[&str] = &["\"accept\"", "\"drop\"", "\"reject\""];

fn settings() -> impl Strategy<Value = String> {
    let first = (
        maybe(
            "match",
            &[
                "{ domain = \"a*\\\"\\\\\\u0001\", bridge = [\"b\", \"c\"] }",
                "{ uuid = \"0f8fad5b-d9cb-469f-a165-70867728950e\", domid = [1, 2] }",
                "{ mac = \"00:16:3e:01:02:03\", handle = 7 }",
            ],
        ),
        maybe("profile", &["\"open\"", "\"locked\"", "\"isolated\""]),
        maybe(
            "ipv4",
            &["\"192.0.2.1\"", "[\"192.0.2.0/24\", \"192.0.2.9\"]", "[]"],
        ),
        maybe("ipv6", &["\"2001:db8::1\"", "[\"fe80::/10\", \"::/0\"]"]),
        maybe("mac-guard", FLAG),
        maybe("ip-guard", FLAG),
        maybe("ipv6-link-local", &["\"own\"", "\"any\""]),
        maybe("ra-guard", FLAG),
        maybe("dhcp", &["\"client\"", "\"server\"", "\"off\"", "\"any\""]),
        maybe(
            "dhcp-servers",
            &["\"192.0.2.1\"", "[\"::2\", \"192.0.2.3\"]", "[]"],
        ),
    );
    let second = (
        maybe("l2", &["\"ip-only\"", "\"any\""]),
        maybe("bpdu", FLAG),
        maybe("rarp", FLAG),
        maybe(
            "vlan",
            &[
                "\"off\"",
                "\"any\"",
                "{ access = 5 }",
                "{ trunk = [1, \"3-9\", 10] }",
                "{ trunk = \"7\", native = 4094 }",
            ],
        ),
        maybe("isolated", FLAG),
        maybe("host", &["\"all\"", "[]", "[\"ping\", \"dns\"]"]),
        maybe("storm", &["\"off\"", "17"]),
        maybe("multicast-flood", FLAG),
        maybe("default-out", ACTION),
        maybe("default-in", ACTION),
    );
    let third = (
        maybe(
            "rate-out",
            &[
                "\"1Gbit/s\"",
                "\"1001B/s\"",
                "\"8kbit/s\"\nburst-out = \"64KiB\"",
            ],
        ),
        maybe("rate-in", &["\"1Gbit/s\"\nburst-in = 1000000"]),
        maybe("packets-out", &["1"]),
        maybe("packets-in", &["100000000"]),
        maybe("flows", &["1", "1048576"]),
        maybe(
            "network",
            &[
                "{ mode = \"bridge\" }",
                "{ mode = \"route\", gateway = \"10.0.0.1\" }",
                "{ mode = \"nat\", gateway = [\"::2\", \"10.0.0.1\"], uplink = \"eth0\", \
                 forwards = [\"tcp 8080 -> 80\", \"udp [2001:db8::1]:53 -> [2001:db8::5]:53\"] }",
            ],
        ),
    );
    (first, second, third).prop_map(|(a, b, c)| {
        let a = [a.0, a.1, a.2, a.3, a.4, a.5, a.6, a.7, a.8, a.9];
        let b = [b.0, b.1, b.2, b.3, b.4, b.5, b.6, b.7, b.8, b.9];
        let c = [c.0, c.1, c.2, c.3, c.4, c.5];
        a.concat() + &b.concat() + &c.concat()
    })
}

fn rule() -> impl Strategy<Value = String> {
    let who = select(&[
        "protocol = \"tcp\"\nports = [22, \"80-90\", 91]\nremote = \"10.0.0.0/8\"",
        "protocol = \"udp\"\nsource-ports = 0\nremote = [\"10.0.0.0/8\", \"::/0\"]",
        "protocol = \"icmp\"",
        "protocol = \"icmp6\"\nremote = \"2001:db8::/32\"",
        "protocol = 58",
        "protocol = 132",
        "",
    ]);
    let parts = (
        select(&["in", "out"]),
        who,
        select(ACTION),
        maybe("limit", &["1", "10000000"]),
        maybe("log", FLAG),
    );
    parts.prop_map(|(direction, who, action, limit, log)| {
        format!(
            "[[policy.rule]]\ndirection = \"{direction}\"\n{who}\naction = {action}\n{limit}{log}"
        )
    })
}

fn read(text: &str) -> Option<Policy> {
    let (policies, _) = Policies::parse(Path::new("x"), text).ok()?;
    policies.0.into_iter().next()
}

proptest! {
    #[test]
    fn what_is_printed_is_what_was_read(
        settings in settings(),
        stateful in maybe("stateful", FLAG),
        rules in prop::collection::vec(rule(), 0..4),
    ) {
        let text = |stateful: &str| {
            let rules = rules.concat();
            format!("[[policy]]\nname = \"p\"\n{settings}{stateful}{rules}")
        };
        // Of all that is said here, only this may contradict itself.
        let policy = read(&text(&stateful)).or_else(|| read(&text("stateful = false\n")));
        let policy = policy.ok_or_else(|| TestCaseError::fail(text("")))?;
        let printed = policy.to_string();
        let again = read(&printed).ok_or_else(|| TestCaseError::fail(printed.clone()))?;
        prop_assert_eq!(&again.settings, &policy.settings, "{}", printed);
        prop_assert_eq!(&again.matching, &policy.matching, "{}", printed);
        prop_assert_eq!(again.profile, policy.profile);
        prop_assert_eq!(again.says_vlan, policy.says_vlan);
        prop_assert_eq!(&again.network, &policy.network, "{}", printed);
        prop_assert_eq!(again.to_string(), printed);
    }
}

#[test]
fn all_policies_are_printed_as_one_list() {
    let (policies, _) = Policies::parse(Path::new("x"), &example()).unwrap();
    let printed = policies.to_string();
    let (again, _) = Policies::parse(Path::new("x"), &printed).unwrap();
    assert_eq!(again.to_string(), printed);
    assert_eq!(printed.matches("[[policy]]").count(), 5);
}
