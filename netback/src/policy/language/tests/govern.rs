//! Which policy governs an interface, and what the toolstack adds.

use broker::owner::Owner;
use ring_proto::DomId;

use super::*;

const MAC: Mac = Mac([0, 0x16, 0x3e, 1, 2, 3]);
const UUID: &str = "0f8fad5b-d9cb-469f-a165-70867728950e";

fn vif() -> Vif {
    Vif {
        owner: Owner {
            domid: DomId::new(7),
            name: Some("web-1".to_owned()),
            uuid: Some(UUID.to_owned()),
        },
        handle: 1,
        mac: MAC,
        bridge: Some("xenbr0".to_owned()),
        ip: Vec::new(),
        vlan: None,
        rate: None,
    }
}

fn govern(text: &str, vif: &Vif) -> Governed {
    let (policies, _) = Policies::parse(Path::new("/etc/x.toml"), text).unwrap();
    policies.govern(vif).unwrap()
}

/// What governs an interface if a policy with `keys` is all there is.
fn alone(keys: &str, vif: &Vif) -> Governed {
    govern(&format!("[[policy]]\nname = \"p\"\n{keys}"), vif)
}

#[test]
fn without_a_policy_an_interface_is_open_or_locked_to_its_addresses() {
    let open = govern("", &vif());
    assert_eq!(open.policy, VifPolicy::open(MAC));
    assert_eq!(open.why, Why::Nothing);
    let ip = prefixes(&["192.0.2.7", "2001:db8::/64", "192.0.2.7"]);
    let addressed = Vif { ip, ..vif() };
    let locked = govern("", &addressed);
    let own = prefixes(&["192.0.2.7", "2001:db8::/64"]);
    assert_eq!(locked.policy, VifPolicy::locked(MAC, own));
    assert_eq!(locked.why, Why::Addressed);
}

#[test]
fn the_first_policy_that_fits_governs_alone() {
    let text = "[[policy]]\nname = \"other\"\nmatch = { domain = \"db-*\" }\n\
                [[policy]]\nname = \"web\"\nmatch = { domain = [\"x\", \"web-?\"], bridge = \"xenbr0\" }\n\
                [[policy]]\nname = \"rest\"\nprofile = \"open\"\n";
    let web = govern(text, &vif());
    assert_eq!((web.policy.name.as_str(), web.policy.mac), ("web", MAC));
    let why =
        "/etc/x.toml:4, profile locked: domain web-1 fits \"web-?\", bridge xenbr0 fits \"xenbr0\"";
    assert_eq!(web.why.to_string(), why);
    let elsewhere = Vif {
        bridge: Some("xenbr1".to_owned()),
        ..vif()
    };
    let rest = govern(text, &elsewhere);
    assert_eq!(rest.policy.name, "rest");
    assert!(rest.why.to_string().ends_with("it is for every interface"));
}

#[test]
fn every_key_of_a_match_decides() {
    for (fits, fails) in [
        ("domain = \"web-*\"", "domain = \"WEB-*\""),
        (
            &*format!("uuid = \"{}\"", UUID.to_uppercase()),
            "uuid = \"00000000-0000-0000-0000-000000000000\"",
        ),
        ("domid = [1, 7]", "domid = 1"),
        ("handle = 1", "handle = 0"),
        ("mac = \"00:16:3E:1:2:3\"", "mac = \"00:16:3e:01:02:04\""),
        ("bridge = \"xenbr0\"", "bridge = \"xenbr*\""),
    ] {
        let governs = |keys: &str| {
            let why = alone(&format!("match = {{ {keys} }}"), &vif()).why;
            matches!(why, Why::Fits { .. })
        };
        assert!(governs(fits), "{fits}");
        assert!(!governs(fails), "{fails}");
        assert!(!governs(&format!("{fails}, domid = 7").replacen(
            "domid = 1, ",
            "handle = 9, ",
            1
        )));
    }
}

/// A guest whose name cannot be read gets neither what is meant for another, nor less than what is
/// meant for it.
#[test]
fn con_04_what_is_not_known_is_in_doubt_unless_it_does_not_matter() {
    let unknown = Vif {
        owner: Owner::numbered(DomId::new(7)),
        bridge: None,
        ..vif()
    };
    let judge = |keys: &str| {
        let text = format!(
            "[[policy]]\nname = \"first\"\nmatch = {{ domid = 7, mac = \"00:16:3e:1:2:4\" }}\n\
             [[policy]]\nname = \"p\"\nmatch = {{ {keys} }}\n[[policy]]\nname = \"rest\"\n"
        );
        let (policies, _) = Policies::parse(Path::new("/etc/x.toml"), &text).unwrap();
        policies
            .govern(&unknown)
            .map(|governed| governed.policy.name)
    };
    let uuid = format!("uuid = \"{UUID}\"");
    for keys in ["domain = \"*\"", "domain = \"web-1\", domid = 7", &uuid] {
        let doubt = judge(keys).unwrap_err().to_string();
        assert!(
            doubt.starts_with(
                "policy \"p\" of /etc/x.toml:4 may be for this interface, but its guest's"
            ),
            "{doubt}"
        );
    }
    // Another key says no; or nothing depends on it.
    for keys in [
        "domain = \"*\", domid = 8",
        "domain = \"*\", bridge = \"xenbr0\"",
        "domid = 9",
    ] {
        assert_eq!(judge(keys).unwrap(), "rest", "{keys}");
    }
    assert_eq!(judge("handle = 1").unwrap(), "p");
}

#[test]
fn net_16_17_addresses_of_the_toolstack_are_added() {
    let addressed = Vif {
        ip: prefixes(&["192.0.2.7", "192.0.2.99"]),
        ..vif()
    };
    let both = alone("ipv4 = [\"192.0.2.0/28\", \"198.51.100.1\"]", &addressed);
    let own = both.policy.addresses.unwrap().own;
    let expected = prefixes(&["192.0.2.0/28", "192.0.2.99", "198.51.100.1"]);
    assert_eq!(own, expected);
    assert_eq!(alone("ip-guard = false", &addressed).policy.addresses, None);
    // Nobody has given any: nothing of IP may leave.
    let none = alone("", &vif()).policy.addresses.unwrap();
    assert_eq!(none.own, []);
}

#[test]
fn net_19_the_vlan_of_the_toolstack_goes_before_the_profile_but_not_before_the_policy() {
    let member = Vif {
        vlan: Some(Vlan::Access(5)),
        ..vif()
    };
    assert_eq!(govern("", &member).policy.vlan, Vlan::Access(5));
    assert_eq!(alone("", &member).policy.vlan, Vlan::Access(5));
    assert_eq!(alone("vlan = \"off\"", &member).policy.vlan, Vlan::Off);
    let other = alone("vlan = { access = 6 }", &member);
    assert_eq!(other.policy.vlan, Vlan::Access(6));
}

#[test]
fn net_11_the_slower_of_two_rates_holds() {
    let rate = |bytes, interval_us| RateSpec { bytes, interval_us };
    let wish = |rate| Vif {
        rate: Some(rate),
        ..vif()
    };
    let unsaid = alone("", &wish(rate(62_500, 50_000)));
    assert_eq!(unsaid.rate, Some(rate(62_500, 50_000)));
    assert_eq!(unsaid.policy.limit_out, Limit::default());
    let slow = "rate-out = \"8Mbit/s\"";
    let policys = alone(slow, &vif());
    assert_eq!(policys.rate, Some(rate(50_000, 50_000)));
    assert_eq!(policys.policy.limit_out.bytes, 1_000_000);
    let faster = alone(slow, &wish(rate(62_500, 50_000)));
    assert_eq!(faster.rate, policys.rate);
    assert_eq!(faster.policy.limit_out, policys.policy.limit_out);
    let slower = alone(slow, &wish(rate(900_000, 1_000_000)));
    assert_eq!(slower.rate, Some(rate(900_000, 1_000_000)));
    let expected = Limit {
        bytes: 900_000,
        packets: 0,
        // It may come all at once.
        burst: 900_000,
    };
    assert_eq!(slower.policy.limit_out, expected);
    // Not more at once than the kernel lets pass.
    let fast = alone("rate-out = \"1Gbit/s\"", &vif()).rate.unwrap();
    assert_eq!(fast, rate(131_000, 1048));
    let most = alone("rate-out = \"1000Gbit/s\"", &vif()).rate.unwrap();
    assert_eq!(most, rate(125_000, 1));
    // No number overflows.
    let most = alone(slow, &wish(rate(u64::MAX, 1)));
    assert_eq!(most.rate, policys.rate);
    let least = alone(slow, &wish(rate(1, u64::MAX)));
    assert_eq!(least.policy.limit_out.bytes, 1);
}
