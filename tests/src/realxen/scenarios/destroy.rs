//! Nothing is left of a guest that is destroyed in the middle of its work.

use crate::realxen::disk::{Disk, Via};
use crate::realxen::dom0::Dom0;
use crate::realxen::grants;
use crate::realxen::guest::{Guest, Kind};
use crate::realxen::load::{Load, SCRATCH, keep_busy};
use crate::realxen::scenario::Scenario;

/// `xl destroy` under load, and a new guest on the same image afterwards.
pub(super) const UNDER_LOAD: Scenario = Scenario {
    name: "destroy-under-load",
    about: "xl destroy under load leaves no zombie and no mapped grant; the image serves again",
    holds_for_kernel: true,
    run,
};

fn run(dom0: &mut Dom0) -> anyhow::Result<()> {
    let disk = Disk::root(dom0, "root", Via::Script)?;
    let guest = Guest::new("doomed", Kind::Pv, vec![disk.clone()]);
    guest.create(dom0)?;
    keep_busy(dom0, &guest, &disk, SCRATCH)?;
    guest.destroy(dom0)?;
    grants::none_left(dom0)?;

    let next = Guest::new("next", Kind::Pv, vec![disk.clone()]);
    next.create(dom0)?;
    let written = Load::run(dom0, &next, &disk, SCRATCH)?;
    next.shutdown(dom0)?;
    written.check(dom0)
}
