//! dom0 as its own guest, on a real machine.
//!
//! Event channels loop back to the domain that allocated them, and `/dev/xen/gntalloc` grants pages
//! to domain 0 itself. The latter is a valid test on a PV dom0 only.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use anyhow::{Context, ensure};
use evtchn::{Evtchn, LocalPort, RemotePort};
use gntdev::{Access, Gntalloc, Gntdev, LocalPages};
use ring_proto::{DomId, GrantRef};
use rustix::fs::{Mode, OFlags};

use super::Peer;
use super::events::fired_within;
use super::sys::{self, GrantedPage};

const GNTALLOC: &str = "/dev/xen/gntalloc";

/// dom0, playing the guest.
#[derive(Debug)]
pub struct XenPeer {
    events: Evtchn,
    gntalloc: OwnedFd,
    ports: BTreeMap<RemotePort, LocalPort>,
    signalled: Vec<LocalPort>,
    pages: BTreeMap<GrantRef, GrantedPage>,
    /// Where the backend's memory comes from, if it is granted.
    own: Option<Gntalloc>,
}

impl XenPeer {
    /// Opens the guest's half of the devices.
    ///
    /// # Errors
    /// No Xen, no permission, or no `xen-gntalloc` module.
    pub fn new() -> anyhow::Result<Self> {
        let flags = OFlags::RDWR | OFlags::CLOEXEC;
        let gntalloc = rustix::fs::open(GNTALLOC, flags, Mode::empty())
            .with_context(|| format!("{GNTALLOC}: is the xen-gntalloc module loaded?"))?;
        Ok(Self {
            events: Evtchn::open()?,
            gntalloc,
            ports: BTreeMap::new(),
            signalled: Vec::new(),
            pages: BTreeMap::new(),
            own: None,
        })
    }

    /// The same for a backend whose memory is granted to itself.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn with_granted_memory() -> anyhow::Result<Self> {
        let own = Some(Gntalloc::open(DomId::new(0))?);
        Ok(Self {
            own,
            ..Self::new()?
        })
    }

    fn port(&self, port: RemotePort) -> anyhow::Result<LocalPort> {
        self.ports
            .get(&port)
            .copied()
            .context("the port is not open")
    }

    fn page(&self, gref: GrantRef) -> anyhow::Result<&GrantedPage> {
        self.pages.get(&gref).context("the page is not granted")
    }
}

impl Peer for XenPeer {
    fn open_events(&self) -> anyhow::Result<Evtchn> {
        Ok(Evtchn::open()?)
    }

    fn open_grants(&self) -> anyhow::Result<Gntdev> {
        Ok(Gntdev::open()?)
    }

    fn memory(&self, pages: usize) -> anyhow::Result<LocalPages> {
        Ok(match &self.own {
            Some(own) => own.pages(pages)?,
            None => LocalPages::new(pages)?,
        })
    }

    fn domid(&self) -> DomId {
        DomId::new(0)
    }

    fn open_port(&mut self) -> anyhow::Result<RemotePort> {
        let local = self.events.bind_unbound(self.domid())?;
        let number = RemotePort(local.raw());
        self.ports.insert(number, local);
        Ok(number)
    }

    fn close_port(&mut self, port: RemotePort) -> anyhow::Result<()> {
        let local = self.ports.remove(&port).context("the port is not open")?;
        Ok(self.events.unbind(local)?)
    }

    fn notify(&mut self, port: RemotePort) -> anyhow::Result<()> {
        Ok(self.events.notify(self.port(port)?)?)
    }

    fn signalled(&mut self, port: RemotePort, limit: Duration) -> anyhow::Result<bool> {
        let local = self.port(port)?;
        loop {
            if let Some(at) = self.signalled.iter().position(|&fired| fired == local) {
                self.signalled.swap_remove(at);
                return Ok(true);
            }
            let fired = fired_within(&mut self.events, limit)?;
            if fired.is_empty() {
                return Ok(false);
            }
            self.events.unmask(&fired)?;
            self.signalled.extend(fired);
        }
    }

    fn grant(&mut self, access: Access) -> anyhow::Result<GrantRef> {
        let page = sys::grant(self.gntalloc.as_fd(), self.domid(), access)?;
        let gref = page.gref;
        self.pages.insert(gref, page);
        Ok(gref)
    }

    fn revoke(&mut self, gref: GrantRef) -> anyhow::Result<()> {
        let page = self
            .pages
            .remove(&gref)
            .context("the page is not granted")?;
        sys::revoke(self.gntalloc.as_fd(), page)
    }

    fn write(&mut self, gref: GrantRef, at: usize, bytes: &[u8]) -> anyhow::Result<()> {
        let written = self.page(gref)?.memory.write(at, bytes);
        written.context("outside of the page")
    }

    fn read(&mut self, gref: GrantRef, at: usize, into: &mut [u8]) -> anyhow::Result<()> {
        let read = self.page(gref)?.memory.read(at, into);
        read.context("outside of the page")
    }

    fn in_use(&self, _gref: GrantRef) -> Option<bool> {
        None
    }

    fn conclude(&mut self) -> anyhow::Result<()> {
        // Pages that were left mapped make this fail or the kernel complain.
        for gref in self.pages.keys().copied().collect::<Vec<_>>() {
            self.revoke(gref)?;
        }
        ensure!(self.pages.is_empty(), "pages are left");
        Ok(())
    }
}
