//! Hearing that rules have changed, whoever has changed them.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;
use rustix::net::netlink::{self, SocketAddrNetlink};
use rustix::net::{AddressFamily, RecvFlags, SocketFlags, SocketType, bind, recv, socket_with};

/// `NFNLGRP_NFTABLES` of `linux/netfilter/nfnetlink.h`, as a bit.
const NFTABLES: u32 = 1 << (7 - 1);

/// The kernel's word of every change to nftables in this network namespace, from now on.
#[derive(Debug)]
pub struct Watch {
    socket: OwnedFd,
}

impl Watch {
    /// Begins to listen.
    ///
    /// # Errors
    /// The kernel has no nftables, or we may not.
    pub fn open() -> io::Result<Self> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let protocol = Some(netlink::NETFILTER);
        let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, protocol)?;
        bind(&socket, &SocketAddrNetlink::new(0, NFTABLES))?;
        Ok(Self { socket })
    }

    /// For poll: readable when something has changed.
    #[must_use]
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// Has anything changed since this was last asked? What it was does not matter: messages get lost
    /// when there are many.
    #[must_use]
    pub fn has_heard(&self) -> bool {
        let mut has_heard = false;
        let mut message = [0; 64];
        loop {
            match recv(&self.socket, &mut message, RecvFlags::DONTWAIT) {
                Ok(_) | Err(Errno::NOBUFS) => has_heard = true,
                Err(Errno::INTR) => {}
                Err(_nothing) => return has_heard,
            }
        }
    }
}
