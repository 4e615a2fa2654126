//! A guest cannot write to a disk that it was given for reading.

use std::time::Duration;

use anyhow::ensure;

use crate::realxen::disk::{Disk, Via, checksum_script};
use crate::realxen::dom0::Dom0;
use crate::realxen::guest::{Guest, Kind};
use crate::realxen::scenario::Scenario;

/// Size of the disk.
const MIB: u32 = 8;

/// A second disk, read-only, beside a writable root.
pub(super) const DISK: Scenario = Scenario {
    name: "read-only",
    about: "a read-only disk reads right, refuses writes, and its image stays as it was",
    holds_for_kernel: true,
    run,
};

fn run(dom0: &mut Dom0) -> anyhow::Result<()> {
    let root = Disk::root(dom0, "root", Via::Loop)?;
    let disk = Disk::noise(dom0, "library", MIB, Via::Script)?.read_only();
    let before = disk.checksum(dom0, 0, MIB)?;
    let guest = Guest::new("reader", Kind::Pv, vec![root, disk.clone()]);
    guest.create(dom0)?;

    let limit = Duration::from_secs(60);
    let seen = guest.sh(dom0, &checksum_script("/dev/xvdb", 0, MIB), limit)?;
    ensure!(seen.trim() == before, "the guest reads other data");
    let flag = guest.sh(dom0, "blockdev --getro /dev/xvdb", limit)?;
    ensure!(flag.trim() == "1", "the guest sees no read-only disk");
    let write = guest.run(
        dom0,
        "blockdev --setrw /dev/xvdb; dd if=/dev/zero of=/dev/xvdb bs=4k count=4 oflag=direct",
        limit,
    )?;
    ensure!(
        write.status == 1,
        "the guest's write ended with {}:\n{}",
        write.status,
        write.last_words()
    );
    guest.shutdown(dom0)?;
    let after = disk.checksum(dom0, 0, MIB)?;
    ensure!(after == before, "the image of a read-only disk has changed");
    Ok(())
}
