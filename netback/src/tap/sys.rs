//! The ioctls of `/dev/net/tun` and of network interfaces (`linux/if_tun.h`, `linux/sockios.h`).
#![expect(unsafe_code, reason = "ioctls take raw addresses")]

use std::os::fd::{AsRawFd, BorrowedFd};

use rustix::io::Errno;

/// The longest name of an interface, in bytes without the terminator (`IFNAMSIZ` - 1).
pub(super) const NAME_MAX: usize = 15;

/// `struct ifreq`: a name, and a union of 24 bytes.
#[repr(C)]
#[derive(Clone, Copy)]
struct Request {
    name: [u8; NAME_MAX + 1],
    body: [u8; 24],
}

/// What an `ifreq` carries besides the name.
pub(super) enum Ask {
    /// Two bytes: flags.
    Flags(u16),
    /// Four bytes: a number.
    Number(i32),
    /// `struct sockaddr` of `ARPHRD_ETHER`.
    Address([u8; 6]),
}

/// An ioctl on the interface `name`; the union as the kernel left it.
pub(super) fn interface(
    fd: BorrowedFd<'_>,
    code: libc::Ioctl,
    name: &str,
    ask: &Ask,
) -> Result<[u8; 24], Errno> {
    let mut request = Request {
        name: [0; NAME_MAX + 1],
        body: [0; 24],
    };
    request
        .name
        .get_mut(..name.len())
        .filter(|_| name.len() <= NAME_MAX)
        .ok_or(Errno::NAMETOOLONG)?
        .copy_from_slice(name.as_bytes());
    match ask {
        Ask::Flags(flags) => request.body[..2].copy_from_slice(&flags.to_ne_bytes()),
        Ask::Number(number) => request.body[..4].copy_from_slice(&number.to_ne_bytes()),
        Ask::Address(address) => {
            request.body[..2].copy_from_slice(&libc::ARPHRD_ETHER.to_ne_bytes());
            request.body[2..8].copy_from_slice(address);
        }
    }
    // SAFETY: every code that is used here reads and writes one `ifreq`, of 40 bytes, at the address
    // that it is given.
    let done = unsafe { libc::ioctl(fd.as_raw_fd(), code, &raw mut request) };
    if done < 0 {
        Err(last())
    } else {
        Ok(request.body)
    }
}

/// The current name of the interface behind a queue of a tap.
pub(super) fn name_of(fd: BorrowedFd<'_>) -> Result<String, Errno> {
    let mut request = Request {
        name: [0; NAME_MAX + 1],
        body: [0; 24],
    };
    // SAFETY: TUNGETIFF writes one `ifreq` at the address that it is given.
    let done = unsafe { libc::ioctl(fd.as_raw_fd(), TUNGETIFF, &raw mut request) };
    if done < 0 {
        return Err(last());
    }
    let name = request.name.split(|&byte| byte == 0).next();
    Ok(String::from_utf8_lossy(name.unwrap_or_default()).into_owned())
}

/// An ioctl that takes a number for its argument.
pub(super) fn value(fd: BorrowedFd<'_>, code: libc::Ioctl, value: u32) -> Result<(), Errno> {
    // SAFETY: the codes that are used here (TUNSETOFFLOAD, TUNSETPERSIST) take a number, no address.
    let done = unsafe { libc::ioctl(fd.as_raw_fd(), code, libc::c_ulong::from(value)) };
    if done < 0 { Err(last()) } else { Ok(()) }
}

/// An ioctl that takes the address of an int.
pub(super) fn pointed(fd: BorrowedFd<'_>, code: libc::Ioctl, value: i32) -> Result<(), Errno> {
    // SAFETY: the codes that are used here (TUNSETVNETHDRSZ, TUNSETCARRIER) read one int at the
    // address that they are given.
    let done = unsafe { libc::ioctl(fd.as_raw_fd(), code, &raw const value) };
    if done < 0 { Err(last()) } else { Ok(()) }
}

fn last() -> Errno {
    Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO)
}

/// `_IOW('T', number, int)`.
const fn iow(number: libc::Ioctl) -> libc::Ioctl {
    1 << 30 | 4 << 16 | (b'T' as libc::Ioctl) << 8 | number
}

pub(super) const TUNSETIFF: libc::Ioctl = iow(202);
pub(super) const TUNSETPERSIST: libc::Ioctl = iow(203);
pub(super) const TUNSETOFFLOAD: libc::Ioctl = iow(208);
pub(super) const TUNGETIFF: libc::Ioctl = 2 << 30 | 4 << 16 | (b'T' as libc::Ioctl) << 8 | 210;
pub(super) const TUNSETVNETHDRSZ: libc::Ioctl = iow(216);
pub(super) const TUNSETQUEUE: libc::Ioctl = iow(217);
pub(super) const TUNSETCARRIER: libc::Ioctl = iow(226);

pub(super) const SIOCGIFMTU: libc::Ioctl = 0x8921;
pub(super) const SIOCSIFFLAGS: libc::Ioctl = 0x8914;
pub(super) const SIOCSIFMTU: libc::Ioctl = 0x8922;
pub(super) const SIOCSIFHWADDR: libc::Ioctl = 0x8924;
pub(super) const SIOCSIFTXQLEN: libc::Ioctl = 0x8943;

pub(super) const IFF_TAP: u16 = 0x0002;
pub(super) const IFF_NO_CARRIER: u16 = 0x0040;
pub(super) const IFF_MULTI_QUEUE: u16 = 0x0100;
pub(super) const IFF_DETACH_QUEUE: u16 = 0x0400;
pub(super) const IFF_NO_PI: u16 = 0x1000;
pub(super) const IFF_VNET_HDR: u16 = 0x4000;
pub(super) const IFF_TUN_EXCL: u16 = 0x8000;

pub(super) const TUN_F_CSUM: u32 = 1;
pub(super) const TUN_F_TSO4: u32 = 2;
pub(super) const TUN_F_TSO6: u32 = 4;
pub(super) const TUN_F_TSO_ECN: u32 = 8;

/// Gives this thread, and the processes that it starts, a network of its own.
#[cfg(test)]
pub(super) fn own_network() -> std::io::Result<()> {
    // SAFETY: unshare takes no address; a thread's network namespace is nothing that memory safety
    // depends on.
    let done = unsafe { libc::unshare(libc::CLONE_NEWNET) };
    if done < 0 {
        return Err(std::io::Error::last_os_error());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_those_of_the_headers() {
        assert_eq!(size_of::<Request>(), 40);
        let numbers = [
            (TUNSETIFF, 0x4004_54ca),
            (TUNSETPERSIST, 0x4004_54cb),
            (TUNSETOFFLOAD, 0x4004_54d0),
            (TUNGETIFF, 0x8004_54d2),
            (TUNSETVNETHDRSZ, 0x4004_54d8),
            (TUNSETQUEUE, 0x4004_54d9),
            (TUNSETCARRIER, 0x4004_54e2),
        ];
        for (ours, header) in numbers {
            assert_eq!(ours, header);
        }
    }
}
