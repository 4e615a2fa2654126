//! The ioctls of `/dev/xen/evtchn` (`include/uapi/xen/evtchn.h`, checked against Linux 6.1 and 6.12).
#![expect(unsafe_code, reason = "ioctl(2) takes raw pointers")]

use std::os::fd::{AsRawFd, BorrowedFd};

use rustix::io::Errno;

/// `_IOC(_IOC_NONE, 'E', nr, size)`: all event-channel ioctls carry no direction bits.
const fn ioc(nr: u32, size: usize) -> u32 {
    assert!(size < 1 << 14, "the size field has 14 bits");
    #[expect(clippy::cast_possible_truncation, reason = "checked above")]
    let size = size as u32;
    size << 16 | (b'E' as u32) << 8 | nr
}

const BIND_VIRQ: u32 = ioc(0, size_of::<BindVirq>());
const BIND_INTERDOMAIN: u32 = ioc(1, size_of::<BindInterdomain>());
const BIND_UNBOUND_PORT: u32 = ioc(2, size_of::<BindUnbound>());
const UNBIND: u32 = ioc(3, size_of::<Port>());
const NOTIFY: u32 = ioc(4, size_of::<Port>());
const RESET: u32 = ioc(5, 0);
const RESTRICT_DOMID: u32 = ioc(6, size_of::<RestrictDomid>());

/// `struct ioctl_evtchn_bind_virq`.
#[repr(C)]
struct BindVirq {
    virq: u32,
}

/// `struct ioctl_evtchn_bind_interdomain`.
#[repr(C)]
struct BindInterdomain {
    remote_domain: u32,
    remote_port: u32,
}

/// `struct ioctl_evtchn_bind_unbound_port`.
#[repr(C)]
struct BindUnbound {
    remote_domain: u32,
}

/// `struct ioctl_evtchn_unbind` and `struct ioctl_evtchn_notify`.
#[repr(C)]
struct Port {
    port: u32,
}

/// `struct ioctl_evtchn_restrict_domid`.
#[repr(C)]
struct RestrictDomid {
    domid: u16,
}

/// Binds `remote_port` of `remote_domain`; the new local port.
pub(crate) fn bind_interdomain(
    fd: BorrowedFd<'_>,
    remote_domain: u16,
    remote_port: u32,
) -> Result<u32, Errno> {
    let mut argument = BindInterdomain {
        remote_domain: u32::from(remote_domain),
        remote_port,
    };
    call(fd, BIND_INTERDOMAIN, &mut argument)
}

/// Allocates a local port that `remote_domain` may bind.
pub(crate) fn bind_unbound(fd: BorrowedFd<'_>, remote_domain: u16) -> Result<u32, Errno> {
    let mut argument = BindUnbound {
        remote_domain: u32::from(remote_domain),
    };
    call(fd, BIND_UNBOUND_PORT, &mut argument)
}

/// Binds the virtual interrupt `virq`; the new local port.
pub(crate) fn bind_virq(fd: BorrowedFd<'_>, virq: u32) -> Result<u32, Errno> {
    call(fd, BIND_VIRQ, &mut BindVirq { virq })
}

/// Closes `port`.
pub(crate) fn unbind(fd: BorrowedFd<'_>, port: u32) -> Result<(), Errno> {
    call(fd, UNBIND, &mut Port { port }).map(drop)
}

/// Signals the other end of `port`.
pub(crate) fn notify(fd: BorrowedFd<'_>, port: u32) -> Result<(), Errno> {
    call(fd, NOTIFY, &mut Port { port }).map(drop)
}

/// Empties the ring of fired ports and clears its overflow mark.
pub(crate) fn reset(fd: BorrowedFd<'_>) -> Result<(), Errno> {
    // The kernel takes no argument; a byte that nobody reads keeps one call path.
    call(fd, RESET, &mut 0u8).map(drop)
}

/// Lets the handle bind ports of `domid` only, for good.
pub(crate) fn restrict(fd: BorrowedFd<'_>, domid: u16) -> Result<(), Errno> {
    call(fd, RESTRICT_DOMID, &mut RestrictDomid { domid }).map(drop)
}

/// One ioctl. The value it returns is a port number, or 0.
fn call<T>(fd: BorrowedFd<'_>, request: u32, argument: &mut T) -> Result<u32, Errno> {
    // SAFETY: `argument` is a live, exclusively borrowed value of the struct that `request` names
    // (sizes asserted below against the numbers in the header), and the driver keeps no pointer.
    let rc = unsafe {
        libc::ioctl(
            fd.as_raw_fd(),
            libc::Ioctl::from(request),
            std::ptr::from_mut(argument),
        )
    };
    // Negative means "look at errno", and only then.
    u32::try_from(rc).map_err(|_| last_errno())
}

/// The calling thread's errno, as libc's wrappers leave it.
fn last_errno() -> Errno {
    Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ioctl_numbers_are_those_of_the_header() {
        assert_eq!(BIND_VIRQ, 0x0004_4500);
        assert_eq!(BIND_INTERDOMAIN, 0x0008_4501);
        assert_eq!(BIND_UNBOUND_PORT, 0x0004_4502);
        assert_eq!(UNBIND, 0x0004_4503);
        assert_eq!(NOTIFY, 0x0004_4504);
        assert_eq!(RESET, 0x0000_4505);
        assert_eq!(RESTRICT_DOMID, 0x0002_4506);
    }

    #[test]
    fn a_port_and_a_domid_are_as_wide_as_xen_says() {
        assert_eq!(size_of::<Port>(), size_of::<xen_sys::evtchn_port_t>());
        assert_eq!(size_of::<RestrictDomid>(), size_of::<xen_sys::domid_t>());
    }

    #[test]
    fn the_interdomain_struct_names_the_domain_first() {
        assert_eq!(std::mem::offset_of!(BindInterdomain, remote_domain), 0);
        assert_eq!(std::mem::offset_of!(BindInterdomain, remote_port), 4);
    }

    #[test]
    fn an_ioctl_on_the_wrong_file_is_an_errno_not_a_port() {
        use std::os::fd::AsFd;
        let file = std::fs::File::open("/dev/null").unwrap();
        assert_eq!(bind_interdomain(file.as_fd(), 1, 1), Err(Errno::NOTTY));
        assert_eq!(reset(file.as_fd()), Err(Errno::NOTTY));
    }
}
