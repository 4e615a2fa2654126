//! The measures of an image: size, block sizes, discard.

use std::fs;
use std::io;
use std::os::fd::BorrowedFd;
use std::path::Path;

use rustix::fs::{
    FallocateFlags, SeekFrom, StatxFlags, fallocate, fstat, fstatfs, ioctl_blkpbszget,
    ioctl_blksszget, seek,
};

use super::{DeviceNumber, Refusal, Shape};
use crate::spec::DiscardSpec;

/// What guests see of a regular file: the size every operating system can boot from.
const FILE_SECTOR: u32 = 512;

/// Measures an open file or block device; `discard` is left out.
///
/// # Errors
/// A size that cannot be told to a guest.
pub(super) fn measure(
    file: BorrowedFd<'_>,
    path: &Path,
    block_device: bool,
) -> Result<Shape, Refusal> {
    let failed = |doing| {
        move |errno: rustix::io::Errno| Refusal::System {
            path: path.to_owned(),
            doing,
            error: io::Error::from(errno),
        }
    };
    let (size, sector_size, physical) = if block_device {
        let size = seek(file, SeekFrom::End(0)).map_err(failed("measuring it"))?;
        let logical = ioctl_blksszget(file).map_err(failed("reading its block size"))?;
        let physical = ioctl_blkpbszget(file).map_err(failed("reading its block size"))?;
        (size, logical, physical)
    } else {
        let stat = fstat(file).map_err(failed("measuring it"))?;
        let physical = u32::try_from(stat.st_blksize).unwrap_or(FILE_SECTOR);
        (
            stat.st_size.cast_unsigned(),
            FILE_SECTOR,
            physical.min(4096),
        )
    };
    let path = path.to_owned();
    if sector_size != 512 && sector_size != 4096 {
        return Err(Refusal::SectorSize { path, sector_size });
    }
    if size == 0 {
        return Err(Refusal::Empty { path });
    }
    if !size.is_multiple_of(u64::from(sector_size)) {
        return Err(Refusal::Ragged {
            path,
            size,
            sector_size,
        });
    }
    Ok(Shape {
        sectors: size / 512,
        sector_size,
        physical_sector_size: physical_hint(size, sector_size, physical),
        block_device,
        discard: None,
    })
}

/// What a discard can do here: nothing when it is unsupported or cannot be told.
pub(super) fn discard(
    file: BorrowedFd<'_>,
    shape: &Shape,
    device: Option<DeviceNumber>,
) -> Option<DiscardSpec> {
    match device {
        Some(number) => device_discard(number, shape.sector_size),
        None => file_discard(file, shape),
    }
}

/// Why direct I/O would fail on blocks of `sector_size`, asked of the kernel (6.1 and later;
/// older ones do not know, and `None` is said).
pub(super) fn direct_obstacle(file: BorrowedFd<'_>, sector_size: u32) -> Option<String> {
    let flags = rustix::fs::AtFlags::EMPTY_PATH;
    let statx = rustix::fs::statx(file, "", flags, StatxFlags::DIOALIGN).ok()?;
    if statx.stx_mask & StatxFlags::DIOALIGN.bits() == 0 {
        return None;
    }
    let (memory, offset) = (statx.stx_dio_mem_align, statx.stx_dio_offset_align);
    if memory == 0 || offset == 0 {
        Some("its file system has no direct I/O".to_owned())
    } else if memory.max(offset) > sector_size {
        let need = memory.max(offset);
        Some(format!(
            "its storage wants {need}-byte blocks, the guest has {sector_size}"
        ))
    } else {
        None
    }
}

/// A hint must be a power of two that divides the size: some frontends check (FE-19).
fn physical_hint(size: u64, sector_size: u32, physical: u32) -> u32 {
    if physical.is_power_of_two()
        && physical >= sector_size
        && size.is_multiple_of(u64::from(physical))
    {
        physical
    } else {
        sector_size
    }
}

/// Punches a hole behind the end, which changes nothing: does the file system know how?
fn file_discard(file: BorrowedFd<'_>, shape: &Shape) -> Option<DiscardSpec> {
    let punch = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
    let end = shape.sectors.checked_mul(512)?;
    fallocate(file, punch, end, u64::from(shape.sector_size)).ok()?;
    let block = u32::try_from(fstatfs(file).ok()?.f_bsize).ok()?;
    let granularity = block.max(shape.sector_size);
    (granularity.is_multiple_of(shape.sector_size)).then_some(DiscardSpec {
        granularity,
        alignment: 0,
    })
}

/// A partition has no `queue` of its own: the disk's, one directory up, counts.
fn device_discard(number: DeviceNumber, sector_size: u32) -> Option<DiscardSpec> {
    let device = format!("/sys/dev/block/{number}");
    let number_in = |name: &str| -> Option<u64> {
        let text = fs::read_to_string(format!("{device}/{name}"))
            .or_else(|_| fs::read_to_string(format!("{device}/../{name}")))
            .ok()?;
        text.trim().parse().ok()
    };
    if number_in("queue/discard_max_bytes")? == 0 {
        return None;
    }
    let granularity = u32::try_from(number_in("queue/discard_granularity")?).ok()?;
    let granularity = granularity.max(sector_size);
    let alignment = number_in("discard_alignment").and_then(|n| u32::try_from(n).ok())?;
    let whole = granularity.is_multiple_of(sector_size) && alignment.is_multiple_of(sector_size);
    (whole && alignment < granularity).then_some(DiscardSpec {
        granularity,
        alignment,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fe_19_the_physical_size_is_a_hint_that_divides_the_disk() {
        assert_eq!(physical_hint(1 << 20, 512, 4096), 4096);
        assert_eq!(physical_hint(4096 + 512, 512, 4096), 512);
        assert_eq!(physical_hint(1 << 20, 4096, 512), 4096);
        assert_eq!(physical_hint(1 << 20, 512, 3000), 512);
        assert_eq!(physical_hint(1 << 20, 512, 0), 512);
    }
}
