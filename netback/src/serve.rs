//! The commands.

use std::io::Write;
use std::path::PathBuf;

use anyhow::Context;
use broker::acl::{Command, Kind, Object};
use broker::cli::{Reach, Serve, Status, Worker};
use broker::daemon;

use crate::cli::{Drops, Test};
use crate::config::Config;
use crate::driver::NetDriver;
use crate::drops;
use crate::governor::Governor;
use crate::inquiry;
use crate::policy::language::{Policies, Warning};
use crate::trial;
use crate::vif::Vifs;

/// What lock files, records of workers and threads are named after.
const NAME: &str = "netback";

/// Serves interfaces until the process is asked to end.
///
/// # Errors
/// What an administrator has to mend first.
pub fn serve(options: Serve) -> anyhow::Result<()> {
    daemon::start_log(options.log);
    let config = Config::load(options.config.as_deref())?;
    let (governor, warnings) = Governor::load(options.config.as_deref())?;
    for warning in warnings {
        tracing::warn!("{warning}");
    }
    let driver = NetDriver::new(config, options.hypervisor.clone(), governor);
    daemon::serve(NAME, options, driver)
}

/// Serves one guest.
///
/// # Errors
/// It was not started by a broker, or this host has no memory or threads left.
pub fn work(options: &Worker) -> anyhow::Result<()> {
    daemon::work(NAME, options, Vifs::new)
}

/// Shows what the running daemon serves.
///
/// # Errors
/// None runs.
pub fn status(options: &Status) -> anyhow::Result<()> {
    daemon::status(NAME, options)
}

/// Says whether a configuration is one, and what it means.
///
/// # Errors
/// It is none, or cannot be read.
pub fn check_config(file: Option<PathBuf>) -> anyhow::Result<()> {
    let file = file.unwrap_or_else(|| crate::config::DEFAULT_FILE.into());
    let config = Config::load(Some(&file))?;
    let (policies, warnings) = Policies::load(Some(&file))?;
    tell(&warnings);
    let mut out = std::io::stdout();
    writeln!(out, "# {} is fine; it means:\n{config}", file.display())
        .and_then(|()| {
            policies
                .iter()
                .try_for_each(|policy| write!(out, "\n{policy}"))
        })
        .context("standard output")
}

/// Says whether policies are ones, and lists them: those of `files`, or of the default files.
///
/// # Errors
/// One makes no sense, or a file cannot be read.
pub fn check_policies(files: &[PathBuf]) -> anyhow::Result<()> {
    let (policies, warnings) = if files.is_empty() {
        Config::load(None)?;
        Policies::load(None)?
    } else {
        for file in files {
            Config::load(Some(file))?;
        }
        Policies::read(files)?
    };
    tell(&warnings);
    let mut out = std::io::stdout();
    let count = policies.iter().count();
    writeln!(
        out,
        "{count} policies are fine; the first that fits governs:"
    )
    .and_then(|()| {
        let mut summaries = policies.iter().map(|policy| policy.summary());
        summaries.try_for_each(|summary| writeln!(out, "{summary}"))
    })
    .context("standard output")
}

/// Has the running daemon read its policies again.
///
/// # Errors
/// None runs, or they make no sense.
pub fn reload(reach: &Reach) -> anyhow::Result<()> {
    daemon::tell(NAME, reach, inquiry::RELOAD)
}

/// Shows what governs an interface.
///
/// # Errors
/// No daemon runs, or it does not serve such an interface.
pub fn show(reach: &Reach, vif: &str, json: bool) -> anyhow::Result<()> {
    let shown = inquiry::ask(NAME, reach, vif)?;
    let text = if json {
        serde_json::to_string_pretty(&shown)?
    } else {
        shown.to_string()
    };
    writeln!(std::io::stdout(), "{text}").context("standard output")
}

/// Says what becomes of a frame.
///
/// # Errors
/// No daemon runs, it does not serve such an interface, or what is asked about is no frame.
pub fn test(test: &Test) -> anyhow::Result<()> {
    let shown = inquiry::ask(NAME, &test.reach, &test.vif)?;
    let (direction, frame) = trial::frame(test, &shown.policy)?;
    let told = trial::judge(&shown.policy, direction, &frame);
    writeln!(std::io::stdout(), "{told}").context("standard output")
}

/// Shows the frames of an interface that were dropped last.
///
/// # Errors
/// No daemon runs, it does not serve such an interface, or what is asked for cannot be written.
pub fn dropped(options: &Drops) -> anyhow::Result<()> {
    drops::show(NAME, options)
}

fn tell(warnings: &[Warning]) {
    for warning in warnings {
        eprintln!("warning: {warning}");
    }
}

/// Says what the rules about guests and bridges mean.
///
/// # Errors
/// They are none, or refuse what was asked.
pub fn acl(command: Command) -> anyhow::Result<()> {
    match command {
        Command::Check { file } => check_config(file),
        Command::Explain(ask) => {
            let config = Config::load(ask.config.as_deref())?;
            let bridge = Object::new(format!("bridge {:?}", ask.object));
            let bridge = bridge.named(Kind::Bridge, ask.object.as_str());
            ask.explain(&config.acl, &bridge)
        }
    }
}
