//! The options that every daemon has.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use crate::control::{self, AskError, Request};
use crate::hypervisor::Hypervisor;

/// Where daemons on real Xen keep their lock files, records and sockets.
pub const RUN_DIR: &str = "/run/xen-backends";

/// Options of `serve`.
#[derive(Args, Debug)]
pub struct Serve {
    /// Configuration file; it must exist when named here
    /// [default: the daemon's own in /etc/xen-backends, if it exists].
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,

    /// The hypervisor: `xen`, or `sim:DIR` for the simulated machine that `xen-sim DIR` serves.
    #[arg(long, value_name = "xen|sim:DIR", default_value = "xen")]
    pub hypervisor: Hypervisor,

    /// How much to log, to standard error.
    #[arg(long, value_name = "LEVEL", default_value = "info")]
    pub log: Level,

    /// Directory of the lock file and of notes about running workers
    /// [default: /run/xen-backends, or DIR/run with `sim:DIR`].
    #[arg(long, value_name = "DIR")]
    pub run_dir: Option<PathBuf>,
}

/// How to reach a running daemon.
#[derive(Args, Clone, Debug)]
pub struct Reach {
    /// The daemon's run directory.
    #[arg(long, value_name = "DIR", default_value = RUN_DIR)]
    pub run_dir: PathBuf,
}

impl Reach {
    /// Asks the running daemon called `name` and waits for what it says.
    ///
    /// # Errors
    /// There is no answer, or it is no.
    pub fn ask(&self, name: &str, request: &Request) -> Result<serde_json::Value, AskError> {
        control::ask(&control::socket(&self.run_dir, name), request)
    }
}

/// Options of `status`.
#[derive(Args, Debug)]
pub struct Status {
    /// How to reach it.
    #[command(flatten)]
    pub reach: Reach,
    /// For programs.
    #[arg(long)]
    pub json: bool,
}

/// Options of `worker`.
#[derive(Args, Debug)]
pub struct Worker {
    /// Which kind of descriptors it gets.
    #[arg(long, value_name = "xen|sim")]
    pub hypervisor: String,
    /// The guest, for the log.
    #[arg(long)]
    pub domid: u16,
    /// How much to log.
    #[arg(long, default_value = "info")]
    pub log: Level,
}

/// How much to log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Level {
    /// What an administrator has to mend.
    Error,
    /// And what guests do wrong.
    Warn,
    /// And what comes and goes.
    Info,
    /// And every step.
    Debug,
    /// And which part of the program says it.
    Trace,
}

impl Level {
    /// Its name on the command line.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Info => "info",
            Self::Debug => "debug",
            Self::Trace => "trace",
        }
    }
}
