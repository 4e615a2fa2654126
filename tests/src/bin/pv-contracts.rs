//! Checks what event channels, grants and xenstore promise, on a real or a simulated machine.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use pv_tests::contracts::{Peer, SimPeer, XenPeer, run, store};
use pv_tests::sim::xenstored;
use xenbus::Endpoint;

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
    let out = &mut std::io::stdout();
    let mut failed = match &options.sim {
        Some(dir) => run(&|| Ok(Box::new(SimPeer::new(dir)?) as Box<dyn Peer>), out)?.failed,
        None => on_xen(out)?,
    };
    for endpoint in stores(&options) {
        writeln!(out, "xenstore through {endpoint:?}:")?;
        failed += store::run(&endpoint, out)?.failed;
    }
    Ok(if failed == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// Once with memory that copies find by its address, once with memory that they find by its grants.
fn on_xen(out: &mut dyn std::io::Write) -> std::io::Result<usize> {
    let plain = run(&|| Ok(Box::new(XenPeer::new()?) as Box<dyn Peer>), out)?;
    writeln!(out, "with granted memory:")?;
    let granted = run(
        &|| Ok(Box::new(XenPeer::with_granted_memory()?) as Box<dyn Peer>),
        out,
    )?;
    Ok(plain.failed + granted.failed)
}

/// The ways to xenstore. In dom0 there are two: the daemon's socket, and the kernel's device, which
/// is the only one in a driver domain.
fn stores(options: &Options) -> Vec<Endpoint> {
    match &options.sim {
        Some(dir) => vec![Endpoint::Socket(xenstored::socket(dir))],
        None => vec![
            Endpoint::Socket("/run/xenstored/socket".into()),
            Endpoint::Kernel("/dev/xen/xenbus".into()),
        ],
    }
}
