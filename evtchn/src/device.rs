//! The `/dev/xen/evtchn` device: one open file is one private set of ports.
//!
//! `read` yields fired ports, each masked until it is written back; the pending bit latches
//! meanwhile, so masking loses nothing (Linux `drivers/xen/evtchn.c`).

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;

use ring_proto::DomId;
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use crate::{EvtchnError, LocalPort, RemotePort, sys};

const PATH: &str = "/dev/xen/evtchn";

/// Most ports moved by one `read` or `write`; callers loop where they have more.
const BATCH: usize = 64;

/// An open `/dev/xen/evtchn`.
#[derive(Debug)]
pub(crate) struct Device {
    fd: OwnedFd,
}

impl Device {
    pub(crate) fn open() -> Result<Self, EvtchnError> {
        let flags = OFlags::RDWR | OFlags::NONBLOCK | OFlags::CLOEXEC;
        match rustix::fs::open(PATH, flags, Mode::empty()) {
            Ok(fd) => Ok(Self { fd }),
            Err(errno) => Err(EvtchnError::Open {
                path: PathBuf::from(PATH),
                errno,
            }),
        }
    }

    /// Takes over an open device. Makes it non-blocking: `pending` must never sleep.
    pub(crate) fn adopt(fd: OwnedFd) -> Result<Self, EvtchnError> {
        rustix::io::ioctl_fionbio(&fd, true).map_err(|e| EvtchnError::of("adopt", e))?;
        Ok(Self { fd })
    }

    pub(crate) fn into_fd(self) -> OwnedFd {
        self.fd
    }

    pub(crate) fn restrict(&self, domid: DomId) -> Result<(), EvtchnError> {
        sys::restrict(self.fd.as_fd(), domid.raw()).map_err(|e| EvtchnError::of("restrict", e))
    }

    pub(crate) fn bind(&self, domid: DomId, port: RemotePort) -> Result<LocalPort, EvtchnError> {
        sys::bind_interdomain(self.fd.as_fd(), domid.raw(), port.0)
            .map(LocalPort::new)
            .map_err(|e| EvtchnError::of_bind(domid, port, e))
    }

    pub(crate) fn bind_unbound(&self, remote: DomId) -> Result<LocalPort, EvtchnError> {
        sys::bind_unbound(self.fd.as_fd(), remote.raw())
            .map(LocalPort::new)
            .map_err(|e| EvtchnError::of("bind_unbound", e))
    }

    pub(crate) fn bind_virq(&self, virq: u32) -> Result<LocalPort, EvtchnError> {
        sys::bind_virq(self.fd.as_fd(), virq)
            .map(LocalPort::new)
            .map_err(|e| EvtchnError::of("bind_virq", e))
    }

    pub(crate) fn unbind(&self, port: LocalPort) -> Result<(), EvtchnError> {
        sys::unbind(self.fd.as_fd(), port.raw())
            .map_err(|e| EvtchnError::of_port("unbind", port, e))
    }

    pub(crate) fn notify(&self, port: LocalPort) -> Result<(), EvtchnError> {
        sys::notify(self.fd.as_fd(), port.raw())
            .map_err(|e| EvtchnError::of_port("notify", port, e))
    }

    pub(crate) fn pending(&self, out: &mut [LocalPort]) -> Result<usize, EvtchnError> {
        let mut bytes = [0u8; BATCH * 4];
        let room = out.len().min(BATCH) * 4;
        let read = loop {
            match rustix::io::read(&self.fd, &mut bytes[..room]) {
                Ok(read) => break read,
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return Ok(0),
                Err(Errno::FBIG) => return Err(self.recover()),
                Err(errno) => return Err(EvtchnError::of("pending", errno)),
            }
        };
        let (ports, _) = bytes[..read].as_chunks::<4>();
        for (slot, &port) in out.iter_mut().zip(ports) {
            *slot = LocalPort::new(u32::from_ne_bytes(port));
        }
        Ok(ports.len())
    }

    pub(crate) fn unmask(&self, ports: &[LocalPort]) -> Result<(), EvtchnError> {
        for batch in ports.chunks(BATCH) {
            let mut bytes = [0u8; BATCH * 4];
            let (words, _) = bytes.as_chunks_mut::<4>();
            for (word, port) in words.iter_mut().zip(batch) {
                *word = port.raw().to_ne_bytes();
            }
            // The driver takes a batch of up to a page whole or not at all.
            rustix::io::write(&self.fd, &bytes[..batch.len() * 4])
                .map_err(|e| EvtchnError::of("unmask", e))?;
        }
        Ok(())
    }

    pub(crate) fn wait_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// After an overflow reads fail until a reset; the caller has to hear of it all the same.
    fn recover(&self) -> EvtchnError {
        match sys::reset(self.fd.as_fd()) {
            Ok(()) => EvtchnError::Overflow,
            Err(errno) => EvtchnError::of("reset", errno),
        }
    }
}
