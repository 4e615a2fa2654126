use super::kernel::Kernel;
use super::script::{Rules, replace};
use super::shared::Surroundings;
use crate::policy::{Action, Dhcp, Direction, Mac, PortRange, Protocol, Rule, VifPolicy, Vlan};
use crate::tap::TapName;

mod flows;
mod frames;
mod kernel;
mod live;
mod merge;
mod own_host;
mod ports;
mod text;

const MAC: Mac = Mac([0x00, 0x16, 0x3e, 0, 0, 1]);
const OTHER: Mac = Mac([0x00, 0x16, 0x3e, 0, 0, 2]);

fn name() -> TapName {
    TapName::of_vif(7, 0).unwrap()
}

fn rule(direction: Direction, protocol: Protocol, remote: &[&str], ports: &[(u16, u16)]) -> Rule {
    let range = |&(first, last): &(u16, u16)| PortRange { first, last };
    Rule {
        direction,
        protocol,
        remote: remote.iter().map(|text| text.parse().unwrap()).collect(),
        ports: ports.iter().map(range).collect(),
        source_ports: Vec::new(),
        action: Action::Accept,
        stateful: false,
        limit: None,
        log: false,
    }
}

fn locked() -> VifPolicy {
    let own = ["192.0.2.7", "2001:db8::7"];
    VifPolicy::locked(MAC, own.iter().map(|text| text.parse().unwrap()).collect())
}

/// The whole script for an interface that has nothing yet.
fn script(policy: &VifPolicy) -> String {
    let rules = Rules::of(&name(), policy);
    replace(
        &name(),
        policy,
        &rules,
        &Vec::new(),
        &Surroundings::default(),
    )
}

/// Policies of every shape that there is.
fn shapes() -> Vec<(&'static str, VifPolicy)> {
    let stateful = |mut policy: VifPolicy| {
        policy.mac_guard = true;
        let mut web = rule(Direction::In, Protocol::Tcp, &[], &[(80, 80), (443, 443)]);
        web.stateful = true;
        let mut out = rule(Direction::Out, Protocol::Any, &[], &[]);
        out.stateful = true;
        out.limit = Some(100);
        out.log = true;
        policy.rules = vec![web, out, rule(Direction::In, Protocol::Icmp, &[], &[])];
        policy.default_in = Action::Reject;
        policy.default_out = Action::Reject;
        policy
    };
    let with = |change: &dyn Fn(&mut VifPolicy)| {
        let mut policy = locked();
        change(&mut policy);
        policy
    };
    let trunk = |native| Vlan::Trunk {
        tags: vec![5, 6],
        native,
    };
    vec![
        ("open", VifPolicy::open(MAC)),
        ("locked", locked()),
        ("nobody", VifPolicy::locked(MAC, Vec::new())),
        ("server", with(&|p| p.dhcp = Dhcp::Server)),
        ("no dhcp", with(&|p| p.dhcp = Dhcp::Off)),
        ("any dhcp", with(&|p| p.dhcp = Dhcp::Any)),
        (
            "servers",
            with(&|p| {
                p.dhcp_servers = vec!["192.0.2.1".parse().unwrap(), "fe80::1".parse().unwrap()];
            }),
        ),
        ("rarp", with(&|p| p.rarp = true)),
        ("any type", with(&|p| p.ip_only = false)),
        ("no mac", with(&|p| p.mac_guard = false)),
        ("any tag", with(&|p| p.vlan = Vlan::Any)),
        ("access", with(&|p| p.vlan = Vlan::Access(5))),
        ("trunk", with(&|p| p.vlan = trunk(None))),
        ("native", with(&|p| p.vlan = trunk(Some(5)))),
        (
            "no trunk",
            with(&|p| {
                p.vlan = Vlan::Trunk {
                    tags: Vec::new(),
                    native: None,
                };
            }),
        ),
        (
            "link-local",
            with(&|p| {
                if let Some(addresses) = &mut p.addresses {
                    addresses.any_link_local = true;
                    addresses.own.push("fe80::/16".parse().unwrap());
                    addresses.own.push("10.0.0.0/8".parse().unwrap());
                }
            }),
        ),
        (
            "everything",
            with(&|p| {
                if let Some(addresses) = &mut p.addresses {
                    addresses.own = vec!["0.0.0.0/0".parse().unwrap(), "::/0".parse().unwrap()];
                }
            }),
        ),
        (
            "limits",
            with(&|p| {
                p.limit_out.bytes = 1_000_000;
                p.limit_out.packets = u32::MAX;
                p.limit_out.burst = u64::MAX;
                p.storm = Some(u32::MAX);
            }),
        ),
        ("fast", with(&|p| p.limit_out.bytes = u64::MAX)),
        ("quiet", with(&|p| p.storm = Some(0))),
        (
            "reject",
            with(&|p| {
                p.default_out = Action::Reject;
                p.default_in = Action::Reject;
            }),
        ),
        ("rules", with(&|p| p.rules = merge::many())),
        (
            "host",
            with(&|p| {
                use crate::policy::HostService::{Dhcp, Dns, Http, Ping};
                p.host = Some(vec![Dhcp, Dns, Ping, Http]);
            }),
        ),
        ("nothing of the host", with(&|p| p.host = Some(Vec::new()))),
        ("stateful", stateful(locked())),
        ("only stateful", stateful(VifPolicy::open(MAC))),
        ("stateful, host", {
            let mut policy = stateful(locked());
            policy.host = Some(Vec::new());
            policy
        }),
    ]
}
