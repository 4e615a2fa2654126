//! Policies against a hostile guest: the whole list of spoofed frames is sent, and its neighbour and
//! those outside see only what is allowed.
//!
//! The scenarios share their guests; the first one makes them, and the last one ends them.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use anyhow::{Context, bail, ensure};

use crate::realxen::backend::{Backend, Devices};
use crate::realxen::dom0::Dom0;
use crate::realxen::scenario::Scenario;
use crate::spoof::{Expect, Site, Spoof, Station, matrix};
use stage::{Stage, write_config};

mod between;
mod stage;

/// All of them but [`RECONNECTS`], in this order.
pub(super) const ALL: &[Scenario] = &[
    STEADY,
    RELOADS,
    between::FLOWS,
    between::HOST,
    between::VLANS,
    DEAD_BROKER,
    DEAD_WORKER,
];

const STEADY: Scenario = Scenario {
    name: "policy-spoofs",
    about: "of 687 frames, those that a tenant may send reach its neighbour and the outside, no other",
    holds_for_kernel: false,
    run: |dom0| {
        let stage = Stage::set(dom0, TENANT)?;
        let frames = frames();
        stage.arm(dom0, &frames)?;
        play(dom0, &stage, &frames, Stage::send)
    },
};

pub(super) const RECONNECTS: Scenario = Scenario {
    name: "policy-reconnects",
    about: "frontends that connect over 100 times, spoofing at once each time, get nothing through",
    holds_for_kernel: false,
    run: |dom0| {
        let stage = Stage::set(dom0, TENANT)?;
        stage.watch(dom0)?;
        let times = stage::reconnect(dom0, ROUNDS)?;
        ensure!(times > 100, "only {times} times");
        let seen = stage.seen(dom0)?;
        for (who, frames) in ["the neighbour", "the outside"].iter().zip(&seen) {
            let is_own = |frame: &&Vec<u8>| frame.get(6..11) == Some(&stage::MANY_MACS);
            let own = frames.iter().filter(is_own).count();
            ensure!(
                own == frames.len(),
                "{who} has seen {} frames in the name of others",
                frames.len() - own
            );
            ensure!(
                own >= times / 2,
                "{who} has seen only {own} honest frames of {times}"
            );
        }
        Ok(())
    },
};

const RELOADS: Scenario = Scenario {
    name: "policy-reloads",
    about: "while policies are read again and again, nothing gets through that none of them allows",
    holds_for_kernel: false,
    run: |dom0| {
        let stage = Stage::set(dom0, TENANT)?;
        let frames = frames();
        stage.arm(dom0, &frames)?;
        let reloads = dom0.start(RELOAD, Duration::from_secs(300))?;
        let played = play_once(dom0, &stage, Stage::send);
        dom0.sh("touch /run/enough")?;
        let reloaded = dom0.finish(reloads)?.success()?;
        let count: u32 = reloaded.trim().parse().context(reloaded)?;
        ensure!(count >= 10, "only {count} reloads");
        write_config(dom0, TENANT)?;
        dom0.sh("xen-netback policy reload")?;
        nothing_leaked(&frames, &played?)
    },
};

const DEAD_BROKER: Scenario = Scenario {
    name: "policy-dead-broker",
    about: "rules stay, and are the same, when the broker is killed and when another one starts",
    holds_for_kernel: false,
    run: |dom0| {
        let stage = Stage::set(dom0, TENANT)?;
        let frames = frames();
        stage.arm(dom0, &frames)?;
        let rules = dom0.sh(RULES)?;
        ensure!(
            rules.contains("table netdev"),
            "there are no rules:\n{rules}"
        );
        dom0.sh("kill -9 $(cat /run/xen-netback/pid); rm /run/xen-netback/pid")?;
        let without = play(dom0, &stage, &frames, Stage::send);
        let left = dom0.sh(RULES)?;
        Backend::Daemon.start(dom0, Devices::Nics)?;
        without?;
        ensure!(left == rules, "rules without a broker:\n{left}");
        let after = dom0.sh(RULES)?;
        ensure!(
            after == rules,
            "rules after another broker has started:\n{after}"
        );
        play(dom0, &stage, &frames, Stage::send)
    },
};

const DEAD_WORKER: Scenario = Scenario {
    name: "policy-dead-worker",
    about: "in place of a worker that is killed, one in bad hands gets no spoofed frame past the kernel",
    holds_for_kernel: false,
    run: |dom0| {
        let stage = Stage::set(dom0, TENANT)?;
        let frames = frames();
        stage.arm(dom0, &frames)?;
        // Without a broker nobody takes the interface down.
        dom0.sh(&format!(
            "kill -9 $(cat /run/xen-netback/pid); rm /run/xen-netback/pid\n\
             holders=$(grep -l 'iff:.*{0}$' /proc/[0-9]*/fdinfo/* | cut -d/ -f3 | sort -u)\n\
             [ -n \"$holders\" ] || {{ echo 'nobody serves {0}' >&2; exit 1; }}\n\
             kill -9 $holders && ip link show {0}",
            stage.link.outside
        ))?;
        // A few headers are seen by the worker alone; they spoof nobody.
        play(
            dom0,
            &stage,
            &spoofs_of_others(&frames),
            Stage::send_as_worker,
        )?;
        stage.strike(dom0)
    },
};

/// How often each of many frontends connects: more than a hundred times together.
const ROUNDS: usize = 9;

/// What the policies of the attacker say, and of the guest with many interfaces; nobody else has one.
const TENANT: &str = r#"
[[policy]]
name = "tenant"
match = { mac = "00:16:3e:80:00:11", bridge = "lanp" }
profile = "locked"
ipv4 = "10.80.0.11"
ipv6 = "fd80::11"

[[policy]]
name = "many"
match = { domain = "many-*" }
profile = "locked"
ipv4 = "10.80.0.20"
"#;

/// Reads policies again, each time others, until it is enough; how often.
const RELOAD: &str = r#"
rm -f /run/enough
file=/etc/xen-backends/netback.toml
cp $file /run/tenant.toml
count=0
until [ -e /run/enough ]; do
	count=$((count + 1))
	sed "0,/^profile/s//storm = $((200 + count % 2))\n&/" /run/tenant.toml > $file
	xen-netback policy reload > /dev/null || exit
done
echo $count
"#;

/// All rules, without what they have counted.
const RULES: &str = "nft -s list ruleset | grep -v handle";

fn site() -> Site {
    let station = |last: u8, v4: [u8; 4], v6: &str| -> anyhow::Result<Station> {
        Ok(Station {
            mac: [0, 0x16, 0x3e, 0x80, 0, last],
            v4: v4.into(),
            v6: v6.parse()?,
        })
    };
    let stations = (
        station(0x11, [10, 80, 0, 11], stage::OWN_V6),
        station(0x12, [10, 80, 0, 12], "fd80::12"),
        station(0x01, [10, 80, 0, 1], "fd80::1"),
    );
    match stations {
        (Ok(own), Ok(neighbour), Ok(gateway)) => Site {
            own,
            neighbour,
            gateway,
        },
        _ => Site::example(),
    }
}

fn frames() -> Vec<Spoof> {
    matrix(&site())
}

/// Sends all frames and holds what was seen against what may pass.
fn play(
    dom0: &mut Dom0,
    stage: &Stage,
    frames: &[Spoof],
    send: fn(&Stage, &mut Dom0) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let seen = play_once(dom0, stage, send)?;
    nothing_leaked(frames, &seen)?;
    // Some are lost on the way to the attacker, which gets them as datagrams, and some to limits.
    let arrived: BTreeSet<_> = seen.iter().flatten().collect();
    let may = frames.iter().filter(|spoof| spoof.expect == Expect::Pass);
    let (came, missing): (Vec<_>, Vec<_>) = may.partition(|spoof| arrived.contains(&spoof.frame));
    let names: Vec<_> = missing.iter().map(|spoof| spoof.name.as_str()).collect();
    if came.len() * 10 < (came.len() + missing.len()) * 8 {
        bail!(
            "{} of what may pass did, and this did not:\n{}\n{}",
            came.len(),
            names.join("\n"),
            stage.told(dom0)?
        );
    }
    Ok(())
}

fn play_once(
    dom0: &mut Dom0,
    stage: &Stage,
    send: fn(&Stage, &mut Dom0) -> anyhow::Result<()>,
) -> anyhow::Result<[Vec<Vec<u8>>; 2]> {
    stage.watch(dom0)?;
    send(stage, dom0)?;
    stage.seen(dom0)
}

/// Checks that nobody has seen a frame that may not pass.
fn nothing_leaked(frames: &[Spoof], seen: &[Vec<Vec<u8>>; 2]) -> anyhow::Result<()> {
    let forbidden = frames.iter().filter(|spoof| spoof.expect != Expect::Pass);
    let forbidden: BTreeMap<_, _> = forbidden
        .map(|spoof| (spoof.frame.as_slice(), spoof.name.as_str()))
        .collect();
    for (who, seen) in ["the neighbour", "the outside"].iter().zip(seen) {
        let leaked = seen
            .iter()
            .filter_map(|frame| forbidden.get(frame.as_slice()));
        let leaked: Vec<_> = leaked.copied().collect();
        ensure!(
            leaked.is_empty(),
            "{who} has seen {} frames that may not pass:\n{}",
            leaked.len(),
            leaked.join("\n")
        );
    }
    Ok(())
}

/// Those with a source, or a claim, of another station.
fn spoofs_of_others(frames: &[Spoof]) -> Vec<Spoof> {
    let own = |spoof: &&Spoof| {
        !crate::spoof::UNSEEN_BY_THE_KERNEL
            .iter()
            .any(|name| spoof.name.contains(name))
    };
    frames.iter().filter(own).cloned().collect()
}
