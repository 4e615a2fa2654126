//! The options that every daemon has.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use crate::hypervisor::Hypervisor;

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
