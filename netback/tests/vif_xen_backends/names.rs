//! What interfaces are called, and how the script is called.

use std::time::{Duration, Instant};

use crate::host::{Host, Vif};

const VIF: Vif = Vif(7);

fn host(name: &str) -> Host {
    let host = Host::new(name);
    host.sh("ip link add br0 address 02:00:00:00:00:01 type bridge");
    host
}

#[test]
fn an_interface_that_has_its_own_name_already_keeps_it() {
    let host = host("named");
    host.vif(VIF, &[("bridge", "br0"), ("vifname", "web0")]);
    let before = host.dump();
    for _ in 0..2 {
        host.must(VIF, "online");
        assert_eq!(host.link("web0", "/master"), "br0");
    }
    host.must(VIF, "offline");
    host.is_as(&before);
}

#[test]
fn an_interface_that_has_it_not_is_renamed_as_stock_scripts_do_it() {
    let host = host("renamed");
    host.tap("vif7.0", 7);
    host.keys(VIF, &[("bridge", "br0"), ("vifname", "web0")]);
    let before = host.dump();
    for _ in 0..2 {
        host.must(VIF, "online");
        assert_eq!(host.link("web0", "/master"), "br0");
    }
    host.must(VIF, "offline");
    host.is_as(&before);
}

#[test]
fn net_25_another_interface_of_that_name_is_left_alone() {
    let host = host("foreign");
    host.tap("vif7.0", 7);
    host.tap("web0", 8);
    let before = host.dump();
    for (name, expected) in [
        ("web0", "vifname = web0 is the name of another interface"),
        ("br0", "vifname = br0 is the name of another interface"),
        ("a b", "vifname = a b is no name"),
        ("..", "vifname = .. is no name"),
    ] {
        host.keys(VIF, &[("bridge", "br0"), ("vifname", name)]);
        let said = host.refused(VIF, "online");
        assert!(said.contains(expected), "{name}: {said}");
        host.is_as(&before);
    }
}

#[test]
fn an_interface_that_is_not_there_is_missed() {
    let host = host("missing");
    host.keys(VIF, &[("bridge", "br0")]);
    let said = host.refused(VIF, "online");
    assert!(
        said.contains("there is no interface vif7.0: start xen-netback"),
        "{said}"
    );
    let said = host.refused(VIF, "add");
    assert!(
        said.contains("there is no emulated interface vif7.0-emu"),
        "{said}"
    );
}

#[test]
fn an_interface_that_xenstore_has_no_more_is_not_brought_back() {
    let host = host("removed");
    host.tap("vif7.0", 7);
    let before = host.dump();
    let output = host.run(VIF, "online");
    assert_eq!(output.status.code(), Some(1));
    assert!(!host.file("nodes").exists(), "something was written");
    host.is_as(&before);
    host.must(VIF, "offline");
}

#[test]
fn wrong_use_is_refused() {
    let host = host("use");
    host.vif(VIF, &[("bridge", "br0")]);
    for command in ["", "on", "type_if=vif"] {
        assert_eq!(host.run(VIF, command).status.code(), Some(1), "{command}");
    }
    for (variable, said) in [("XENBUS_PATH", "XENBUS_PATH"), ("vif", "no name")] {
        let mut script = host.script(VIF, "online");
        let output = script.env_remove(variable).output().unwrap();
        assert_eq!(output.status.code(), Some(1));
        assert!(
            String::from_utf8_lossy(&output.stderr).contains(said),
            "{output:?}"
        );
    }
    assert!(host.link("vif7.0", "/master").is_null());
}

#[test]
fn a_xenstore_that_does_not_answer_does_not_hang_the_toolstack() {
    let host = host("hang");
    host.vif(VIF, &[("bridge", "br0")]);
    host.tool("xenstore-read", "while :; do sleep 60 || exit; done");
    let begun = Instant::now();
    assert_eq!(host.run(VIF, "online").status.code(), Some(1));
    assert!(
        begun.elapsed() < Duration::from_secs(30),
        "libxl waits 40 s"
    );
}

#[test]
fn a_xenstore_that_cannot_be_written_leaves_nothing_behind() {
    let host = host("readonly");
    host.vif(VIF, &[("bridge", "br0")]);
    let before = host.dump();
    host.tool("xenstore-write", "exit 1");
    let output = host.run(VIF, "online");
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("xenstore cannot be written"));
    host.is_as(&before);
}
