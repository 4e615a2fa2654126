use crate::host::Vif;
use crate::route::host;

const VIF: Vif = Vif(7);

const KEYS: [(&str, &str); 3] = [
    ("network/mode", "nat"),
    ("ip", "10.0.0.5 10.9.0.0/24 fd00::5"),
    (
        "network/forwards",
        "tcp any 8080 guest 80; udp 192.0.2.1 53 10.0.0.5 5353;tcp 2001:db8::1 22 guest 22",
    ),
];

#[test]
fn a_table_of_its_own_goes_with_the_interface() {
    let host = host("nat");
    // What others have is none of the script's business.
    host.sh("nft 'add table inet filter; add chain inet filter forward'");
    host.vif(VIF, &KEYS);
    let before = host.dump();
    let mut first = None;
    for _ in 0..2 {
        host.must(VIF, "online");
        let rules = host.sh("nft -s list table inet xb-nat-vif7.0");
        for rule in [
            "ip daddr != 127.0.0.0/8 fib daddr type local tcp dport 8080 dnat ip to 10.0.0.5:80",
            "ip6 daddr != ::1 fib daddr type local tcp dport 8080 dnat ip6 to [fd00::5]:80",
            "ip daddr 192.0.2.1 udp dport 53 dnat ip to 10.0.0.5:5353",
            "ip6 daddr 2001:db8::1 tcp dport 22 dnat ip6 to [fd00::5]:22",
            "oifname \"eth0\" ip saddr 10.0.0.5 masquerade",
            "oifname \"eth0\" ip saddr 10.9.0.0/24 masquerade",
            "oifname \"eth0\" ip6 saddr fd00::5 masquerade",
        ] {
            assert!(rules.contains(rule), "{rule}: {rules}");
        }
        assert_eq!(rules.matches("dnat").count(), 4, "{rules}");
        // Once more is no more than once.
        assert_eq!(first.get_or_insert(rules.clone()), &rules);
        assert_eq!(host.sh("ip neigh show proxy"), "");
        assert!(host.sh("ip route").contains("10.0.0.5 dev vif7.0"));
    }
    for _ in 0..2 {
        host.must(VIF, "offline");
        host.is_as(&before);
    }
}

#[test]
fn a_table_goes_even_if_the_interface_has_gone() {
    let host = host("natgone");
    let before = host.dump();
    host.vif(VIF, &KEYS);
    host.must(VIF, "online");
    host.sh("ip link delete vif7.0");
    host.must(VIF, "offline");
    host.is_as(&before);
}

#[test]
fn what_is_left_of_an_earlier_interface_goes_first() {
    let host = host("stale");
    host.vif(VIF, &KEYS);
    let before = host.dump();
    host.must(VIF, "online");
    // A host that has lost its notes, and a policy that has changed.
    host.sh("rm /run/xen-backends/vif/vif7.0");
    host.must(VIF, "online");
    host.keys(VIF, &[("network/mode", "route"), ("ip", "10.0.0.6")]);
    host.must(VIF, "online");
    assert_eq!(host.sh("nft list ruleset"), "");
    assert!(!host.sh("ip route").contains("10.0.0.5"));
    host.must(VIF, "offline");
    // What was there before the notes were lost, nobody knows.
    let left = host.dump();
    for part in ["xb-nat", "10.0.0.", "/run/"] {
        assert!(!left.contains(part), "{part}");
    }
    assert_ne!(before, "");
}

#[test]
fn what_cannot_be_forwarded_is_refused_and_nothing_is_changed() {
    let host = host("noforwards");
    host.tap("vif7.0", 7);
    let before = host.dump();
    for (ip, forwards, expected) in [
        (
            "10.0.0.5",
            "tcp any 8080 guest",
            "network/forwards = tcp any 8080 guest is not understood: write",
        ),
        (
            "10.0.0.5",
            "tcp any 80 10.0.0.6 80",
            "leads to none of the guest's addresses",
        ),
        (
            "10.0.0.0/24",
            "tcp any 80 guest 80",
            "leads to none of the guest's addresses",
        ),
        (
            "10.0.0.5",
            "icmp any 80 guest 80",
            "cannot be loaded: correct the policy",
        ),
        (
            "10.0.0.5",
            "tcp any 80800 guest 80",
            "cannot be loaded: correct the policy",
        ),
        (
            "10.0.0.5",
            "tcp any 80 guest 80} }",
            "is not understood: write",
        ),
    ] {
        host.keys(
            VIF,
            &[
                ("network/mode", "nat"),
                ("ip", ip),
                ("network/forwards", forwards),
            ],
        );
        let said = host.refused(VIF, "online");
        assert!(said.contains(expected), "{forwards}: {said}");
        host.is_as(&before);
    }
    host.sh("ip route delete default\nip -6 route delete default");
    let before = host.dump();
    host.keys(VIF, &[("network/mode", "nat"), ("ip", "10.0.0.5")]);
    let said = host.refused(VIF, "online");
    assert!(
        said.contains("this host has no default route: name one"),
        "{said}"
    );
    host.is_as(&before);
}
