//! fio inside a guest, on a disk of ours.

use std::time::Duration;

use anyhow::{Context, ensure};

use super::disk::{Disk, checksum_script};
use super::dom0::{Dom0, Job};
use super::guest::Guest;

/// Where the scratch part of a guest's root disk begins and how long it is, in MiB
/// (`guest/build-guest.sh`).
pub const SCRATCH: Region = Region { from: 160, mib: 48 };

/// Part of a disk, in MiB.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Region {
    /// Its first MiB.
    pub from: u32,
    /// Its length.
    pub mib: u32,
}

/// How long a verified load may take in the guest.
const VERIFY_LIMIT: Duration = Duration::from_secs(240);

/// A verified load that runs in a guest by now.
#[derive(Debug)]
#[must_use = "its verdict is only seen by Verified::end"]
pub struct Load {
    job: Job,
    disk: Disk,
    region: Region,
}

/// What a guest read back at the end of a verified load.
#[derive(Debug)]
#[must_use = "compare it with the image once the guest is done with the disk"]
pub struct Written {
    disk: Disk,
    region: Region,
    checksum: String,
}

impl Load {
    /// Starts mixed random reads and writes of 4 to 256 KiB at depth 32 on `region` of `disk`,
    /// each block carrying a CRC-32C that is checked at the end; then the guest sums up the
    /// region, read past its page cache.
    ///
    /// # Errors
    ///
    /// dom0 has gone.
    pub fn start(
        dom0: &mut Dom0,
        guest: &Guest,
        disk: &Disk,
        region: Region,
    ) -> anyhow::Result<Self> {
        let Region { from, mib } = region;
        let device = format!("/dev/{}", disk.device);
        let script = format!(
            "fio --name=verify --filename={device} --offset={from}M --size={mib}M \
             --rw=randrw --rwmixread=30 --bsrange=4k-256k --iodepth=32 --ioengine=libaio \
             --direct=1 --verify=crc32c --verify_fatal=1 --do_verify=1 --eta=never || exit\n\
             sync\necho \"sum $({})\"",
            checksum_script(&device, from, mib)
        );
        Ok(Self {
            job: guest.start(dom0, &script, VERIFY_LIMIT)?,
            disk: disk.clone(),
            region,
        })
    }

    /// Waits for its end.
    ///
    /// # Errors
    ///
    /// dom0 has gone, or fio found a wrong block, an I/O error or no end.
    pub fn end(self, dom0: &mut Dom0) -> anyhow::Result<Written> {
        let printed = dom0
            .finish(self.job)?
            .success()
            .context("fio in the guest")?;
        let checksum = printed
            .lines()
            .find_map(|line| line.strip_prefix("sum "))
            .with_context(|| format!("the guest printed no checksum:\n{printed}"))?;
        Ok(Written {
            disk: self.disk,
            region: self.region,
            checksum: checksum.to_owned(),
        })
    }

    /// Starts it and waits for its end.
    ///
    /// # Errors
    ///
    /// As [`Load::start`] and [`Load::end`].
    pub fn run(
        dom0: &mut Dom0,
        guest: &Guest,
        disk: &Disk,
        region: Region,
    ) -> anyhow::Result<Written> {
        Self::start(dom0, guest, disk, region)?.end(dom0)
    }
}

impl Written {
    /// Checks that the image in dom0 holds what the guest read.
    ///
    /// # Errors
    ///
    /// dom0 has gone, or the image differs.
    pub fn check(&self, dom0: &mut Dom0) -> anyhow::Result<()> {
        let Region { from, mib } = self.region;
        let found = self.disk.checksum(dom0, from, mib)?;
        ensure!(
            found == self.checksum,
            "{mib} MiB at {from} MiB of {}: the guest read {}, dom0 reads {found}",
            self.disk.path,
            self.checksum
        );
        Ok(())
    }
}

/// Keeps `disk` under random writes of 4 to 128 KiB at depth 32 for at most ten minutes, and
/// returns once the first thousand or so are through.
///
/// # Errors
///
/// dom0 or the guest has gone, or nothing was written within a minute.
pub fn keep_busy(
    dom0: &mut Dom0,
    guest: &Guest,
    disk: &Disk,
    region: Region,
) -> anyhow::Result<()> {
    let Region { from, mib } = region;
    let device = disk.device;
    let script = format!(
        "written() {{ awk '{{ print $5 }}' /sys/block/{device}/stat; }}\n\
         before=$(written)\n\
         fio --name=busy --filename=/dev/{device} --offset={from}M --size={mib}M --rw=randwrite \
         --bsrange=4k-128k --iodepth=32 --ioengine=libaio --direct=1 --time_based --runtime=600 \
         --eta=never > /tmp/busy.log 2>&1 &\n\
         for _ in $(seq 300); do\n\
         [ $(written) -gt $((before + 1000)) ] && exit 0; sleep 0.2\ndone\n\
         cat /tmp/busy.log; exit 1"
    );
    guest.sh(dom0, &script, Duration::from_secs(60))?;
    Ok(())
}
