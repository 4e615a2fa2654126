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
        listen(dom0, &stage, 7000)?;
        listen(dom0, &stage, 7001)?;
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
remote = "10.80.0.12"
ports = {port}
action = "accept"
"#
    )
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

/// Has the neighbour repeat what is said to it at a port.
fn listen(dom0: &mut Dom0, stage: &Stage, port: u16) -> anyhow::Result<()> {
    let hex = format!("{port:04X}");
    let script = format!(
        "setsid socat TCP4-LISTEN:{port},fork,reuseaddr SYSTEM:cat < /dev/null > /dev/null 2>&1 &\n\
         for _ in $(seq 100); do grep -q ':{hex} ' /proc/net/tcp && exit; sleep 0.1; done; exit 1"
    );
    stage.neighbour.sh(dom0, &script, LIMIT).map(drop)
}

/// Whether that port answers the attacker.
fn asks(dom0: &mut Dom0, stage: &Stage, port: u16) -> anyhow::Result<bool> {
    let script =
        format!("echo hello | socat -t 10 - TCP4:10.80.0.12:{port},connect-timeout=6 2>&1");
    let said = stage.attacker.run(dom0, &script, LIMIT)?;
    Ok(said.stdout.trim() == "hello")
}

/// Whether the neighbour can open a flow to the attacker.
fn is_asked(dom0: &mut Dom0, stage: &Stage) -> anyhow::Result<bool> {
    let listen =
        "setsid socat TCP4-LISTEN:7000,fork,reuseaddr SYSTEM:cat < /dev/null > /dev/null 2>&1 &
         for _ in $(seq 100); do grep -q ':1B58 ' /proc/net/tcp && exit; sleep 0.1; done; exit 1";
    stage.attacker.sh(dom0, listen, LIMIT)?;
    let ask = "echo hello | socat -t 10 - TCP4:10.80.0.11:7000,connect-timeout=6 2>&1";
    Ok(stage.neighbour.run(dom0, ask, LIMIT)?.stdout.trim() == "hello")
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
