//! Every single command of a script fails once, or is the last that it runs.

use crate::host::{Host, Vif};
use crate::route::host;

const VIF: Vif = Vif(7);

const MODES: [&[(&str, &str)]; 3] = [
    &[("bridge", "br0"), ("vifname", "web0")],
    &[("network/mode", "route"), ("ip", "192.0.2.7 2001:db8::7")],
    &[
        ("network/mode", "nat"),
        ("ip", "10.0.0.5 fd00::5"),
        ("network/forwards", "tcp any 80 guest 80"),
    ],
];

/// Makes the `at`th call of a command that changes anything do something else.
fn trap(host: &Host, at: usize, action: &str) {
    let count = host.file("count");
    std::fs::write(&count, "0").unwrap();
    let count = count.display();
    for (tool, path) in [("ip", "/sbin/ip"), ("nft", "/sbin/nft")] {
        host.tool(
            tool,
            &format!(
                "case \" $* \" in *' show '*) exec {path} \"$@\" ;; esac\n\
                 n=$(($(cat {count}) + 1)); echo $n >{count}\n\
                 [ $n != {at} ] || {{ {action}; }}\n\
                 exec {path} \"$@\""
            ),
        );
    }
}

fn release(host: &Host) -> usize {
    for tool in ["ip", "nft"] {
        host.remove_tool(tool);
    }
    let count = std::fs::read_to_string(host.file("count")).unwrap();
    count.trim().parse().unwrap()
}

fn ready(name: &str, keys: &[(&str, &str)]) -> Host {
    let host = host(name);
    host.sh("ip link add br0 address 02:00:00:00:00:03 type bridge\nip link set br0 mtu 1400 up");
    host.tap("vif7.0", 7);
    host.keys(VIF, keys);
    host
}

#[test]
fn a_failure_in_the_middle_takes_back_what_was_done() {
    for keys in MODES {
        let host = ready("fails", keys);
        let before = host.dump();
        let mut failed = 0;
        loop {
            trap(&host, failed + 1, "echo 'it is broken' >&2; exit 2");
            let output = host.run(VIF, "online");
            let calls = release(&host);
            if output.status.success() {
                assert_eq!(calls, failed, "all of them have failed once");
                break;
            }
            failed += 1;
            let said = host.key(VIF, "hotplug-error").unwrap();
            assert!(said.contains("it is broken"), "{said}");
            assert_eq!(host.key(VIF, "hotplug-status").as_deref(), Some("error"));
            host.is_as(&before);
            host.keys(VIF, keys);
        }
        assert!(failed >= 4, "{failed} commands");
        host.must(VIF, "offline");
        host.is_as(&before);
    }
}

#[test]
fn a_script_that_is_killed_is_taken_back_by_the_next() {
    for keys in MODES {
        let host = ready("killed", keys);
        let before = host.dump();
        for at in 1.. {
            trap(&host, at, "kill -9 0");
            let output = host.run(VIF, "online");
            release(&host);
            if output.status.success() {
                break;
            }
            assert_eq!(output.status.code(), None, "{output:?}");
            // What is killed next is its removal.
            trap(&host, 1, "kill -9 0");
            host.run(VIF, "offline");
            release(&host);
            host.must(VIF, "offline");
            host.is_as(&before);
        }
        host.must(VIF, "offline");
        host.is_as(&before);
    }
}

#[test]
fn what_cannot_be_taken_back_now_is_taken_back_later() {
    let host = ready("later", MODES[2]);
    let before = host.dump();
    host.must(VIF, "online");
    host.tool("nft", "echo busy >&2; exit 1");
    let output = host.run(VIF, "offline");
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(host.log().contains("busy"), "{}", host.log());
    host.remove_tool("nft");
    host.must(VIF, "offline");
    host.is_as(&before);
}

#[test]
fn a_tool_that_is_missing_is_named_with_its_package() {
    let host = ready("tools", MODES[2]);
    let before = host.dump();
    let nft = host.sh("command -v nft").trim().to_owned();
    host.sh(&format!("mount --bind /dev/null {nft}"));
    let said = host.refused(VIF, "online");
    host.sh(&format!("umount {nft}"));
    assert!(
        said.contains("there is no nft: install the package nftables"),
        "{said}"
    );
    host.is_as(&before);
}
