//! What an administrator is told about frames that are dropped.

use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use netback::drops::Frame;
use netback::inquiry::Shown;
use pv_tests::spoof::{Expect, Site, datagram};

use super::frames;
use super::worker::{Stage, TENANT};

fn with_rules() -> String {
    format!(
        "{TENANT}stateful = false
[[policy.rule]]
direction = \"out\"
protocol = \"udp\"
ports = 4000
action = \"drop\"
[[policy.rule]]
direction = \"out\"
protocol = \"udp\"
ports = 4001
action = \"accept\"
log = true
"
    )
}

fn command(stage: &Stage, arguments: &[&str]) -> anyhow::Result<String> {
    stage.scene.daemon()?.command(arguments)
}

#[test]
fn drops_are_counted_remembered_and_logged_by_reason_and_rule() -> anyhow::Result<()> {
    let mut stage = Stage::set(&with_rules())?;
    let vif = stage.interface();
    let (site, all) = frames();
    let first = |reason| {
        let mut all = all.iter();
        let found = all.find(|spoof| spoof.expect == Expect::Drop(reason));
        found.map(|spoof| spoof.frame.clone()).context(reason)
    };
    let (mac, arp) = (first("mac")?, first("arp")?);
    let udp = |port| datagram(&site, port);
    for (frame, passes) in [
        (&mac, false),
        (&mac, false),
        (&arp, false),
        (&udp(4000), false),
        (&udp(4001), true),
        (&udp(4001), true),
        (&udp(4002), true),
    ] {
        ensure!(stage.passes(frame)? == passes, "{frame:x?}");
    }

    let shown = command(&stage, &["policy", "show", "--json", &vif])?;
    let shown: Shown = serde_json::from_str(&shown)?;
    let worker = shown.worker.context("the worker tells nothing")?;
    let count = |name: &str, count| (name.to_owned(), count);
    assert_eq!(
        worker.out,
        [count("arp", 1), count("mac", 2), count("rule", 1)].into()
    );
    assert_eq!(worker.into, [].into());
    assert_eq!(worker.rules, [(0, 1), (1, 2)].into());
    // What the worker has dropped, the kernel has not seen.
    assert_eq!(
        shown.kernel.rules.get(&0).map_or(0, |count| count.packets),
        0
    );
    assert_eq!(
        shown.kernel.rules.get(&1).map(|count| count.packets),
        Some(2)
    );

    let told = command(&stage, &["policy", "drops", "--json", &vif])?;
    let told = told.lines().map(serde_json::from_str);
    let told: Vec<Frame> = told.collect::<Result<_, _>>()?;
    let why = |frame: &Frame| (frame.reason.clone(), frame.rule, frame.length);
    assert_eq!(
        told.iter().map(why).collect::<Vec<_>>(),
        [
            ("mac".to_owned(), None, mac.len()),
            ("mac".to_owned(), None, mac.len()),
            ("arp".to_owned(), None, arp.len()),
            ("rule".to_owned(), Some(0), udp(4000).len()),
        ]
    );
    let hex: String = udp(4000).iter().map(|byte| format!("{byte:02x}")).collect();
    ensure!(hex.starts_with(&told[3].head), "{}", told[3].head);

    let last = command(&stage, &["policy", "drops", "--count", "1", &vif])?;
    ensure!(
        last.lines().count() == 1 && last.contains("Z out, rule 1: ") && last.contains("port 4000"),
        "{last}"
    );
    let log = stage.scene.daemon()?.log();
    for line in [
        "dropped from the guest: mac: ",
        "dropped from the guest: rule 1: ",
        "rule 2 from the guest: passes: ",
    ] {
        ensure!(log.contains(line), "{line:?} is not in the log:\n{log}");
    }
    stage.clear()
}

/// NET-27 in what is told: a flood costs a few lines, and the memory that it always costs.
#[test]
fn a_flood_is_told_by_its_count_and_its_last_frames() -> anyhow::Result<()> {
    let mut stage = Stage::set(&with_rules())?;
    let vif = stage.interface();
    let site = Site::example();
    for _ in 0..70 {
        ensure!(!stage.passes(&datagram(&site, 4000))?, "rule 1 drops it");
    }
    let shown = command(&stage, &["policy", "show", &vif])?;
    ensure!(
        shown.lines().any(|line| {
            let words: Vec<_> = line.split_whitespace().collect();
            words.starts_with(&["#", "rule", "1", "70", "0"])
        }),
        "{shown}"
    );
    let told = command(&stage, &["policy", "drops", &vif])?;
    ensure!(told.lines().count() == 64, "{told}");
    let log = stage.scene.daemon()?.log();
    let lines = log.matches("dropped from the guest").count();
    ensure!((1..=16).contains(&lines), "{lines} lines of 70 frames");
    stage.clear()
}

#[test]
fn frames_are_followed_and_written_as_a_capture() -> anyhow::Result<()> {
    let mut stage = Stage::set(&with_rules())?;
    let vif = stage.interface();
    let site = Site::example();
    ensure!(!stage.passes(&datagram(&site, 4000))?, "rule 1 drops it");
    let dir = stage.scene.daemon()?.config_file().with_extension("pcapng");
    let file = dir.to_str().context("a path")?.to_owned();
    let arguments = ["policy", "drops", "-f", "-c", "3", "-w", &file, &vif];
    let mut follower = stage.scene.daemon()?.client(&arguments)?.spawn()?;
    let deadline = Instant::now() + Duration::from_secs(30);
    let ended = loop {
        ensure!(!stage.passes(&datagram(&site, 4000))?, "rule 1 drops it");
        if let Some(status) = follower.try_wait()? {
            break status;
        }
        if Instant::now() > deadline {
            follower.kill()?;
        }
    };
    ensure!(ended.success(), "{ended}");
    let bytes = std::fs::read(&file)?;
    // A section, an interface, and packets, as pcapng has them.
    let mut kinds = Vec::new();
    let mut rest = &bytes[..];
    while let Some((kind, behind)) = rest.split_first_chunk::<4>() {
        let length = behind.first_chunk().context("no length")?;
        let length = usize::try_from(u32::from_ne_bytes(*length))?;
        kinds.push(u32::from_ne_bytes(*kind));
        rest = rest.get(length..).context("a block is cut off")?;
    }
    assert_eq!(kinds, [0x0a0d_0d0a, 1, 6, 6, 6]);
    let comment = b"out, rule 1";
    let comments = bytes
        .windows(comment.len())
        .filter(|words| words == comment);
    assert_eq!(comments.count(), 3);
    stage.clear()
}

#[test]
fn what_cannot_be_told_is_an_error_that_says_why() -> anyhow::Result<()> {
    let stage = Stage::set(TENANT)?;
    let vif = stage.interface();
    for (arguments, wanted) in [
        (
            &["policy", "drops", "vif99.0"][..],
            "no interface \"vif99.0\"",
        ),
        (
            &["policy", "drops", "-w", "/no/such/file", &vif],
            "cannot write /no/such/file",
        ),
        (
            &["policy", "drops", "-w", "x", "--json", &vif],
            "cannot be used with",
        ),
    ] {
        let error = format!("{:#}", command(&stage, arguments).unwrap_err());
        ensure!(error.contains(wanted), "{error}");
    }
    ensure!(command(&stage, &["policy", "drops", &vif])?.is_empty());
    stage.clear()
}
