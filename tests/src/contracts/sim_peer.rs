//! A guest of the simulated machine.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, ensure};
use evtchn::{Evtchn, RemotePort};
use gntdev::{Access, Gntdev};
use ring_proto::{DomId, GrantRef};

use super::Peer;
use crate::sim::hypervisor::{Control, GuestDomain, GuestPages, GuestPort};

/// Pages of one guest; no case uses more.
const PAGES: u32 = 256;

/// A simulated guest, on a machine that may be served by another process.
#[derive(Debug)]
pub struct SimPeer {
    dir: PathBuf,
    control: Control,
    guest: Arc<GuestDomain>,
    ports: BTreeMap<RemotePort, GuestPort>,
    pages: BTreeMap<GrantRef, GuestPages>,
    violations: usize,
}

impl SimPeer {
    /// A new guest on the machine served in `dir`.
    ///
    /// # Errors
    /// Nothing is served there.
    pub fn new(dir: &Path) -> anyhow::Result<Self> {
        let control = Control::connect(dir)?;
        Ok(Self {
            violations: control.violations()?.len(),
            dir: dir.to_path_buf(),
            control,
            guest: GuestDomain::create(dir, PAGES)?,
            ports: BTreeMap::new(),
            pages: BTreeMap::new(),
        })
    }

    fn port(&self, port: RemotePort) -> anyhow::Result<&GuestPort> {
        self.ports.get(&port).context("the port is not open")
    }

    fn page(&self, gref: GrantRef) -> anyhow::Result<&GuestPages> {
        self.pages.get(&gref).context("the page is not granted")
    }
}

impl Peer for SimPeer {
    fn open_events(&self) -> anyhow::Result<Evtchn> {
        Ok(Evtchn::open_sim(&self.dir)?)
    }

    fn open_grants(&self) -> anyhow::Result<Gntdev> {
        Ok(Gntdev::open_sim(&self.dir)?)
    }

    fn domid(&self) -> DomId {
        self.guest.domid()
    }

    fn open_port(&mut self) -> anyhow::Result<RemotePort> {
        let port = self.guest.alloc_port()?;
        let number = port.port();
        self.ports.insert(number, port);
        Ok(number)
    }

    fn close_port(&mut self, port: RemotePort) -> anyhow::Result<()> {
        self.ports.remove(&port).context("the port is not open")?;
        Ok(())
    }

    fn notify(&mut self, port: RemotePort) -> anyhow::Result<()> {
        Ok(self.port(port)?.notify()?)
    }

    fn signalled(&mut self, port: RemotePort, limit: Duration) -> anyhow::Result<bool> {
        Ok(self.port(port)?.wait(limit)?)
    }

    fn grant(&mut self, access: Access) -> anyhow::Result<GrantRef> {
        let page = self.guest.allocate(1)?;
        ensure!(page.write(0, &[0; gntdev::PAGE_SIZE]), "the page is short");
        let gref = self.guest.grant(page.frame(0), access)?;
        self.pages.insert(gref, page);
        Ok(gref)
    }

    fn revoke(&mut self, gref: GrantRef) -> anyhow::Result<()> {
        self.guest.end_access(gref)?;
        self.pages
            .remove(&gref)
            .context("the page is not granted")?;
        Ok(())
    }

    fn write(&mut self, gref: GrantRef, at: usize, bytes: &[u8]) -> anyhow::Result<()> {
        ensure!(self.page(gref)?.write(at, bytes), "outside of the page");
        Ok(())
    }

    fn read(&mut self, gref: GrantRef, at: usize, into: &mut [u8]) -> anyhow::Result<()> {
        ensure!(self.page(gref)?.read(at, into), "outside of the page");
        Ok(())
    }

    fn in_use(&self, gref: GrantRef) -> Option<bool> {
        Some(self.guest.in_use(gref))
    }

    fn conclude(&mut self) -> anyhow::Result<()> {
        let violations = self.control.violations()?;
        let new = violations.get(self.violations..).unwrap_or_default();
        ensure!(new.is_empty(), "{}", new.join("; "));
        let mapped = self.guest.destroy()?;
        ensure!(mapped == 0, "{mapped} page(s) are still mapped");
        Ok(())
    }
}
