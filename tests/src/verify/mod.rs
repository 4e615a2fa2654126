//! `cargo verify`: everything that is to hold, one step after the other, with a verdict each.
//!
//! ```text
//! packages → rustfmt → build → clippy → tests → loom → docs → packages → real Xen
//!     ──► N passed, N failed
//! ```
//!
//! A step never stops the ones after it: one run tells all that is wrong. What a step prints goes
//! to `target/verify/STEP.log`; of a failure, the part that says why is printed too.

mod command;
mod counts;
mod real_xen;
mod report;
mod steps;

use std::path::PathBuf;

use anyhow::Context;

pub use counts::Counts;
pub use report::{Report, Verdict};

/// What is to be verified.
#[derive(Clone, Copy, Debug, Default, clap::Args)]
pub struct Options {
    /// Leave out what takes long: the scenarios on real Xen.
    #[arg(long)]
    pub quick: bool,
}

/// Where the sources are and where results go.
#[derive(Clone, Debug)]
pub struct Places {
    /// The workspace.
    pub root: PathBuf,
    /// Cargo's target directory, as this program itself was built.
    pub target: PathBuf,
    /// One log per step.
    pub logs: PathBuf,
}

impl Places {
    /// Finds them from where this program lies (`TARGET/PROFILE/pv-verify`).
    ///
    /// # Errors
    /// This program was moved out of the target directory, or logs cannot be written.
    pub fn find() -> anyhow::Result<Self> {
        let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
        let root = root.parent().context("the package lies in no workspace")?;
        let program = std::env::current_exe().context("cannot tell where this program lies")?;
        let target = program.ancestors().nth(2);
        let target = target.context("this program is not in a target directory")?;
        let logs = target.join("verify");
        std::fs::create_dir_all(&logs)
            .with_context(|| format!("cannot create {}", logs.display()))?;
        Ok(Self {
            root: root.to_path_buf(),
            target: target.to_path_buf(),
            logs,
        })
    }
}

/// Runs every step and prints its verdict as it is known.
///
/// # Errors
/// There is no place to work in; everything else is a verdict.
pub fn run(options: Options) -> anyhow::Result<Report> {
    let places = Places::find()?;
    let mut report = Report::default();
    println!("verifying {}", places.root.display());
    // Without them tests fail, and tell of it.
    let _ready = real_xen::install(
        "packages for tests",
        crate::realxen::install_for_tests,
        &mut report,
    );
    for step in steps::on_this_machine(&places) {
        step.run(&places, &mut report);
    }
    if options.quick {
        println!("real Xen: left out (--quick)");
    } else {
        real_xen::verify(&places, &mut report);
    }
    report.print_summary(&places.logs);
    Ok(report)
}
