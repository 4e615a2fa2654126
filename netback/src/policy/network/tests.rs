//! What is a network, and what is none.

use super::*;

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Policy {
    network: Network,
}

fn parse(table: &str) -> Result<Network, String> {
    let text = format!("network = {{ {table} }}");
    let policy = toml::from_str::<Policy>(&text);
    policy
        .map(|policy| policy.network)
        .map_err(|error| error.message().to_owned())
}

#[test]
fn what_was_written_comes_to_the_script() {
    let network = parse(
        "mode = \"nat\", gateway = [\"10.0.0.1\", \"fe80::1\"], uplink = \"eth0\", forwards = \
         [\"tcp 8080 -> 80\", \"udp 192.0.2.1:53  ->  10.0.0.5:5353\", \
         \"tcp [2001:db8::1]:22 -> [fd00::5]:22\"]",
    )
    .unwrap();
    let forwards = "tcp any 8080 guest 80; udp 192.0.2.1 53 10.0.0.5 5353; \
                    tcp 2001:db8::1 22 fd00::5 22";
    let expected = [
        ("network/mode", "nat"),
        ("network/gateway", "10.0.0.1 fe80::1"),
        ("network/uplink", "eth0"),
        ("network/forwards", forwards),
    ];
    let expected = expected.map(|(key, value)| (key, value.to_owned()));
    assert_eq!(network.keys(), expected);
    assert_eq!(network.mode(), Mode::Nat);
    assert_eq!(network.gateways().len(), 2);
    assert_eq!(network.uplink(), Some("eth0"));
    assert_eq!(
        network.forwards()[1].to_string(),
        "udp 192.0.2.1:53 -> 10.0.0.5:5353"
    );
    let policy = Policy { network };
    let again = serde_json::to_string(&policy).unwrap();
    assert_eq!(serde_json::from_str::<Policy>(&again).unwrap(), policy);
}

#[test]
fn nothing_is_written_but_what_was_said() {
    for mode in ["bridge", "route", "nat"] {
        let network = parse(&format!("mode = \"{mode}\"")).unwrap();
        assert_eq!(network.keys(), [("network/mode", mode.to_owned())]);
    }
}

#[test]
fn one_port_of_the_host_leads_to_one_place() {
    for (one, other, both) in [
        ("tcp 80 -> 80", "tcp 80 -> 81", false),
        ("tcp 80 -> 80", "udp 80 -> 80", true),
        ("tcp 80 -> 80", "tcp 81 -> 80", true),
        ("tcp 80 -> 80", "tcp 192.0.2.1:80 -> 80", false),
        ("tcp 192.0.2.2:80 -> 80", "tcp 192.0.2.1:80 -> 80", true),
        ("tcp 192.0.2.2:80 -> 80", "tcp [2001:db8::1]:80 -> 80", true),
        ("tcp 80 -> 10.0.0.5:80", "tcp 80 -> [fd00::5]:80", true),
        ("tcp 80 -> 10.0.0.5:80", "tcp 80 -> 10.0.0.6:80", false),
        ("tcp 80 -> 10.0.0.5:80", "tcp 80 -> 80", false),
    ] {
        let parsed = parse(&format!(
            "mode = \"nat\", forwards = [\"{one}\", \"{other}\"]"
        ));
        assert_eq!(parsed.is_ok(), both, "{one} and {other}: {parsed:?}");
    }
}

#[test]
fn what_makes_no_sense_is_named_with_its_remedy() {
    for (table, expected) in [
        ("", "missing field `mode`"),
        (
            "mode = \"hub\"",
            "unknown variant `hub`, expected one of `bridge`, `route`, `nat`",
        ),
        ("mode = \"nat\", gatway = []", "unknown field `gatway`"),
        (
            "mode = \"nat\", gateway = [\"10.0.0\"]",
            "invalid IP address syntax",
        ),
        (
            "mode = \"nat\", gateway = [\"224.0.0.1\"]",
            "gateway = 224.0.0.1 is not the address of one host",
        ),
        (
            "mode = \"nat\", gateway = [\"10.0.0.1\", \"10.0.0.2\"]",
            "gateway = 10.0.0.2 is one too many beside 10.0.0.1: write one for IPv4",
        ),
        (
            "mode = \"route\", uplink = \"eth0;id\"",
            "uplink = \"eth0;id\" is no interface's name: use",
        ),
        (
            "mode = \"bridge\", uplink = \"eth0\"",
            "uplink is not for mode = \"bridge\": remove it",
        ),
        (
            "mode = \"bridge\", gateway = [\"10.0.0.1\"]",
            "gateway is not for mode = \"bridge\"",
        ),
        (
            "mode = \"route\", forwards = [\"tcp 1 -> 1\"]",
            "forwards is not for mode = \"route\": remove it, the guest has addresses",
        ),
        (
            "mode = \"nat\", forwards = [\"tcp 1 -> 1\", \"tcp 1 -> 2\"]",
            "\"tcp 1 -> 1\" and \"tcp 1 -> 2\" are for the same port of the host",
        ),
        (
            "mode = \"nat\", forwards = [\"tcp 1\"]",
            "\"tcp 1\" is no port forward: write \"tcp 8080 -> 80\"",
        ),
        (
            "mode = \"nat\", forwards = [\"8080\"]",
            "no port forward: write",
        ),
        (
            "mode = \"nat\", forwards = [\"icmp 1 -> 1\"]",
            "the protocols are tcp and udp",
        ),
    ] {
        let error = parse(table).unwrap_err();
        assert!(error.contains(expected), "{table}: {error}");
    }
    for ports in [
        "0 -> 1",
        "1 -> 65536",
        "+1 -> 1",
        "-> 1",
        "1.2.3.4 -> 1",
        "::1:80 -> 1",
        "[1.2.3.4]:1 -> 1",
        "127.0.0.1:80 -> 80",
        "80 -> 0.0.0.0:80",
        "80 80 -> 80",
    ] {
        let error = format!("tcp {ports}")
            .parse::<Forward>()
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("write ports from 1 to 65535"),
            "{ports}: {error}"
        );
    }
    let error = "tcp 192.0.2.1:80 -> [fd00::5]:80"
        .parse::<Forward>()
        .unwrap_err();
    assert!(error.to_string().contains("write two of one version"));
}
