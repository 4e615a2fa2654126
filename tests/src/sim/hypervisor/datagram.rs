//! Words and descriptors over a `SOCK_SEQPACKET` socket.

use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags,
};

/// Most words in one datagram, on either side.
const MAX_WORDS: usize = gntdev::sim::wire::MAX_WORDS;

/// Most descriptors with one datagram.
const MAX_FDS: usize = 2;

/// One datagram.
#[derive(Debug, Default)]
pub(super) struct Datagram {
    pub(super) words: Vec<u32>,
    pub(super) fds: Vec<OwnedFd>,
}

pub(super) fn send(socket: BorrowedFd<'_>, datagram: &Datagram) -> Result<(), Errno> {
    let bytes: Vec<u8> = datagram
        .words
        .iter()
        .flat_map(|w| w.to_ne_bytes())
        .collect();
    let fds: Vec<BorrowedFd<'_>> = datagram.fds.iter().map(AsFd::as_fd).collect();
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !fds.is_empty() && !control.push(SendAncillaryMessage::ScmRights(&fds)) {
        return Err(Errno::MSGSIZE);
    }
    let parts = [IoSlice::new(&bytes)];
    rustix::net::sendmsg(socket, &parts, &mut control, SendFlags::NOSIGNAL).map(drop)
}

/// The next datagram; one without words is the end of the connection.
pub(super) fn receive(socket: BorrowedFd<'_>) -> Result<Datagram, Errno> {
    let mut bytes = vec![0u8; MAX_WORDS * 4];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let received = loop {
        let mut parts = [IoSliceMut::new(&mut bytes)];
        match rustix::net::recvmsg(socket, &mut parts, &mut control, RecvFlags::CMSG_CLOEXEC) {
            Ok(message) => break message.bytes,
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
    };
    let mut fds = Vec::new();
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(rights) = message {
            fds.extend(rights);
        }
    }
    let (words, _) = bytes[..received].as_chunks::<4>();
    let words = words.iter().map(|&w| u32::from_ne_bytes(w)).collect();
    Ok(Datagram { words, fds })
}
