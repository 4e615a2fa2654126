//! `cargo verify`: everything that is to hold, with a verdict each.

use std::process::ExitCode;

use clap::Parser;
use pv_tests::verify;

/// Verify the whole project: format, lints, tests, documentation, and scenarios on real Xen.
#[derive(Parser)]
struct Arguments {
    #[command(flatten)]
    options: verify::Options,
}

fn main() -> anyhow::Result<ExitCode> {
    let arguments = Arguments::parse();
    let report = verify::run(arguments.options)?;
    Ok(if report.counts().failed == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}
