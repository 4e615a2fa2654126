use crate::host::{Host, Vif};

const VIF: Vif = Vif(7);
const OTHER: Vif = Vif(8);

/// A host whose default route leads through `eth0`, 192.0.2.1.
pub(crate) fn host(name: &str) -> Host {
    let host = Host::new(name);
    host.sh("ip link add eth0 address 02:00:00:00:00:01 type bridge\n\
             echo 0 >/proc/sys/net/ipv6/conf/eth0/accept_dad\n\
             ip link set eth0 up\n\
             ip address add 192.0.2.1/24 dev eth0\n\
             ip address add 2001:db8::1/64 dev eth0 nodad\n\
             ip route add default via 192.0.2.254\n\
             ip -6 route add default via 2001:db8::ff dev eth0\n\
             echo 1 >/proc/sys/net/ipv6/conf/all/forwarding");
    host
}

const KEYS: [(&str, &str); 2] = [
    ("network/mode", "route"),
    ("ip", "192.0.2.7 198.51.100.0/28 2001:db8::7"),
];

#[test]
fn a_guest_is_routed_to_while_it_is_there() {
    let host = host("route");
    host.vif(VIF, &KEYS);
    let before = host.dump();
    for _ in 0..2 {
        host.must(VIF, "online");
        let routes = host.sh("ip route show dev vif7.0; ip -6 route show dev vif7.0");
        for route in ["192.0.2.7 ", "198.51.100.0/28 ", "2001:db8::7 "] {
            assert!(
                routes.lines().any(|line| line.starts_with(route)),
                "{routes}"
            );
        }
        let addresses = host.sh("ip -o address show dev vif7.0");
        // As vif-route does it: the host is itself, whichever way one looks at it.
        for address in ["inet 192.0.2.1/32 ", "inet6 fe80::1/64 "] {
            assert!(addresses.contains(address), "{addresses}");
        }
        assert_eq!(addresses.lines().count(), 2, "{addresses}");
        // For addresses, not for prefixes.
        let proxy = host.sh("ip neigh show proxy");
        let mut proxy: Vec<_> = proxy.lines().map(str::trim).collect();
        proxy.sort_unstable();
        assert_eq!(
            proxy,
            ["192.0.2.7 dev eth0 proxy", "2001:db8::7 dev eth0 proxy"]
        );
        for (switch, value) in [
            ("ipv4/conf/vif7.0/rp_filter", "1"),
            ("ipv4/conf/vif7.0/proxy_arp", "1"),
            ("ipv4/conf/vif7.0/forwarding", "1"),
            ("ipv4/conf/eth0/forwarding", "1"),
            ("ipv6/conf/eth0/proxy_ndp", "1"),
            ("ipv6/conf/vif7.0/accept_ra", "0"),
            // The rest of the host is no router because of a guest.
            ("ipv4/ip_forward", "0"),
        ] {
            assert_eq!(host.sysctl(switch), value, "{switch}");
        }
    }
    assert!(host.log().contains("net.ipv4.ip_forward is off"));
    for _ in 0..2 {
        host.must(VIF, "offline");
        host.is_as(&before);
    }
}

#[test]
fn an_interface_that_has_gone_leaves_nothing_at_the_uplink() {
    let host = host("routegone");
    let before = host.dump();
    host.vif(VIF, &KEYS);
    host.must(VIF, "online");
    host.sh("ip link delete vif7.0");
    host.must(VIF, "offline");
    host.is_as(&before);
}

#[test]
fn what_interfaces_share_stays_until_the_last_goes() {
    for last in [VIF, OTHER] {
        let host = host("shared");
        host.vif(VIF, &KEYS);
        host.vif(
            OTHER,
            &[("network/mode", "route"), ("ip", "192.0.2.8 2001:db8::8")],
        );
        let before = host.dump();
        for vif in [VIF, OTHER] {
            host.must(vif, "online");
        }
        let first = if last.0 == VIF.0 { OTHER } else { VIF };
        host.must(first, "offline");
        for switch in ["ipv4/conf/eth0/forwarding", "ipv6/conf/eth0/proxy_ndp"] {
            assert_eq!(host.sysctl(switch), "1", "{switch}");
        }
        host.must(last, "offline");
        host.is_as(&before);
    }
}

#[test]
fn a_guest_that_is_migrated_to_where_it_is_keeps_what_it_has() {
    for stays in [VIF, OTHER] {
        let host = host("migrated");
        for vif in [VIF, OTHER] {
            host.vif(vif, &KEYS);
        }
        let before = host.dump();
        host.must(VIF, "online");
        let alone = host.sh("ip route; ip -6 route; ip neigh show proxy");
        host.must(OTHER, "online");
        let goes = if stays.0 == VIF.0 { OTHER } else { VIF };
        host.must(goes, "offline");
        let routes = host.sh("ip route; ip -6 route; ip neigh show proxy");
        let sorted = |text: &str| {
            let mut lines: Vec<_> = text.lines().map(str::to_owned).collect();
            lines.sort();
            lines
        };
        // Whichever of the two it is, the guest is reached through the one that is left.
        assert_eq!(
            sorted(&routes.replace(&stays.name(), "VIF")),
            sorted(&alone.replace("vif7.0", "VIF"))
        );
        host.must(stays, "offline");
        host.is_as(&before);
    }
}

#[test]
fn a_host_that_is_made_a_router_meanwhile_stays_one() {
    let host = host("router");
    host.vif(VIF, &KEYS);
    host.must(VIF, "online");
    host.sh("echo 1 >/proc/sys/net/ipv4/ip_forward");
    host.must(VIF, "offline");
    assert_eq!(host.sysctl("ipv4/conf/eth0/forwarding"), "1");
}

#[test]
fn what_an_administrator_has_set_up_stays() {
    let host = host("administrator");
    host.sh(
        "ip neigh add proxy 192.0.2.7 dev eth0\necho 1 >/proc/sys/net/ipv6/conf/eth0/proxy_ndp",
    );
    host.vif(VIF, &KEYS);
    let before = host.dump();
    host.must(VIF, "online");
    host.must(VIF, "online");
    host.must(VIF, "offline");
    host.is_as(&before);
}

#[test]
fn the_policys_gateways_and_uplink_are_taken() {
    let host = host("gateways");
    host.sh("ip link add lan1 address 02:00:00:00:00:02 type bridge\nip link set lan1 up");
    host.vif(
        VIF,
        &[
            ("network/mode", "route"),
            ("ip", "10.0.0.5 fd00::5"),
            ("network/gateway", "10.0.0.1 fd00::1"),
            ("network/uplink", "lan1"),
        ],
    );
    let before = host.dump();
    host.must(VIF, "online");
    let addresses = host.sh("ip -o address show dev vif7.0");
    for address in [" 10.0.0.1/32 ", " fd00::1/128 ", " fe80::1/64 "] {
        assert!(addresses.contains(address), "{addresses}");
    }
    assert!(host.sh("ip neigh show proxy").contains("10.0.0.5 dev lan1"));
    host.must(VIF, "offline");
    host.is_as(&before);
}

#[test]
fn without_a_mode_the_vif_line_decides() {
    for (keys, routed) in [
        (vec![("bridge", "xenbr0"), ("ip", "192.0.2.7")], true),
        (vec![("ip", "192.0.2.7")], true),
        (vec![("bridge", "eth0"), ("ip", "192.0.2.7")], false),
    ] {
        let host = host("default");
        host.vif(VIF, &keys);
        host.must(VIF, "online");
        assert_eq!(host.link("vif7.0", "/master").is_null(), routed, "{keys:?}");
    }
    // libxl names xenbr0 when nobody has named a bridge: that may be a mistake as well.
    let host = host("nothing");
    host.vif(VIF, &[("bridge", "xenbr0")]);
    let said = host.refused(VIF, "online");
    assert!(said.contains("there is no bridge = xenbr0"), "{said}");
}

#[test]
fn without_an_uplink_only_the_host_is_reached() {
    let host = Host::new("lonely");
    host.vif(VIF, &[("network/mode", "route"), ("ip", "10.0.0.5")]);
    let before = host.dump();
    host.must(VIF, "online");
    assert!(host.sh("ip route").contains("10.0.0.5 dev vif7.0"));
    assert_eq!(host.sh("ip neigh show proxy"), "");
    host.must(VIF, "offline");
    host.is_as(&before);
}

#[test]
fn an_emulated_twin_is_no_second_way() {
    let host = host("twin");
    host.vif(VIF, &KEYS);
    host.tap("vif7.0-emu", 9);
    let before = host.dump();
    let output = host.run(VIF, "add");
    assert!(output.status.success(), "{output:?}");
    assert!(host.log().contains("vif7.0-emu is not connected"));
    host.must(VIF, "remove");
    host.is_as(&before);
}

#[test]
fn what_cannot_be_routed_is_refused_and_nothing_is_changed() {
    let host = host("norouting");
    host.tap("vif7.0", 7);
    host.sh(
        "ip link add lan1 address 02:00:00:00:00:02 type bridge\nip link set lan1 up\n\
             ip route add 203.0.113.0/24 dev lan1",
    );
    let before = host.dump();
    let route = ("network/mode", "route");
    for (keys, expected) in [
        (
            vec![route],
            "has no address to which mode = route could lead: set ip=",
        ),
        (
            vec![route, ("ip", "10.0.0.5;id")],
            "ip = 10.0.0.5;id is not understood",
        ),
        (
            vec![route, ("ip", "10.0.0.5/24")],
            "cannot be the way to ip = 10.0.0.5/24: correct ip=",
        ),
        (
            vec![route, ("ip", "10.0.0.5 0.0.0.0/0")],
            "ip = 0.0.0.0/0 is the whole world",
        ),
        (vec![route, ("ip", "10.0.0.5 fe::f::")], "ip = fe::f::"),
        (
            vec![route, ("ip", "203.0.113.0/24")],
            "ip = 203.0.113.0/24 is reached through lan1 already",
        ),
        (
            vec![route, ("ip", "10.0.0.5"), ("network/uplink", "eth7")],
            "there is no uplink eth7",
        ),
        (
            vec![route, ("ip", "10.0.0.5"), ("network/gateway", "10.0.0.1.2")],
            "vif7.0 does not take the address 10.0.0.1.2/32: correct the gateway",
        ),
        (
            vec![route, ("ip", "10.0.0.5 10.1")],
            "ip = 10.1 is no address",
        ),
        (
            vec![route, ("ip", "10.0.0.5"), ("network/gateway", "`id`")],
            "network/gateway = `id` is not understood",
        ),
    ] {
        host.keys(VIF, &keys);
        let said = host.refused(VIF, "online");
        assert!(said.contains(expected), "{keys:?}: {said}");
        host.is_as(&before);
    }
    host.sh("echo 0 >/proc/sys/net/ipv6/conf/all/forwarding");
    let before = host.dump();
    host.keys(VIF, &[route, ("ip", "10.0.0.5 fd00::5")]);
    let said = host.refused(VIF, "online");
    assert!(
        said.contains("net.ipv6.conf.all.forwarding is off: set it to 1"),
        "{said}"
    );
    host.is_as(&before);
}
