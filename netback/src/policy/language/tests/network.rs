//! How policies say what the hotplug script is to do.

use broker::owner::Owner;
use ring_proto::DomId;

use super::*;
use crate::policy::network::Mode;

fn vif() -> Vif {
    Vif {
        owner: Owner::numbered(DomId::new(5)),
        handle: 0,
        mac: Mac([0, 0x16, 0x3e, 0, 0, 1]),
        bridge: None,
        ip: Vec::new(),
        vlan: None,
        rate: None,
    }
}

fn governed(keys: &str) -> Governed {
    let (policies, _) = Policies::parse(Path::new("x"), &with(keys)).unwrap();
    policies.govern(&vif()).unwrap()
}

#[test]
fn the_policy_that_governs_says_how_the_interface_is_connected() {
    let tables = "network = { mode = \"nat\", gateway = \"10.0.0.1\", uplink = \"eth0\", \
                  forwards = [\"tcp 8080 -> 80\"] }";
    let headed = "[policy.network]\nmode = \"nat\"\ngateway = [\"10.0.0.1\"]\nuplink = \"eth0\"\n\
                  forwards = \"tcp 8080 -> 80\"";
    for keys in [tables, headed] {
        let network = governed(keys).network.unwrap();
        assert_eq!(network.mode(), Mode::Nat);
        let keys = [
            ("network/mode", "nat"),
            ("network/gateway", "10.0.0.1"),
            ("network/uplink", "eth0"),
            ("network/forwards", "tcp any 8080 guest 80"),
        ]
        .map(|(key, value)| (key, value.to_owned()));
        assert_eq!(network.keys(), keys);
    }
    assert_eq!(governed("").network, None);
    // It is for another interface.
    let other = format!("match = {{ domid = 6 }}\n{tables}");
    assert_eq!(governed(&other).network, None);
}

#[test]
fn a_network_that_makes_no_sense_is_told_with_its_place() {
    for (table, expected) in [
        ("\"nat\"", ":3:11: network = \"nat\": write a table like"),
        ("{}", ":3:11: mode is missing: write mode = \"bridge\""),
        (
            "{ mode = \"switch\" }",
            ":3:20: mode = \"switch\": write one of \"bridge\", \"route\", \"nat\"",
        ),
        (
            "{ mode = \"nat\", uplnk = \"eth0\" }",
            ":3:27: there is no key \"uplnk\"; did you mean \"uplink\"?",
        ),
        (
            "{ mode = \"nat\", uplink = 1 }",
            ":3:36: uplink = 1: write an interface's name",
        ),
        (
            "{ mode = \"nat\", uplink = \"a b\" }",
            ":3:36: network: uplink = \"a b\" is no interface's name",
        ),
        (
            "{ mode = \"nat\", gateway = [\"10.0.0.1/8\"] }",
            ":3:38: gateway = \"10.0.0.1/8\": write an address in quotes",
        ),
        (
            "{ mode = \"nat\", gateway = \"224.0.0.1\" }",
            ":3:37: network: gateway = 224.0.0.1 is not the address of one host",
        ),
        (
            "{ mode = \"nat\", gateway = [\"10.0.0.1\", \"10.0.0.2\"] }",
            ":3:37: network: gateway = 10.0.0.2 is one too many beside 10.0.0.1",
        ),
        (
            "{ mode = \"bridge\", uplink = \"eth0\" }",
            ":3:39: network: uplink is not for mode = \"bridge\"",
        ),
        (
            "{ mode = \"route\", forwards = [\"tcp 1 -> 1\"] }",
            ":3:40: network: forwards is not for mode = \"route\"",
        ),
        (
            "{ mode = \"nat\", forwards = [\"tcp 1 -> 1\", \"tcp 0 -> 1\"] }",
            ":3:53: forwards = \"tcp 0 -> 1\": is no port forward: write ports from 1",
        ),
        (
            "{ mode = \"nat\", forwards = [\"tcp 1 -> 1\", \"tcp 1 -> 2\"] }",
            ":3:38: network: \"tcp 1 -> 1\" and \"tcp 1 -> 2\" are for the same port",
        ),
    ] {
        let text = with(&format!("network = {table}"));
        let error = Policies::parse(Path::new("/etc/x.toml"), &text).expect_err(table);
        let error = error.to_string();
        assert!(error.contains(expected), "{table}: {error}");
    }
}
