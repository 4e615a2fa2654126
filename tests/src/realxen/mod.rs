//! Real Xen without hardware: a Debian dom0 with the stock toolstack in an emulated computer, and
//! scenarios that are tried in it.
//!
//! The walk of one run: an [`Image`](image::Image) is found in the cache or built, a
//! [`Dom0`](dom0::Dom0) boots from it with the programs under test in a shared folder, each
//! [`Scenario`](scenario::Scenario) starts the backend, creates guests whose root filesystem it
//! serves, has them work and compares what they saw with what dom0 sees; then everything is tidied
//! away for the next one. A failure leaves logs behind, and a lost machine is replaced.
//!
//! Scripts reach dom0 through a virtio serial port and a guest through xenstore; the other ends
//! are in `tests/guest`. [`mod@bench`] and [`bench_net`] compare our backends with the kernel's on a
//! clock that counts instructions.

use std::path::{Path, PathBuf};

use anyhow::Context;

mod agent;
pub mod backend;
pub mod bench;
pub mod bench_net;
pub mod capture;
mod command;
pub mod counters;
pub mod disk;
pub mod dom0;
mod emulator;
pub mod grants;
pub mod guest;
pub mod image;
pub mod lan;
mod linux;
pub mod load;
mod machine;
mod mirror;
pub mod nic;
mod packages;
mod recipe;
pub mod scenario;
pub mod scenarios;
mod share;
pub mod traffic;

pub use backend::{Backend, Devices};
pub use dom0::Options;
pub use machine::{Clock, Console};
pub use packages::{install_for_tests, install_missing};
pub use scenario::{Outcome, Summary, Verdict};

/// Runs every scenario that is verified against the daemon binary `daemon` and the other one beside
/// it, printing each verdict as it falls.
///
/// Builds and caches the image first when there is none. The programs `pv-contracts` and
/// `pv-frames` beside the daemon are taken along. Takes about ten minutes on two CPUs.
///
/// # Errors
///
/// The image cannot be built or no machine boots. A failed scenario is in the summary.
pub fn verify(daemon: &Path) -> anyhow::Result<Summary> {
    let options = options(Backend::Daemon, Some(daemon))?;
    scenario::run_all(&options, &scenario::select(&[])?, |outcome| {
        println!("{outcome}");
    })
}

/// What a run on the host's clock is started with: image, a new results folder, and the programs
/// that its backend needs: `daemon`, and those of ours that lie beside it.
///
/// # Errors
///
/// The image cannot be built, or `daemon` is missing.
pub fn options(backend: Backend, daemon: Option<&Path>) -> anyhow::Result<Options> {
    let mut programs = Vec::new();
    if let Some(daemon) = daemon {
        programs.push(daemon.to_path_buf());
        let beside = ["xen-blkback", "xen-netback", "pv-contracts", "pv-frames"]
            .map(|name| daemon.with_file_name(name))
            .into_iter()
            .filter(|program| program != daemon && program.is_file());
        programs.extend(beside);
    }
    Ok(Options {
        image: image::Image::find_or_build()?,
        clock: Clock::Wall,
        console: Console::Log,
        results: new_results()?,
        programs,
        backend,
    })
}

/// A new folder below cargo's target folder, named after the time and this process.
fn new_results() -> anyhow::Result<PathBuf> {
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../target"),
        PathBuf::from,
    );
    let seconds = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .context("the clock stands before 1970")?
        .as_secs();
    let dir = target
        .join("realxen")
        .join(format!("{seconds}-{}", std::process::id()));
    std::fs::create_dir_all(&dir).with_context(|| format!("cannot create {}", dir.display()))?;
    dir.canonicalize()
        .with_context(|| format!("cannot resolve {}", dir.display()))
}
