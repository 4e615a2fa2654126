//! Checks what event channels and grants promise, on a real or a simulated hypervisor.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use pv_tests::contracts::{Peer, SimPeer, XenPeer, run};

/// Run every contract case and print a verdict for each.
#[derive(Debug, Parser)]
#[command(name = "pv-contracts")]
#[group(required = true, multiple = false)]
struct Options {
    /// On this machine's Xen, as root in a PV dom0 with the modules xen-evtchn, xen-gntdev and
    /// xen-gntalloc.
    #[arg(long)]
    xen: bool,
    /// On the simulated machine that xen-sim serves in DIR.
    #[arg(long, value_name = "DIR")]
    sim: Option<PathBuf>,
}

fn main() -> anyhow::Result<ExitCode> {
    let options = Options::parse();
    let world = || -> anyhow::Result<Box<dyn Peer>> {
        match &options.sim {
            Some(dir) => Ok(Box::new(SimPeer::new(dir)?)),
            None => Ok(Box::new(XenPeer::new()?)),
        }
    };
    let tally = run(&world, &mut std::io::stdout())?;
    Ok(if tally.failed == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}
