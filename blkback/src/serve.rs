//! The commands.

use std::path::PathBuf;

use anyhow::Context;
use broker::acl::{Command, Kind, Object};
use broker::cli::{Reach, Serve, Status, Worker};
use broker::daemon;

use crate::config::Config;
use crate::driver::{BlockDriver, RELOAD};
use crate::image::{self, Refusal};
use crate::vbd::Vbds;

/// What lock files, records of workers and threads are named after.
const NAME: &str = "blkback";

/// Serves disks until the process is asked to end.
///
/// # Errors
/// What an administrator has to mend first.
pub fn serve(options: Serve) -> anyhow::Result<()> {
    daemon::start_log(options.log);
    let config = Config::load(options.config.as_deref())?;
    let driver = BlockDriver::new(config, options.config.clone(), options.hypervisor.clone());
    daemon::serve(NAME, options, driver)
}

/// Serves one guest.
///
/// # Errors
/// It was not started by a broker, or this host has no memory or threads left.
pub fn work(options: &Worker) -> anyhow::Result<()> {
    daemon::work(NAME, options, Vbds::new)
}

/// Shows what the running daemon serves.
///
/// # Errors
/// None runs.
pub fn status(options: &Status) -> anyhow::Result<()> {
    daemon::status(NAME, options)
}

/// Has the running daemon read its configuration again.
///
/// # Errors
/// None runs, or the configuration makes no sense.
pub fn reload(reach: &Reach) -> anyhow::Result<()> {
    daemon::tell(NAME, reach, RELOAD)
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

/// Says what the rules about guests and images mean.
///
/// # Errors
/// They are none, or refuse what was asked.
pub fn acl(command: Command) -> anyhow::Result<()> {
    match command {
        Command::Check { file } => check_config(file),
        Command::Explain(ask) => {
            let config = Config::load(ask.config.as_deref())?;
            ask.explain(&config.policy.acl, &object(&ask.object)?)
        }
    }
}

/// What rules see of an image of this host, or of one that is not there yet.
fn object(text: &str) -> anyhow::Result<Object> {
    if !text.starts_with('/') {
        let volume = Object::new(format!("volume {text:?}"));
        return Ok(volume.named(Kind::Volume, text));
    }
    match image::identify(text.as_ref()) {
        Err(Refusal::Missing { .. }) => {
            let shown = format!("image {text:?}, which does not exist here");
            Ok(Object::new(shown).named(Kind::Path, text))
        }
        other => Ok(other?),
    }
}
