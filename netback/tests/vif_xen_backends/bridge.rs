use crate::host::{Host, Vif};

const VIF: Vif = Vif(7);

fn host(name: &str) -> Host {
    let host = Host::new(name);
    host.sh("ip link add br0 address 02:00:00:00:00:01 type bridge\n\
             ip link set br0 mtu 9000 up");
    host
}

#[test]
fn net_23_an_interface_is_a_port_without_addresses_while_it_is_there() {
    let host = host("bridge");
    host.vif(VIF, &[("bridge", "br0"), ("ip", "10.0.0.5 fd00::5")]);
    let before = host.dump();
    for _ in 0..2 {
        host.must(VIF, "online");
        assert_eq!(host.link("vif7.0", "/master"), "br0");
        assert_eq!(host.link("vif7.0", "/mtu"), 9000);
        assert_eq!(host.link("br0", "/mtu"), 9000);
        let flags = host.link("vif7.0", "/flags").to_string();
        assert!(flags.contains("\"UP\""), "{flags}");
        assert_eq!(host.link("vif7.0", "/addr_info"), serde_json::json!([]));
        for (switch, value) in [
            ("addr_gen_mode", "1"),
            ("accept_ra", "0"),
            ("autoconf", "0"),
            ("disable_ipv6", "1"),
        ] {
            assert_eq!(
                host.sysctl(&format!("ipv6/conf/vif7.0/{switch}")),
                value,
                "{switch}"
            );
        }
        let told = host.read("/local/domain/7/device/vif/0/mtu");
        assert_eq!(told.as_deref(), Some("9000"));
    }
    for _ in 0..2 {
        host.must(VIF, "offline");
        host.is_as(&before);
    }
}

#[test]
fn the_mtu_of_the_vif_line_is_kept() {
    let host = host("mtu");
    host.vif(VIF, &[("bridge", "br0"), ("mtu", "1400")]);
    host.must(VIF, "online");
    assert_eq!(host.link("vif7.0", "/mtu"), 1400);
    let told = host.read("/local/domain/7/device/vif/0/mtu");
    assert_eq!(told.as_deref(), Some("1400"));
}

#[test]
fn an_interface_that_moves_to_another_bridge_leaves_nothing_behind() {
    let host = host("moves");
    host.sh("ip link add br1 address 02:00:00:00:00:02 type bridge");
    host.vif(VIF, &[("bridge", "br0")]);
    let before = host.dump();
    host.must(VIF, "online");
    host.keys(VIF, &[("bridge", "br1")]);
    host.must(VIF, "online");
    assert_eq!(host.link("vif7.0", "/master"), "br1");
    assert_eq!(host.link("vif7.0", "/mtu"), 1500);
    host.must(VIF, "offline");
    host.is_as(&before);
}

#[test]
fn an_interface_or_a_bridge_that_has_gone_needs_no_more_than_the_notes_to_go() {
    let host = host("gone");
    let before = host.dump();
    host.vif(VIF, &[("bridge", "br0")]);
    host.must(VIF, "online");
    host.sh("ip link delete vif7.0");
    host.must(VIF, "offline");
    host.is_as(&before);
    host.vif(VIF, &[("bridge", "br0")]);
    host.must(VIF, "online");
    host.sh("ip link delete br0");
    host.must(VIF, "offline");
    assert!(!host.dump().contains("/run/"));
}

#[test]
fn the_emulated_twin_is_a_port_as_well() {
    let host = host("emulated");
    host.vif(VIF, &[("bridge", "br0")]);
    host.sh("ip tuntap add vif7.0-emu mode tap\nip link set vif7.0-emu address 02:00:00:00:00:09");
    let before = host.dump();
    host.must(VIF, "online");
    host.must(VIF, "add");
    assert_eq!(host.link("vif7.0-emu", "/master"), "br0");
    assert_eq!(host.link("vif7.0-emu", "/address"), "fe:ff:ff:ff:ff:ff");
    assert_eq!(host.link("br0", "/address"), "02:00:00:00:00:01");
    host.must(VIF, "remove");
    host.must(VIF, "offline");
    host.is_as(&before);
}

#[test]
fn what_is_no_bridge_is_refused_and_nothing_is_changed() {
    let host = host("nobridge");
    host.tap("vif7.0", 7);
    let before = host.dump();
    for (keys, expected) in [
        (
            vec![("bridge", "br7")],
            "there is no bridge = br7: create it",
        ),
        (vec![("bridge", "lo")], "bridge = lo is no Linux bridge"),
        (vec![("bridge", "br0;reboot")], "no name of a bridge"),
        (vec![("bridge", "a234567890123456")], "no name of a bridge"),
        (
            vec![("bridge", "br0"), ("mtu", "1e3")],
            "mtu = 1e3 is not understood: write a number",
        ),
        (
            vec![("bridge", "br0"), ("mtu", "99999")],
            "vif7.0 does not take mtu = 99999",
        ),
        (
            vec![("bridge", "br0"), ("network/mode", "hub")],
            "network/mode = hub is unknown: the modes are bridge, route and nat",
        ),
        (
            vec![("bridge", "br0"), ("xen-backends-error", "no such MAC")],
            "no such MAC",
        ),
    ] {
        host.keys(VIF, &keys);
        let said = host.refused(VIF, "online");
        assert!(said.contains(expected), "{keys:?}: {said}");
        host.is_as(&before);
    }
}
