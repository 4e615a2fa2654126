//! A stage for a test: a simulated machine with the real daemon on it, a toolstack, and guests.

use std::fs::{self, File};
use std::io::Write as _;
use std::ops::Range;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use ring_proto::DomId;
use xenbus::{Endpoint, Store};

use crate::daemon::{Daemon, Program, Start};
use crate::frontend::Device;
use crate::frontend::{Blkfront, Model, Shape, model::SECTOR};
use crate::network::Network;
use crate::sim::hypervisor::GuestDomain;
use crate::sim::{Machine, xenstored};
use crate::toolstack::{DiskLine, Toolstack};

mod nics;
mod oracles;

/// Pages of a guest: 64 MiB, enough for four rings of 512 requests of 11 pages.
const GUEST_PAGES: u32 = 16384;

/// How soon everything of a guest must be given back (O4).
const GIVEN_BACK: Duration = Duration::from_secs(5);

/// Sectors written or compared at a time.
const STEP: usize = 2048;

/// The stage.
#[derive(Debug)]
pub struct Scene {
    // The daemon ends before its machine does.
    daemon: Option<Daemon>,
    toolstack: Toolstack,
    machine: Machine,
    config: String,
    program: Program,
    /// Where the daemon's interfaces are, if it makes any.
    network: Option<Network>,
}

/// A guest as the toolstack made it.
#[derive(Clone, Debug)]
pub struct Guest {
    /// Its memory, grants and ports.
    pub domain: Arc<GuestDomain>,
    endpoint: Endpoint,
}

impl Guest {
    /// Its number.
    #[must_use]
    pub fn domid(&self) -> DomId {
        self.domain.domid()
    }

    /// A connection to xenstore that can do what this guest can.
    ///
    /// # Errors
    /// The store does not answer.
    pub fn store(&self) -> anyhow::Result<Store> {
        Ok(Store::connect(self.endpoint.clone())?)
    }
}

impl Scene {
    /// A machine with `xen-blkback` that is ready, configured by `config`.
    ///
    /// # Errors
    /// The daemon does not compile or does not start.
    pub fn start(config: &str) -> anyhow::Result<Self> {
        let mut scene = Self::without_daemon(config)?;
        scene.start_daemon()?;
        Ok(scene)
    }

    /// A machine without a daemon.
    ///
    /// # Errors
    /// No machine can be served.
    pub fn without_daemon(config: &str) -> anyhow::Result<Self> {
        let machine = Machine::temporary()?;
        fs::create_dir(machine.dir().join("images"))?;
        let endpoint = Endpoint::Socket(xenstored::socket(machine.dir()));
        Ok(Self {
            daemon: None,
            toolstack: Toolstack::new(Store::connect(endpoint)?),
            machine,
            config: config.to_owned(),
            program: Program::Blkback,
            network: None,
        })
    }

    /// The same with this configuration, before the daemon is started.
    #[must_use]
    pub fn configured(mut self, config: &str) -> Self {
        config.clone_into(&mut self.config);
        self
    }

    /// `xl rename`.
    ///
    /// # Errors
    /// The store refuses.
    pub fn rename(&mut self, guest: &Guest, name: &str) -> anyhow::Result<()> {
        let key = format!("/local/domain/{}/name", guest.domid());
        Ok(self.toolstack.store().write(&key, name)?)
    }

    /// How this scene's daemon is started.
    #[must_use]
    pub fn daemon_start(&self) -> Start {
        let start = Start::on(self.machine.dir(), self.program).config(&self.config);
        match &self.network {
            Some(network) => start.network(network),
            None => start,
        }
    }

    /// Starts the daemon.
    ///
    /// # Errors
    /// It is not ready in time.
    pub fn start_daemon(&mut self) -> anyhow::Result<()> {
        self.daemon = Some(self.daemon_start().ready()?);
        Ok(())
    }

    /// Starts the daemon, which logs what this level says, whatever `PV_LOG` does.
    ///
    /// # Errors
    /// It is not ready in time.
    pub fn start_daemon_at(&mut self, level: &str) -> anyhow::Result<()> {
        self.daemon = Some(self.daemon_start().level(level).ready()?);
        Ok(())
    }

    /// The daemon.
    ///
    /// # Errors
    /// There is none.
    pub fn daemon(&self) -> anyhow::Result<&Daemon> {
        self.daemon.as_ref().context("there is no daemon")
    }

    /// The daemon, to be ended.
    ///
    /// # Errors
    /// There is none.
    pub fn take_daemon(&mut self) -> anyhow::Result<Daemon> {
        self.daemon.take().context("there is no daemon")
    }

    /// The toolstack.
    pub const fn toolstack(&mut self) -> &mut Toolstack {
        &mut self.toolstack
    }

    /// The machine.
    #[must_use]
    pub const fn machine(&self) -> &Machine {
        &self.machine
    }

    /// Makes an image that holds what the model says.
    ///
    /// # Errors
    /// The file system's.
    pub fn image(&self, name: &str, model: &Model) -> anyhow::Result<PathBuf> {
        let path = self.image_path(name);
        write_image(&path, model)?;
        Ok(path)
    }

    /// Where images of this scene are.
    #[must_use]
    pub fn image_path(&self, name: &str) -> PathBuf {
        self.machine.dir().join("images").join(name)
    }

    /// A new guest.
    ///
    /// # Errors
    /// The machine or the store refuses.
    pub fn guest(&mut self) -> anyhow::Result<Guest> {
        let domain = self.machine.guest(GUEST_PAGES)?;
        let endpoint = self.machine.xenstored()?.introduce(domain.domid())?;
        self.toolstack.create_domain(domain.domid())?;
        Ok(Guest { domain, endpoint })
    }

    /// Attaches a disk to a guest, which has not connected yet.
    ///
    /// # Errors
    /// What `xl block-attach` would show.
    pub fn attach(&mut self, guest: &Guest, disk: &DiskLine) -> anyhow::Result<Device> {
        self.toolstack.attach(guest.domid(), disk)?;
        Device::find(&guest.domain, guest.store()?, disk.vdev)
    }

    /// Attaches a disk and connects to it.
    ///
    /// # Errors
    /// As [`attach`](Self::attach), or the backend does not connect; then with the daemon's log.
    pub fn connect(
        &mut self,
        guest: &Guest,
        disk: &DiskLine,
        shape: Shape,
    ) -> anyhow::Result<Blkfront> {
        let device = self.attach(guest, disk)?;
        let connected = device.connect(shape);
        connected.with_context(|| self.told())
    }

    /// What the daemon has said, for the text of a failure.
    #[must_use]
    pub fn told(&self) -> String {
        match &self.daemon {
            Some(daemon) => format!("the daemon's log:\n{}", daemon.log()),
            None => "there is no daemon".into(),
        }
    }

    /// `xl destroy`.
    ///
    /// # Errors
    /// The backend does not let the guest go.
    pub fn destroy(&mut self, guest: &Guest) -> anyhow::Result<()> {
        self.toolstack.remove_devices(guest.domid())?;
        guest.domain.destroy()?;
        self.machine.xenstored()?.release(guest.domid())?;
        self.toolstack.forget_domain(guest.domid())?;
        self.wait_buried(guest.domid())
    }

    /// Waits until nothing of a destroyed guest is left (O6: no zombie).
    ///
    /// # Errors
    /// Some of its pages are mapped still after five seconds.
    pub fn wait_buried(&self, domid: DomId) -> anyhow::Result<()> {
        self.wait_domain(domid, |state| state.is_none(), "is a zombie")
    }

    /// Waits until no page of a guest is mapped (O4).
    ///
    /// # Errors
    /// Some are mapped still after five seconds.
    pub fn wait_unmapped(&self, domid: DomId) -> anyhow::Result<()> {
        let free = |state: Option<u32>| state.is_none_or(|mapped| mapped == 0);
        self.wait_domain(domid, free, "is not given back")
    }

    /// No event tells when a page is unmapped, so this looks every few milliseconds.
    fn wait_domain(
        &self,
        domid: DomId,
        done: impl Fn(Option<u32>) -> bool,
        otherwise: &str,
    ) -> anyhow::Result<()> {
        let control = self.machine.control()?;
        let deadline = Instant::now() + GIVEN_BACK;
        loop {
            let domains = control.domains()?;
            let found = domains.iter().find(|domain| domain.domid == domid);
            if done(found.map(|domain| domain.mapped_pages)) {
                return Ok(());
            }
            if Instant::now() > deadline {
                bail!(
                    "domain {domid} {otherwise} after {GIVEN_BACK:?}: {found:?}\n{}",
                    self.told()
                );
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Nothing was done that hypervisor or store would mind (O-set).
    ///
    /// # Errors
    /// What was done wrong, and the daemon's log.
    pub fn no_wrong_done(&self) -> anyhow::Result<()> {
        let hypervisor = self.machine.control()?.violations()?;
        ensure!(
            hypervisor.is_empty(),
            "violations: {hypervisor:#?}\n{}",
            self.told()
        );
        let store = self.machine.xenstored()?.violations()?;
        ensure!(store.is_empty(), "violations: {store:#?}\n{}", self.told());
        let log = self.daemon.as_ref().map(Daemon::log).unwrap_or_default();
        ensure!(!log.contains("panicked"), "a panic:\n{log}");
        Ok(())
    }
}

/// Writes an image that holds what the model says, synced to the disk.
///
/// # Errors
/// The file system's.
pub fn write_image(path: &Path, model: &Model) -> anyhow::Result<()> {
    let mut file =
        File::create_new(path).with_context(|| format!("cannot create {}", path.display()))?;
    for range in steps(model.sectors()) {
        file.write_all(&model.image(range))?;
    }
    file.sync_all()?;
    Ok(())
}

/// Compares an image with the model, byte by byte.
///
/// # Errors
/// The first sector that differs.
pub fn check_image(path: &Path, model: &Model) -> anyhow::Result<()> {
    let file = File::open(path)?;
    let size = file.metadata()?.len();
    let sectors = model.sectors();
    ensure!(
        size == (sectors * SECTOR) as u64,
        "{} has {size} bytes instead of {sectors} sectors",
        path.display()
    );
    let mut bytes = vec![0; STEP * SECTOR];
    for range in steps(sectors) {
        let part = &mut bytes[..range.len() * SECTOR];
        file.read_exact_at(part, (range.start * SECTOR) as u64)?;
        model
            .check(range.start, part)
            .with_context(|| format!("in {}", path.display()))?;
    }
    Ok(())
}

fn steps(sectors: usize) -> impl Iterator<Item = Range<usize>> {
    (0..sectors)
        .step_by(STEP)
        .map(move |first| first..sectors.min(first + STEP))
}
