//! The simulated machine as a process: serves a directory until it is killed.

use std::io::Write;
use std::path::PathBuf;

use clap::Parser;
use pv_tests::sim::Machine;

/// Serve a simulated Xen machine in DIR, for daemons started with `--hypervisor sim:DIR`.
#[derive(Debug, Parser)]
#[command(name = "xen-sim")]
struct Options {
    /// Directory of the machine's sockets, made if it is not there.
    dir: PathBuf,
}

fn main() -> anyhow::Result<()> {
    let options = Options::parse();
    let machine = Machine::start(&options.dir)?;
    // Whoever started this may wait for the line before connecting.
    let mut out = std::io::stdout();
    writeln!(out, "xen-sim: serving {}", machine.dir().display())?;
    out.flush()?;
    loop {
        std::thread::park();
    }
}
