//! What only the kernel's C interface has: namespaces for a thread, and packet sockets.
#![expect(unsafe_code, reason = "unshare, bind and setsockopt")]

use std::ffi::CString;
use std::io;
use std::mem::size_of;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

/// Gives this thread, and the processes that it starts, a network of its own.
pub(super) fn own_network() -> io::Result<()> {
    unshare(libc::CLONE_NEWNET)
}

/// Gives this thread, and the processes that it starts, mounts of its own.
pub(super) fn own_mounts() -> io::Result<()> {
    unshare(libc::CLONE_NEWNS)
}

fn unshare(what: libc::c_int) -> io::Result<()> {
    // SAFETY: unshare takes no address, and the namespaces of a thread are nothing that memory
    // safety depends on.
    checked(unsafe { libc::unshare(what) }).map(drop)
}

/// A socket that sees what arrives at an interface of this thread's network, each frame behind a
/// virtio header, and nothing that leaves it.
pub(super) fn packet_socket(interface: &str) -> io::Result<OwnedFd> {
    let name = CString::new(interface)?;
    // SAFETY: `name` is a string that ends with 0.
    let index = unsafe { libc::if_nametoindex(name.as_ptr()) };
    if index == 0 {
        return Err(io::Error::last_os_error());
    }
    let kind = libc::SOCK_RAW | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
    // No protocol yet: nothing is queued before it is bound.
    // SAFETY: socket takes no address.
    let raw = checked(unsafe { libc::socket(libc::AF_PACKET, kind, 0) })?;
    // SAFETY: a new descriptor that nobody else has.
    let socket = unsafe { OwnedFd::from_raw_fd(raw) };
    option(&socket, libc::SOL_PACKET, VNET_HDR, 1)?;
    option(&socket, libc::SOL_PACKET, IGNORE_OUTGOING, 1)?;
    option(&socket, libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, 16 << 20)?;
    option(&socket, libc::SOL_SOCKET, libc::SO_SNDBUFFORCE, 16 << 20)?;
    bind(&socket, index)?;
    Ok(socket)
}

fn option(socket: &OwnedFd, level: i32, option: i32, value: i32) -> io::Result<()> {
    let len = libc::socklen_t::try_from(size_of::<i32>()).unwrap_or(0);
    // SAFETY: `value` is an i32, and `len` its size.
    let done = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            level,
            option,
            std::ptr::from_ref(&value).cast(),
            len,
        )
    };
    checked(done).map(drop)
}

fn bind(socket: &OwnedFd, index: u32) -> io::Result<()> {
    let family = u16::try_from(libc::AF_PACKET).unwrap_or(0);
    let all = u16::try_from(libc::ETH_P_ALL).unwrap_or(0);
    let address = libc::sockaddr_ll {
        sll_family: family,
        sll_protocol: all.to_be(),
        sll_ifindex: i32::try_from(index).unwrap_or(0),
        sll_hatype: 0,
        sll_pkttype: 0,
        sll_halen: 0,
        sll_addr: [0; 8],
    };
    let len = libc::socklen_t::try_from(size_of::<libc::sockaddr_ll>()).unwrap_or(0);
    // SAFETY: `address` is a sockaddr_ll, and `len` its size.
    let done = unsafe { libc::bind(socket.as_raw_fd(), std::ptr::from_ref(&address).cast(), len) };
    checked(done).map(drop)
}

fn checked(done: libc::c_int) -> io::Result<libc::c_int> {
    if done < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(done)
}

// `linux/if_packet.h`.
const VNET_HDR: i32 = 15;
const IGNORE_OUTGOING: i32 = 23;
