//! What is said to be in force is in force: whoever has been at the rules meanwhile, and whichever
//! daemon has made them.

use std::fs;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use netback::enforce::Kernel;

use super::worker::{Stage, TENANT};

/// The interfaces that have rules.
fn ruled(stage: &Stage) -> anyhow::Result<Vec<String>> {
    let names = stage.scene.network()?.inside(|| Kernel.installed())??;
    Ok(names.iter().map(|name| name.as_str().to_owned()).collect())
}

/// As a host's firewall does that is loaded again.
fn flush(stage: &Stage) -> anyhow::Result<()> {
    let flush = || Command::new("nft").args(["flush", "ruleset"]).status();
    let flushed = stage.scene.network()?.inside(flush)??;
    ensure!(flushed.success(), "not flushed");
    Ok(())
}

fn reload(stage: &Stage) -> anyhow::Result<String> {
    stage.scene.daemon()?.command(&["policy", "reload"])
}

fn write_policies(stage: &Stage, text: &str) -> anyhow::Result<()> {
    Ok(fs::write(stage.scene.daemon()?.config_file(), text)?)
}

#[test]
fn net_24_rules_that_somebody_has_flushed_are_back_after_a_reload() -> anyhow::Result<()> {
    let stage = Stage::set(TENANT)?;
    flush(&stage)?;
    let told = reload(&stage)?;
    ensure!(told.starts_with("1 policies are in force"), "{told}");
    assert_eq!(ruled(&stage)?, [stage.interface()], "{told}");
    stage.clear()
}

/// FLT-17: nobody has to notice that the host's firewall was loaded again, and again.
#[test]
fn flt_17_rules_that_somebody_has_flushed_are_back_by_themselves() -> anyhow::Result<()> {
    let stage = Stage::set(TENANT)?;
    for time in 1..=3 {
        flush(&stage)?;
        let deadline = Instant::now() + Duration::from_secs(10);
        while ruled(&stage)? != [stage.interface()] {
            ensure!(
                Instant::now() < deadline,
                "time {time}: they are not back\n{}",
                stage.scene.told()
            );
        }
    }
    let told = stage.scene.told();
    ensure!(
        told.contains("its rules were removed, and are put back"),
        "{told}"
    );
    stage.clear()
}

/// It is in no bridge, so it cannot be a member of a VLAN.
#[test]
fn what_cannot_be_enforced_is_told_by_every_reload() -> anyhow::Result<()> {
    let stage = Stage::set(TENANT)?;
    write_policies(&stage, &format!("{TENANT}vlan = {{ access = 5 }}\n"))?;
    for time in 1..=2 {
        let told = reload(&stage);
        let why = told
            .err()
            .with_context(|| format!("time {time}: in force"))?;
        ensure!(why.to_string().contains("not all are in force"), "{why}");
    }
    write_policies(&stage, TENANT)?;
    reload(&stage)?;
    stage.clear()
}

/// Their workers cannot be told, so the kernel alone goes by what is new.
#[test]
fn net_24_a_new_daemon_governs_the_interfaces_that_earlier_workers_serve() -> anyhow::Result<()> {
    let mut stage = Stage::set("")?;
    ensure!(ruled(&stage)?.is_empty(), "nothing governs it");
    let orphans = stage.scene.take_daemon()?.stop()?;
    stage.scene = stage.scene.configured(TENANT);
    stage.scene.start_daemon()?;
    assert_eq!(ruled(&stage)?, [stage.interface()], "when it starts");
    flush(&stage)?;
    let told = reload(&stage)?;
    assert_eq!(ruled(&stage)?, [stage.interface()], "when it is told to");
    ensure!(told.contains("an earlier daemon"), "{told}");
    write_policies(&stage, "")?;
    reload(&stage)?;
    ensure!(ruled(&stage)?.is_empty(), "nothing governs it any more");
    drop(orphans);
    stage.scene.no_wrong_done()
}
