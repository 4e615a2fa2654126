//! The contracts of event channels and grants hold on the real devices.

use std::time::Duration;

use anyhow::Context;

use crate::realxen::dom0::Dom0;
use crate::realxen::scenario::Scenario;

/// The limit of the whole suite.
const LIMIT: Duration = Duration::from_secs(180);

/// The suite that also holds the simulation to its word.
pub(super) const ON_XEN: Scenario = Scenario {
    name: "contracts",
    about: "the contract suites pass on /dev/xen",
    holds_for_kernel: false,
    run,
};

fn run(dom0: &mut Dom0) -> anyhow::Result<()> {
    let program = dom0
        .program("pv-contracts")
        .context("no pv-contracts beside the daemon; build it: cargo build -p pv-tests")?;
    dom0.run(&format!("{program} --xen"), LIMIT)?.success()?;
    Ok(())
}
