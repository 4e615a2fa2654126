//! Real Xen by hand: builds the machine's image, runs scenarios, opens a shell in dom0, and
//! compares our backend with the kernel's.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use clap::{Parser, Subcommand, ValueEnum};
use pv_tests::realxen::dom0::Dom0;
use pv_tests::realxen::{self, Backend, Console, Options, bench, bench_net, image, scenario};

/// How long a script may run.
const SCRIPT_LIMIT: Duration = Duration::from_secs(540);

/// Boots Xen and a Debian dom0 in an emulated computer, and tries things in it.
#[derive(Debug, Parser)]
#[command(name = "pv-realxen")]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Build the image, or find it in the cache, and print where it lies.
    Image,
    /// Run scenarios: those named, or all, as `cargo verify` does.
    Run {
        /// Their names; `net-*` stands for all that begin with `net-`.
        names: Vec<String>,
        /// List them instead.
        #[arg(long)]
        list: bool,
        /// Run each so many times, to meet what happens now and then.
        #[arg(long, value_name = "N", default_value_t = 1)]
        times: usize,
        /// Who serves the guests. With `kernel`, the harness itself is tried.
        #[arg(long, value_enum, default_value_t = Serving::Daemon)]
        backend: Serving,
        /// The daemon [default: xen-blkback beside this program].
        #[arg(long, value_name = "PROGRAM")]
        daemon: Option<PathBuf>,
    },
    /// Boot and open a shell in dom0; `poweroff -f` there ends it.
    Shell {
        /// The daemon, to be found in /share/bin [default: xen-blkback beside this program, if
        /// there].
        #[arg(long, value_name = "PROGRAM")]
        daemon: Option<PathBuf>,
    },
    /// Boot, run a shell script in dom0, and print what it prints.
    Script {
        /// The script.
        file: PathBuf,
        /// The daemon, to be found in /share/bin [default: xen-blkback beside this program, if
        /// there].
        #[arg(long, value_name = "PROGRAM")]
        daemon: Option<PathBuf>,
    },
    /// Compare our disks with the kernel's on the instruction clock.
    Bench {
        /// The daemon, a release build [default: xen-blkback beside this program].
        #[arg(long, value_name = "PROGRAM")]
        daemon: Option<PathBuf>,
    },
    /// Compare our network interfaces with the kernel's on the instruction clock.
    BenchNet {
        /// The daemon, a release build [default: xen-netback beside this program; without one,
        /// only the kernel's figures are taken].
        #[arg(long, value_name = "PROGRAM")]
        daemon: Option<PathBuf>,
    },
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Serving {
    Daemon,
    Kernel,
}

fn main() -> anyhow::Result<ExitCode> {
    match Cli::parse().verb {
        Verb::Image => {
            println!("{}", image::Image::find_or_build()?.dir().display());
            Ok(ExitCode::SUCCESS)
        }
        Verb::Run { list: true, .. } => {
            for scenario in realxen::scenarios::SUITES
                .iter()
                .flat_map(|suite| suite.scenarios)
            {
                println!("{:20} {}", scenario.name, scenario.about);
            }
            Ok(ExitCode::SUCCESS)
        }
        Verb::Run {
            names,
            times,
            backend,
            daemon,
            ..
        } => run(&names, times, backend, daemon),
        Verb::Shell { daemon } => shell(daemon),
        Verb::Script { file, daemon } => script(&file, daemon),
        Verb::Bench { daemon } => {
            let options = realxen::options(Backend::Daemon, Some(&or_beside(daemon)?))?;
            let table = bench::bench(options)?;
            print!("{table}");
            println!("{}", table.json()?);
            Ok(ExitCode::SUCCESS)
        }
        Verb::BenchNet { daemon } => {
            let beside = || program("xen-netback").ok().filter(|path| path.is_file());
            let daemon = daemon.or_else(beside);
            let options = realxen::options(Backend::Daemon, daemon.as_deref())?;
            let table = bench_net::bench(options)?;
            print!("{table}");
            println!("{}", table.json()?);
            Ok(ExitCode::SUCCESS)
        }
    }
}

fn run(
    names: &[String],
    times: usize,
    backend: Serving,
    daemon: Option<PathBuf>,
) -> anyhow::Result<ExitCode> {
    let mut scenarios = scenario::select(names)?;
    for (_, scenarios) in &mut scenarios {
        *scenarios = scenarios.repeat(times);
    }
    let options = match backend {
        Serving::Daemon => realxen::options(Backend::Daemon, Some(&or_beside(daemon)?))?,
        Serving::Kernel => realxen::options(Backend::Kernel, None)?,
    };
    let summary = scenario::run_all(&options, &scenarios, |outcome| println!("{outcome}"))?;
    println!("{summary}");
    Ok(if summary.is_good() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn shell(daemon: Option<PathBuf>) -> anyhow::Result<ExitCode> {
    let daemon = daemon.or_else(|| or_beside(None).ok().filter(|path| path.is_file()));
    let mut dom0 = Dom0::boot(Options {
        console: Console::Terminal,
        ..realxen::options(Backend::Daemon, daemon.as_deref())?
    })?;
    dom0.wait()?;
    Ok(ExitCode::SUCCESS)
}

fn script(file: &Path, daemon: Option<PathBuf>) -> anyhow::Result<ExitCode> {
    let text = std::fs::read_to_string(file).with_context(|| file.display().to_string())?;
    let daemon = daemon.or_else(|| or_beside(None).ok().filter(|path| path.is_file()));
    let mut dom0 = Dom0::boot(realxen::options(Backend::Daemon, daemon.as_deref())?)?;
    let output = dom0.run(&text, SCRIPT_LIMIT)?;
    print!("{}", output.stdout);
    eprint!("{}", output.stderr);
    Ok(ExitCode::from(u8::try_from(output.status).unwrap_or(1)))
}

fn or_beside(daemon: Option<PathBuf>) -> anyhow::Result<PathBuf> {
    daemon.map_or_else(|| program("xen-blkback"), Ok)
}

/// Where the program of that name lies if it was built with this one.
fn program(name: &str) -> anyhow::Result<PathBuf> {
    Ok(std::env::current_exe()
        .context("cannot tell where this program is; give --daemon")?
        .with_file_name(name))
}
