//! Several guests are served side by side.

use crate::realxen::disk::{Disk, Via};
use crate::realxen::dom0::Dom0;
use crate::realxen::guest::{Guest, Kind};
use crate::realxen::load::{Load, SCRATCH};
use crate::realxen::scenario::Scenario;

/// Two guests whose disks come by different ways through the stock block script.
pub(super) const AT_ONCE: Scenario = Scenario {
    name: "two-guests",
    about: "two guests verify their writes at once, on a phy: and a file: disk",
    holds_for_kernel: true,
    run,
};

fn run(dom0: &mut Dom0) -> anyhow::Result<()> {
    let disks = [
        Disk::root(dom0, "one", Via::Loop)?,
        Disk::root(dom0, "two", Via::File)?,
    ];
    let guests = [
        Guest::new("one", Kind::Pv, vec![disks[0].clone()]),
        Guest::new("two", Kind::Pv, vec![disks[1].clone()]),
    ];
    for guest in &guests {
        guest.create(dom0)?;
    }
    let loads = [
        Load::start(dom0, &guests[0], &disks[0], SCRATCH)?,
        Load::start(dom0, &guests[1], &disks[1], SCRATCH)?,
    ];
    let mut written = Vec::new();
    for load in loads {
        written.push(load.end(dom0)?);
    }
    for guest in &guests {
        guest.shutdown(dom0)?;
    }
    for written in written {
        written.check(dom0)?;
    }
    Ok(())
}
