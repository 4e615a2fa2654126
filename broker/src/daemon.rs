//! The start of a daemon's two processes, broker and worker.

use std::io::{IsTerminal, Write};
use std::path::PathBuf;

use anyhow::Context;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tracing_subscriber::EnvFilter;

use crate::cli::{self, Level, RUN_DIR, Reach, Serve, Worker};
use crate::control::{Request, STATUS, Status};
use crate::driver::Driver;
use crate::hypervisor::{self, Hypervisor};
use crate::supervisor::{Settings, Supervisor};
use crate::worker::{self, Backend, Link};

/// Serves devices until the process is asked to end.
///
/// # Errors
/// What an administrator has to mend first.
pub fn serve(name: &'static str, options: Serve, driver: impl Driver) -> anyhow::Result<()> {
    let run_dir = options
        .run_dir
        .unwrap_or_else(|| default_run_dir(&options.hypervisor));
    let arguments = [
        "worker",
        "--hypervisor",
        options.hypervisor.kind_name(),
        "--log",
        options.log.as_str(),
    ];
    let settings = Settings {
        name,
        run_dir,
        worker: worker::Command::own_binary(arguments.map(Into::into).to_vec()),
        hypervisor: options.hypervisor,
    };
    allow_open_files();
    Supervisor::start(settings, driver)?.run()?;
    Ok(())
}

/// Serves one guest with the backend that `make` makes for this kind of hypervisor.
///
/// # Errors
/// It was not started by a broker, or this host has no memory or threads left.
pub fn work<B: Backend>(
    name: &str,
    options: &Worker,
    make: impl FnOnce(evtchn::Kind) -> B,
) -> anyhow::Result<()> {
    start_log(options.log);
    abort_on_panic();
    let span = tracing::info_span!("guest", domid = options.domid);
    let _entered = span.enter();
    // In lists of threads: without it the kernel calls the process "exe".
    let name = std::ffi::CString::new(format!("{name}/{}", options.domid))?;
    rustix::thread::set_name(&name).context("naming the process")?;
    let kind = hypervisor::parse_kind(&options.hypervisor)?;
    let link = Link::from_stdin()?;
    worker::run(link, make(kind))
}

/// Prints what the running daemon called `name` says of itself and its devices.
///
/// # Errors
/// It does not answer, or nobody reads what is printed.
pub fn status(name: &str, options: &cli::Status) -> anyhow::Result<()> {
    let told = options.reach.ask(name, &Request::new(STATUS))?;
    if options.json {
        return print(&serde_json::to_string_pretty(&told)?);
    }
    let status: Status = serde_json::from_value(told)
        .context("the daemon is of another version: its status has another form (try --json)")?;
    print(&status.to_string())
}

/// Gives the running daemon called `name` a command that needs no arguments, and prints its answer.
///
/// # Errors
/// It does not answer, or says no.
pub fn tell(name: &str, reach: &Reach, command: &str) -> anyhow::Result<()> {
    match reach.ask(name, &Request::new(command))? {
        serde_json::Value::String(text) => print(&text),
        other => print(&other.to_string()),
    }
}

fn print(text: &str) -> anyhow::Result<()> {
    writeln!(std::io::stdout(), "{text}").context("standard output")
}

/// A queue that panics must not leave its guest waiting for ever while the others go on: the broker
/// sees the whole worker end, and closes what it had.
fn abort_on_panic() {
    let report = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        report(panic);
        std::process::abort();
    }));
}

/// Allows this process, and the workers that inherit it, as many descriptors as the system lets
/// them have: a queue takes half a dozen, and 1024, the usual limit, are soon used up.
fn allow_open_files() {
    let limits = getrlimit(Resource::Nofile);
    let wanted = Rlimit {
        current: limits.maximum,
        ..limits
    };
    if let Err(error) = setrlimit(Resource::Nofile, wanted) {
        tracing::warn!(%error, "the limit of open files stays as it is");
    }
}

fn default_run_dir(hypervisor: &Hypervisor) -> PathBuf {
    match hypervisor {
        Hypervisor::Xen => PathBuf::from(RUN_DIR),
        #[cfg(feature = "sim")]
        Hypervisor::Sim(directory) => directory.join("run"),
    }
}

/// Logs to standard error: to a terminal in colour, to the journal without its own time.
pub fn start_log(level: Level) {
    let log = tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_target(level == Level::Trace)
        // It would tell of a log that cannot be written in the same place, and panic then: whoever
        // reads the log may be gone, a journal that is restarted for one.
        .log_internal_errors(false)
        .with_env_filter(EnvFilter::new(level.as_str()));
    if std::env::var_os("JOURNAL_STREAM").is_some() {
        log.without_time().init();
    } else {
        log.init();
    }
}
