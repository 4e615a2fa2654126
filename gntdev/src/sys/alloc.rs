//! The ioctls of `/dev/xen/gntalloc` (`include/uapi/xen/gntalloc.h`, checked against Linux 6.1 and
//! 6.12).
#![expect(unsafe_code, reason = "ioctl(2) takes raw pointers")]

use std::os::fd::BorrowedFd;

use ring_proto::{DomId, GrantRef};
use rustix::io::Errno;

use super::ioctl::{call, ioc};

const ALLOC_GREF: u32 = ioc(5, size_of::<AllocOneGref>());
const DEALLOC_GREF: u32 = ioc(6, size_of::<DeallocGref>());

/// `GNTALLOC_FLAG_WRITABLE`.
const WRITABLE: u16 = 1;

/// `struct ioctl_gntalloc_alloc_gref` with its one declared reference; more follow in the same
/// buffer.
#[repr(C)]
struct AllocOneGref {
    domid: u16,
    flags: u16,
    count: u32,
    index: u64,
    gref: u32,
}

/// `struct ioctl_gntalloc_dealloc_gref`.
#[repr(C)]
struct DeallocGref {
    index: u64,
    count: u32,
}

/// Allocates `count` zeroed pages that `domid` may read and write: the offset at which to mmap them,
/// and their references.
pub(crate) fn alloc(
    fd: BorrowedFd<'_>,
    domid: DomId,
    count: usize,
) -> Result<(u64, Vec<GrantRef>), Errno> {
    let pages = u32::try_from(count).map_err(|_| Errno::INVAL)?;
    let mut head = [0u8; 8];
    head[0..2].copy_from_slice(&domid.raw().to_ne_bytes());
    head[2..4].copy_from_slice(&WRITABLE.to_ne_bytes());
    head[4..8].copy_from_slice(&pages.to_ne_bytes());
    // Words of eight bytes, for the alignment: two for what is in front of the references.
    let mut buffer = vec![0u64; 2 + count.div_ceil(2)];
    buffer[0] = u64::from_ne_bytes(head);
    // SAFETY: the buffer is laid out as the struct (asserted below), aligned to 8, and has room for
    // `count` references; the driver writes `index` and those, and keeps no pointer.
    unsafe { call(fd, ALLOC_GREF, buffer.as_mut_ptr()) }?;
    let (index, grefs) = (buffer[1], buffer.iter().skip(2));
    let halves = grefs.flat_map(|pair| {
        let [a, b, c, d, e, f, g, h] = pair.to_ne_bytes();
        [[a, b, c, d], [e, f, g, h]]
    });
    let grefs = halves.map(|half| GrantRef::new(u32::from_ne_bytes(half)));
    Ok((index, grefs.take(count).collect()))
}

/// Gives back the pages at `index`; their memory must not be mapped any more.
pub(crate) fn dealloc(fd: BorrowedFd<'_>, index: u64, count: usize) -> Result<(), Errno> {
    let count = u32::try_from(count).map_err(|_| Errno::INVAL)?;
    let mut argument = DeallocGref { index, count };
    // SAFETY: `argument` is the struct that the number names; the driver only reads it.
    unsafe { call(fd, DEALLOC_GREF, &raw mut argument) }
}

#[cfg(test)]
mod tests {
    use std::mem::offset_of;
    use std::os::fd::AsFd;

    use super::*;

    #[test]
    fn ioctl_numbers_and_structs_are_those_of_the_header() {
        assert_eq!(ALLOC_GREF, 0x0018_4705);
        assert_eq!(DEALLOC_GREF, 0x0010_4706);
        assert_eq!(offset_of!(AllocOneGref, flags), 2);
        assert_eq!(offset_of!(AllocOneGref, count), 4);
        assert_eq!(offset_of!(AllocOneGref, index), 8);
        assert_eq!(offset_of!(AllocOneGref, gref), 16);
        assert_eq!(offset_of!(DeallocGref, count), 8);
    }

    #[test]
    fn an_ioctl_on_the_wrong_file_is_an_errno() {
        let file = std::fs::File::open("/dev/null").unwrap();
        assert_eq!(alloc(file.as_fd(), DomId::new(0), 3), Err(Errno::NOTTY));
        assert_eq!(dealloc(file.as_fd(), 0, 3), Err(Errno::NOTTY));
    }
}
