//! Policies between two guests that talk: flows, and VLANs of bridge ports.

use std::time::Duration;

use anyhow::ensure;

use super::TENANT;
use super::stage::{Stage, write_config};
use crate::realxen::dom0::Dom0;
use crate::realxen::scenario::Scenario;

pub(super) const FLOWS: Scenario = Scenario {
    name: "policy-flows",
    about: "stateful rules let answers in, nothing else, and a reload judges live flows anew",
    holds_for_kernel: false,
    run: |dom0| {
        let stage = Stage::set(dom0, TENANT)?;
        govern(dom0, &with_rules(7000))?;
        stage.address(dom0)?;
        for port in [7000, 7001] {
            stage.neighbour.sh(dom0, &listener(port), LIMIT)?;
        }
        ensure!(
            asks(dom0, &stage, 7000)?,
            "no answer from the port that is allowed\n{}",
            stage.told(dom0)?
        );
        ensure!(
            !asks(dom0, &stage, 7001)?,
            "a port that is not allowed answers"
        );
        ensure!(
            !is_asked(dom0, &stage)?,
            "the neighbour gets in, which no rule allows"
        );

        stage.attacker.sh(dom0, TALK, LIMIT)?;
        ensure!(says(dom0, &stage, "one")?, "the flow does not live");
        govern(dom0, &with_rules(7002))?;
        ensure!(
            !says(dom0, &stage, "two")?,
            "a flow that no rule allows any more lives on"
        );
        govern(dom0, &with_rules(7000))?;
        // What was lost is sent again.
        ensure!(says(dom0, &stage, "two")?, "the flow was ended, not held");
        stage.attacker.sh(dom0, "kill $(cat /run/talk)", LIMIT)?;
        stage.no_address(dom0)?;
        govern(dom0, TENANT)
    },
};

pub(super) const HOST: Scenario = Scenario {
    name: "policy-host",
    about: "stateful rules hold between a guest and the host on its bridge, both ways",
    holds_for_kernel: false,
    run: |dom0| {
        let stage = Stage::set(dom0, TENANT)?;
        stage.address(dom0)?;
        dom0.sh("ip address replace 10.80.0.1/24 dev lanp")?;
        for port in [7000, 7001] {
            dom0.sh(&listener(port))?;
        }
        govern(dom0, &with_rules_to("10.80.0.1", 7000))?;
        for (port, answers) in [(7000, true), (7001, false)] {
            let ask = format!("{}:{port}", "10.80.0.1");
            let said = stage.attacker.run(dom0, &question(&ask), LIMIT)?;
            ensure!(
                (said.stdout.trim() == "hello") == answers,
                "{ask}: {}\n{}",
                said.last_words(),
                stage.told(dom0)?
            );
        }
        stage.attacker.sh(dom0, &listener(7000), LIMIT)?;
        let said = dom0.run(&question("10.80.0.11:7000"), LIMIT)?;
        ensure!(
            said.stdout.trim() != "hello",
            "the host gets in, which no rule allows"
        );
        dom0.sh("ip address del 10.80.0.1/24 dev lanp")?;
        stage.no_address(dom0)?;
        govern(dom0, TENANT)
    },
};

pub(super) const VLANS: Scenario = Scenario {
    name: "policy-vlans",
    about: "guests of one bridge reach each other in the same VLAN, and not across VLANs",
    holds_for_kernel: false,
    run: |dom0| {
        let stage = Stage::set(dom0, TENANT)?;
        dom0.sh("ip link set lanp type bridge vlan_filtering 1")?;
        stage.address(dom0)?;
        for (own, beside) in [(10, 20), (10, 10), (20, 10), (20, 20)] {
            govern(dom0, &in_vlans(own, beside))?;
            let ping = stage.attacker.run(dom0, PING, LIMIT)?;
            ensure!(
                (ping.status == 0) == (own == beside),
                "from VLAN {own} to VLAN {beside}: {}\n{}",
                ping.last_words(),
                dom0.sh("bridge vlan show")?
            );
        }
        govern(dom0, TENANT)?;
        stage.no_address(dom0)?;
        dom0.sh("ip link set lanp type bridge vlan_filtering 0")
            .map(drop)
    },
};

const LIMIT: Duration = Duration::from_secs(60);

const PING: &str = "ip neighbour flush all; ping -c 3 -W 2 10.80.0.12";

/// Opens a flow that says what is written to a file, and writes what it hears to another one.
const TALK: &str = "rm -f /run/say /run/said /run/heard; mkfifo /run/say
setsid sh -c 'exec 3<>/run/say; exec socat -t 600 - TCP4:10.80.0.12:7000 <&3 >/run/heard' < /dev/null 2> /run/talk.log &
echo $! > /run/talk";

/// The attacker may open flows to that port of the neighbour, and nobody may open any to it.
fn with_rules(port: u16) -> String {
    with_rules_to("10.80.0.12", port)
}

fn with_rules_to(remote: &str, port: u16) -> String {
    format!(
        r#"
[[policy]]
name = "tenant"
match = {{ mac = "00:16:3e:80:00:11", bridge = "lanp" }}
profile = "locked"
ipv4 = "10.80.0.11"
default-out = "drop"
default-in = "drop"

[[policy.rule]]
direction = "out"
protocol = "tcp"
remote = "{remote}"
ports = {port}
action = "accept"
"#
    )
}

/// A script that repeats what is said to it at a port.
fn listener(port: u16) -> String {
    format!(
        "setsid socat TCP4-LISTEN:{port},fork,reuseaddr SYSTEM:cat < /dev/null > /dev/null 2>&1 &\n\
         for _ in $(seq 100); do grep -q ':{port:04X} ' /proc/net/tcp && exit; sleep 0.1; done; exit 1"
    )
}

/// A script that prints what an address repeats, if it does.
fn question(address: &str) -> String {
    format!("echo hello | socat -t 10 - TCP4:{address},connect-timeout=6 2>&1")
}

fn in_vlans(own: u16, beside: u16) -> String {
    let policy = |name: &str, mac: u8, vlan: u16| {
        format!(
            r#"
[[policy]]
name = "{name}"
match = {{ mac = "00:16:3e:80:00:{mac}", bridge = "lanp" }}
profile = "locked"
ipv4 = "10.80.0.{mac}"
vlan = {{ access = {vlan} }}
"#
        )
    };
    policy("own", 11, own) + &policy("beside", 12, beside)
}

/// Puts another configuration in force.
fn govern(dom0: &mut Dom0, config: &str) -> anyhow::Result<()> {
    write_config(dom0, config)?;
    dom0.sh("xen-netback policy reload").map(drop)
}

/// Whether that port of the neighbour answers the attacker.
fn asks(dom0: &mut Dom0, stage: &Stage, port: u16) -> anyhow::Result<bool> {
    let ask = question(&format!("10.80.0.12:{port}"));
    Ok(stage.attacker.run(dom0, &ask, LIMIT)?.stdout.trim() == "hello")
}

/// Whether the neighbour can open a flow to the attacker.
fn is_asked(dom0: &mut Dom0, stage: &Stage) -> anyhow::Result<bool> {
    stage.attacker.sh(dom0, &listener(7000), LIMIT)?;
    let ask = question("10.80.0.11:7000");
    Ok(stage.neighbour.run(dom0, &ask, LIMIT)?.stdout.trim() == "hello")
}

/// Whether what the attacker says comes back, within the time of a few retransmissions.
fn says(dom0: &mut Dom0, stage: &Stage, word: &str) -> anyhow::Result<bool> {
    let script = format!(
        "grep -q {word} /run/said 2> /dev/null || {{ echo {word} > /run/say; echo {word} >> /run/said; }}\n\
         for _ in $(seq 100); do grep -q {word} /run/heard && exit; sleep 0.1; done; exit 7"
    );
    let said = stage.attacker.run(dom0, &script, LIMIT)?;
    ensure!([0, 7].contains(&said.status), "{}", said.last_words());
    Ok(said.status == 0)
}
