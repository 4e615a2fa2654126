//! Ports of a bridge of this kernel.

use super::frames::*;
use super::kernel::{bridged, received};
use super::live::{ip, send};
use super::*;
use crate::enforce::{PortError, guard_port};
use crate::tap::tests::in_own_network;
use crate::tap::{Tap, TapQueue};

fn bridge(arguments: &str) -> String {
    let output = std::process::Command::new("bridge")
        .args(arguments.split_whitespace())
        .output()
        .unwrap();
    String::from_utf8([output.stdout, output.stderr].concat()).unwrap()
}

#[test]
fn net_15_net_26_the_port_of_a_locked_guest() {
    bridged(|vif, peer| {
        let mut policy = locked();
        policy.isolated = true;
        policy.multicast_flood = false;
        guard_port(&name(), &policy, None).unwrap();
        let shown = bridge("-d link show dev vif7.0");
        for flag in [
            "hairpin off",
            "guard on",
            "root_block on",
            "learning off",
            "mcast_flood off",
            "isolated on",
            "locked on",
        ] {
            assert!(shown.contains(flag), "{flag}: {shown}");
        }
        let entries = bridge("fdb show brport vif7.0");
        let own = entries
            .lines()
            .find(|line| line.starts_with("00:16:3e:00:00:01 "));
        let own = own.unwrap();
        assert!(
            own.contains("sticky") && own.contains("static"),
            "{entries}"
        );
        // Nobody else gets what is for the guest by saying that he is it.
        let udp = ports(1000, 2000, &[0; 8]);
        let stolen = ethernet(OTHER.0, MAC.0, IP4, &ip4(OWN4, PEER4, 17, &udp));
        send(peer, &stolen);
        assert_eq!(bridge("fdb show brport vif7.0"), entries);
        let to_guest = ethernet(MAC.0, OTHER.0, IP4, &ip4(PEER4, OWN4, 17, &udp));
        send(peer, &to_guest);
        assert!(received(vif).contains(&to_guest));
        // The port lets its own address through, and no other, without any other rules.
        let own = ethernet(OTHER.0, MAC.0, IP4, &ip4(OWN4, PEER4, 17, &udp));
        let spoofed = ethernet(OTHER.0, [2, 0, 0, 0, 0, 9], IP4, &own[14..]);
        send(vif, &own);
        send(vif, &spoofed);
        let seen = received(peer);
        assert!(
            seen.contains(&own) && !seen.contains(&spoofed),
            "{seen:02x?}"
        );
        // Another address, and then none.
        policy.mac = Mac([0x00, 0x16, 0x3e, 0, 0, 9]);
        guard_port(&name(), &policy, Some(&locked())).unwrap();
        let entries = bridge("fdb show brport vif7.0");
        assert!(!entries.contains("00:16:3e:00:00:01"), "{entries}");
        assert!(entries.contains("00:16:3e:00:00:09"), "{entries}");
        let open = VifPolicy::open(MAC);
        guard_port(&name(), &open, Some(&policy)).unwrap();
        let shown = bridge("-d link show dev vif7.0");
        for flag in [
            "learning on",
            "isolated off",
            "locked off",
            "guard off",
            "mcast_flood on",
        ] {
            assert!(shown.contains(flag), "{flag}: {shown}");
        }
        assert!(!bridge("fdb show brport vif7.0").contains("static"));
    });
}

#[test]
fn flags_that_nobody_speaks_of_stay() {
    bridged(|_, _| {
        bridge("link set dev vif7.0 isolated on learning off");
        let open = VifPolicy::open(MAC);
        guard_port(&name(), &open, None).unwrap();
        guard_port(&name(), &open, Some(&open)).unwrap();
        let shown = bridge("-d link show dev vif7.0");
        assert!(
            shown.contains("isolated on") && shown.contains("learning off"),
            "{shown}"
        );
    });
}

#[test]
fn net_19_vlans_need_a_bridge_that_tells_them_apart() {
    bridged(|_, _| {
        for vlan in [
            Vlan::Access(5),
            Vlan::Trunk {
                tags: vec![5],
                native: None,
            },
        ] {
            let mut policy = locked();
            policy.vlan = vlan;
            let error = guard_port(&name(), &policy, None).unwrap_err();
            let remedy = "ip link set br0 type bridge vlan_filtering 1";
            assert!(error.to_string().contains(remedy), "{error}");
        }
    });
}

#[test]
fn what_needs_a_bridge_is_an_error_elsewhere() {
    in_own_network(|| {
        let tap = Tap::create(&name(), 1500, 500).unwrap();
        guard_port(&name(), &locked(), None).unwrap();
        let mut policy = locked();
        policy.vlan = Vlan::Access(5);
        let error = guard_port(&name(), &policy, None).unwrap_err();
        assert!(
            matches!(error, PortError::NoBridge { what: "vlan", .. }),
            "{error}"
        );
        assert!(
            error.to_string().contains("vif7.0 is no port of a bridge"),
            "{error}"
        );
        drop(TapQueue::adopt(tap.queue().unwrap()));
        tap.remove().unwrap();
        let gone = guard_port(&name(), &locked(), None).unwrap_err();
        assert!(matches!(gone, PortError::Refused { .. }), "{gone}");
        ip("link show lo");
    });
}
