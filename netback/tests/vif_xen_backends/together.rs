//! Many scripts at a time.

use std::process::{Child, Stdio};

use crate::host::{Host, Vif};
use crate::route::host;

const MANY: u16 = 20;

fn all(host: &Host, command: &str) {
    let start = |domid| {
        let mut script = host.script(Vif(domid), command);
        script.stderr(Stdio::piped()).spawn().unwrap()
    };
    let running: Vec<Child> = (1..=MANY).map(start).collect();
    for script in running {
        let output = script.wait_with_output().unwrap();
        assert!(output.status.success(), "{output:?}");
    }
}

#[test]
fn twenty_at_a_time_do_not_get_in_each_others_way() {
    for mode in ["bridge", "route", "nat"] {
        let host = host("together");
        host.sh(
            "ip link add br0 address 02:00:00:00:00:03 type bridge\nip link set br0 mtu 1400 up",
        );
        for domid in 1..=MANY {
            let ip = format!("10.0.0.{domid} fd00::{domid}");
            let keys = [("network/mode", mode), ("bridge", "br0"), ("ip", &ip)];
            host.vif(Vif(domid), &keys);
        }
        let before = host.dump();
        all(&host, "online");
        let (what, seen) = match mode {
            "bridge" => ("ports", host.sh("ls /sys/class/net/br0/brif")),
            "route" => ("entries", host.sh("ip neigh show proxy | grep 10.0.0.")),
            _ => ("tables", host.sh("nft list tables | grep xb-nat-")),
        };
        assert_eq!(seen.lines().count(), usize::from(MANY), "{what}: {seen}");
        all(&host, "offline");
        host.is_as(&before);
    }
}

#[test]
fn the_same_interface_twice_at_a_time_is_set_up_once() {
    let host = host("twice");
    let vif = Vif(7);
    host.vif(vif, &[("network/mode", "nat"), ("ip", "10.0.0.5")]);
    let before = host.dump();
    let start = |command| {
        let mut script = host.script(vif, command);
        script.stderr(Stdio::null()).spawn().unwrap()
    };
    let mut both = [start("online"), start("online")];
    assert!(
        both.iter_mut()
            .all(|script| script.wait().unwrap().success())
    );
    assert_eq!(host.sh("nft list tables").lines().count(), 1);
    let mut both = [start("offline"), start("offline")];
    assert!(
        both.iter_mut()
            .all(|script| script.wait().unwrap().success())
    );
    host.is_as(&before);
}
