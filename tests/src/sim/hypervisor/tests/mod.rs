//! The machine itself: what only a simulation can be asked.

mod bells;
mod grants;
mod guests;
mod server;

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use evtchn::{Evtchn, EvtchnError, LocalPort, RemotePort};
use gntdev::sim::wire as grant_wire;
use gntdev::{
    Access, CopyDirection, CopySegment, Gntdev, GrantError, GrantStatus, LocalPages, PAGE_SIZE,
};
use ring_proto::{DomId, GrantRef, RingMemory};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};

use super::datagram::{self, Datagram};
use super::{Control, GuestDomain, GuestPages, SimError, StillInUse, wire};
use crate::sim::Machine;

/// A machine, a guest with one granted page, and a backend's handle.
struct Bench {
    machine: Machine,
    control: Control,
    guest: Arc<GuestDomain>,
    page: GuestPages,
    gref: GrantRef,
    grants: Gntdev,
}

impl Bench {
    fn new() -> Self {
        let machine = Machine::temporary().unwrap();
        let guest = machine.guest(64).unwrap();
        let page = guest.allocate(1).unwrap();
        Self {
            control: machine.control().unwrap(),
            gref: guest.grant(page.frame(0), Access::ReadWrite).unwrap(),
            grants: Gntdev::open_sim(machine.dir()).unwrap(),
            page,
            guest,
            machine,
        }
    }

    fn map(&self, grefs: &[GrantRef]) -> Result<gntdev::Mapping, GrantError> {
        self.grants
            .map(self.guest.domid(), grefs, Access::ReadWrite)
    }

    fn copy(&self, gref: GrantRef) -> GrantStatus {
        let pages = LocalPages::new(1).unwrap();
        let mut segments = [CopySegment::new(gref, 0, 0, 8, CopyDirection::FromGuest)];
        self.grants
            .copy(self.guest.domid(), &pages, &mut segments)
            .unwrap();
        segments[0].status
    }

    fn refusal(&self, gref: GrantRef) -> Option<GrantStatus> {
        match self.map(&[gref]) {
            Err(GrantError::MapRefused { status, .. }) => status,
            other => panic!("not refused: {other:?}"),
        }
    }

    fn violations(&self) -> Vec<String> {
        self.control.violations().unwrap()
    }
}

/// A client that says whatever a test wants it to.
struct Raw(OwnedFd);

impl Raw {
    fn connect(dir: &Path) -> Self {
        let (family, kind) = (AddressFamily::UNIX, SocketType::SEQPACKET);
        let fd = rustix::net::socket_with(family, kind, SocketFlags::CLOEXEC, None).unwrap();
        let address = SocketAddrUnix::new(dir.join(grant_wire::SOCKET)).unwrap();
        rustix::net::connect(&fd, &address).unwrap();
        Self(fd)
    }

    fn say(&self, words: &[u32]) {
        let request = Datagram {
            words: words.to_vec(),
            fds: Vec::new(),
        };
        datagram::send(self.0.as_fd(), &request).unwrap();
    }

    fn ask(&self, words: &[u32]) -> Vec<u32> {
        self.say(words);
        datagram::receive(self.0.as_fd()).unwrap().words
    }
}

/// Waits until `done`, as the server learns of a hang-up when it gets there.
fn eventually(mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !done() {
        assert!(Instant::now() < deadline, "it never happened");
        std::thread::yield_now();
    }
}

fn errno(errno: Errno) -> u32 {
    errno.raw_os_error().unsigned_abs()
}
