//! The ioctls of `/dev/xen/gntdev` (`include/uapi/xen/gntdev.h`, checked against Linux 6.1 and 6.12).
#![expect(unsafe_code, reason = "ioctl(2) takes raw pointers")]

use std::os::fd::{AsRawFd, BorrowedFd};

use ring_proto::{DomId, GrantRef};
use rustix::io::Errno;

/// `_IOC(_IOC_NONE, 'G', nr, size)`: all grant ioctls carry no direction bits.
pub(super) const fn ioc(nr: u32, size: usize) -> u32 {
    assert!(size < 1 << 14, "the size field has 14 bits");
    #[expect(clippy::cast_possible_truncation, reason = "checked above")]
    let size = size as u32;
    size << 16 | (b'G' as u32) << 8 | nr
}

const MAP_GRANT_REF: u32 = ioc(0, size_of::<MapOneGrantRef>());
const UNMAP_GRANT_REF: u32 = ioc(1, size_of::<UnmapGrantRef>());
const GRANT_COPY: u32 = ioc(8, size_of::<GrantCopy>());

/// `struct ioctl_gntdev_map_grant_ref` with its one declared reference. More follow in the same
/// buffer; the number in the ioctl stays that of one.
#[repr(C)]
struct MapOneGrantRef {
    count: u32,
    pad: u32,
    index: u64,
    domid: u32,
    gref: u32,
}

/// `struct ioctl_gntdev_unmap_grant_ref`.
#[repr(C)]
struct UnmapGrantRef {
    index: u64,
    count: u32,
    pad: u32,
}

/// `struct ioctl_gntdev_grant_copy`.
#[repr(C)]
struct GrantCopy {
    count: u32,
    pad: u32,
    segments: *mut Segment,
}

/// `struct gntdev_grant_copy_segment`. The unions of a pointer and a foreign address are both eight
/// bytes: see [`local`] and [`foreign`].
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Segment {
    pub(crate) source: u64,
    pub(crate) dest: u64,
    pub(crate) len: u16,
    pub(crate) flags: u16,
    pub(crate) status: i16,
}

/// `GNTCOPY_source_gref`: `source` is foreign.
pub(crate) const SOURCE_IS_GRANT: u16 = 1;
/// `GNTCOPY_dest_gref`: `dest` is foreign.
pub(crate) const DEST_IS_GRANT: u16 = 2;

/// The union's `virt`.
pub(crate) fn local(address: *mut u8) -> u64 {
    address.expose_provenance() as u64
}

/// The union's `foreign`: reference, offset, domain.
pub(crate) fn foreign(gref: GrantRef, offset: u16, domid: DomId) -> u64 {
    let mut bytes = [0u8; 8];
    bytes[0..4].copy_from_slice(&gref.raw().to_ne_bytes());
    bytes[4..6].copy_from_slice(&offset.to_ne_bytes());
    bytes[6..8].copy_from_slice(&domid.raw().to_ne_bytes());
    u64::from_ne_bytes(bytes)
}

/// Registers `grefs` of `domid`; the offset at which to mmap them.
pub(crate) fn map(fd: BorrowedFd<'_>, domid: DomId, grefs: &[GrantRef]) -> Result<u64, Errno> {
    let count = u32::try_from(grefs.len()).map_err(|_| Errno::INVAL)?;
    let pair = |low: u32, high: u32| {
        let mut bytes = [0u8; 8];
        bytes[0..4].copy_from_slice(&low.to_ne_bytes());
        bytes[4..8].copy_from_slice(&high.to_ne_bytes());
        u64::from_ne_bytes(bytes)
    };
    let mut buffer = Vec::with_capacity(2 + grefs.len());
    buffer.extend([pair(count, 0), 0]);
    buffer.extend(
        grefs
            .iter()
            .map(|gref| pair(u32::from(domid.raw()), gref.raw())),
    );
    // SAFETY: the buffer is laid out as the struct (asserted below), aligned to 8 and holds `count`
    // references; the driver reads them, writes `index`, and keeps no pointer.
    unsafe { call(fd, MAP_GRANT_REF, buffer.as_mut_ptr()) }?;
    Ok(buffer[1])
}

/// Forgets the registration at `index`, and unmaps where the kernel has not done so already.
pub(crate) fn unmap(fd: BorrowedFd<'_>, index: u64, count: u32) -> Result<(), Errno> {
    let mut argument = UnmapGrantRef {
        index,
        count,
        pad: 0,
    };
    // SAFETY: `argument` is the struct that the number names; the driver only reads it.
    unsafe { call(fd, UNMAP_GRANT_REF, &raw mut argument) }
}

/// Carries out `segments`; each has its own `status` afterwards.
///
/// # Safety
/// The local side of every segment is memory that may be read or written for its length.
pub(crate) unsafe fn copy(fd: BorrowedFd<'_>, segments: &mut [Segment]) -> Result<(), Errno> {
    let mut argument = GrantCopy {
        count: u32::try_from(segments.len()).map_err(|_| Errno::INVAL)?,
        pad: 0,
        segments: segments.as_mut_ptr(),
    };
    // SAFETY: `argument` is the struct that the number names and points to `count` segments, which
    // are borrowed exclusively; the local addresses in them are vouched for by the caller.
    unsafe { call(fd, GRANT_COPY, &raw mut argument) }
}

/// One ioctl that answers 0 or fails.
///
/// # Safety
/// `argument` points to what `request` expects, valid for the call.
pub(super) unsafe fn call<T>(
    fd: BorrowedFd<'_>,
    request: u32,
    argument: *mut T,
) -> Result<(), Errno> {
    // SAFETY: as promised by the caller.
    let rc = unsafe { libc::ioctl(fd.as_raw_fd(), libc::Ioctl::from(request), argument) };
    if rc < 0 {
        let error = std::io::Error::last_os_error();
        return Err(Errno::from_io_error(&error).unwrap_or(Errno::IO));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::mem::offset_of;
    use std::os::fd::AsFd;

    use super::*;

    #[test]
    fn ioctl_numbers_are_those_of_the_header() {
        assert_eq!(MAP_GRANT_REF, 0x0018_4700);
        assert_eq!(UNMAP_GRANT_REF, 0x0010_4701);
        assert_eq!(GRANT_COPY, 0x0010_4708);
    }

    #[test]
    fn structs_are_laid_out_as_in_the_header() {
        assert_eq!(size_of::<MapOneGrantRef>(), 24);
        assert_eq!(offset_of!(MapOneGrantRef, index), 8);
        assert_eq!(offset_of!(MapOneGrantRef, domid), 16);
        assert_eq!(offset_of!(MapOneGrantRef, gref), 20);
        assert_eq!(offset_of!(UnmapGrantRef, count), 8);
        assert_eq!(offset_of!(GrantCopy, segments), 8);
        assert_eq!(size_of::<Segment>(), 24);
        assert_eq!(offset_of!(Segment, dest), 8);
        assert_eq!(offset_of!(Segment, len), 16);
        assert_eq!(offset_of!(Segment, flags), 18);
        assert_eq!(offset_of!(Segment, status), 20);
    }

    #[test]
    fn a_foreign_address_is_reference_offset_domain() {
        let bytes = foreign(GrantRef::new(0x0403_0201), 0x0605, DomId::new(0x0807)).to_le_bytes();
        #[cfg(target_endian = "little")]
        assert_eq!(bytes, [1, 2, 3, 4, 5, 6, 7, 8]);
        assert_eq!(size_of::<xen_sys::domid_t>(), size_of::<u16>());
    }

    #[test]
    fn an_ioctl_on_the_wrong_file_is_an_errno() {
        let file = std::fs::File::open("/dev/null").unwrap();
        let map = map(file.as_fd(), DomId::new(1), &[GrantRef::new(8)]);
        assert_eq!(map, Err(Errno::NOTTY));
        assert_eq!(unmap(file.as_fd(), 0, 1), Err(Errno::NOTTY));
    }
}
