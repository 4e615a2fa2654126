//! The commands.

use std::path::PathBuf;

use anyhow::Context;
use broker::acl::{Command, Kind, Object};
use broker::cli::{Serve, Status, Worker};
use broker::daemon;

use crate::config::Config;
use crate::driver::NetDriver;
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
    let driver = NetDriver::new(config, options.hypervisor.clone());
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
    use std::io::Write;

    let file = file.unwrap_or_else(|| crate::config::DEFAULT_FILE.into());
    let config = Config::load(Some(&file))?;
    let mut out = std::io::stdout();
    writeln!(out, "# {} is fine; it means:\n{config}", file.display()).context("standard output")
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
