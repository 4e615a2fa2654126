//! Guests with network interfaces, in a network that is the scene's own.

use std::time::{Duration, Instant};

use anyhow::{Context, ensure};

use super::{GIVEN_BACK, Guest, Scene};
use crate::daemon::Program;
use crate::frontend::Device;
use crate::frontend::netfront::{NetShape, Netfront, Wire};
use crate::network::{Network, Peer};
use crate::toolstack::NicLine;

impl Scene {
    /// A machine with `xen-netback` in a network of its own, configured by `config`, and ready.
    ///
    /// # Errors
    /// The daemon does not compile or does not start, or there can be no network of our own.
    pub fn networked(config: &str) -> anyhow::Result<Self> {
        let mut scene = Self::networked_without_daemon(config)?;
        scene.start_daemon()?;
        Ok(scene)
    }

    /// The same without the daemon.
    ///
    /// # Errors
    /// No machine can be served, or there can be no network of our own.
    pub fn networked_without_daemon(config: &str) -> anyhow::Result<Self> {
        let mut scene = Self::without_daemon(config)?;
        scene.program = Program::Netback;
        scene.network = Some(Network::new()?);
        Ok(scene)
    }

    /// The scene's own network.
    ///
    /// # Errors
    /// It has none.
    pub fn network(&self) -> anyhow::Result<&Network> {
        self.network.as_ref().context("this scene has no network")
    }

    /// Attaches an interface to a guest, which has not connected yet.
    ///
    /// # Errors
    /// What `xl network-attach` would show, and the daemon's log.
    pub fn attach_nic(&mut self, guest: &Guest, nic: &NicLine) -> anyhow::Result<Device> {
        let network = self.network()?.clone();
        let attached = self.toolstack.attach_nic(guest.domid(), nic, &network);
        attached.with_context(|| self.told())?;
        Device::find(&guest.domain, guest.store()?, nic.device())
    }

    /// Attaches an interface and connects to it.
    ///
    /// # Errors
    /// As [`attach_nic`](Self::attach_nic), or the backend does not connect; then with its log.
    pub fn connect_nic(
        &mut self,
        guest: &Guest,
        nic: &NicLine,
        shape: NetShape,
    ) -> anyhow::Result<Netfront> {
        let device = self.attach_nic(guest, nic)?;
        let connected = Netfront::connect(device, shape);
        connected.with_context(|| self.told())
    }

    /// Attaches an interface, connects to it, and puts somebody at its other end.
    ///
    /// # Errors
    /// As [`connect_nic`](Self::connect_nic), or no frame gets to the guest.
    pub fn wire(&mut self, guest: &Guest, nic: &NicLine, shape: NetShape) -> anyhow::Result<Wire> {
        let front = self.connect_nic(guest, nic, shape)?;
        let peer = self.peer(guest, nic)?;
        let wire = Wire::new(front, peer, nic.mac);
        wire.with_context(|| self.told())
    }

    /// Who is at the other end of an interface.
    ///
    /// # Errors
    /// There is no such interface.
    pub fn peer(&self, guest: &Guest, nic: &NicLine) -> anyhow::Result<Peer> {
        Peer::open(self.network()?, &nic.interface(guest.domid()))
    }

    /// Waits until an interface is gone: the kernel keeps it until its last queue is closed.
    ///
    /// # Errors
    /// It is there still after five seconds.
    pub fn wait_no_interface(&self, name: &str) -> anyhow::Result<()> {
        let gone = || Ok(!self.network()?.has(name)?);
        self.eventually(GIVEN_BACK, gone, &|| format!("{name} is there still"))
    }

    /// Waits until an interface has a carrier, or has none, and the kernel has drawn its conclusions.
    ///
    /// # Errors
    /// It is not so after five seconds.
    pub fn wait_carrier(&self, name: &str, on: bool) -> anyhow::Result<()> {
        self.wait_carrier_within(name, on, GIVEN_BACK)
    }

    /// The same, as long as that.
    ///
    /// # Errors
    /// It is not so by then.
    pub fn wait_carrier_within(&self, name: &str, on: bool, limit: Duration) -> anyhow::Result<()> {
        let shown = || self.network()?.ip(&format!("link show {name}"));
        let right = || Ok(shown()?.contains("LOWER_UP") == on);
        let told = || format!("the carrier is not {on}: {:?}", shown());
        self.eventually(limit, right, &told)?;
        // The kernel makes this change behind those that it is at still.
        self.network()?.ip(&format!("link set {name} up"))?;
        Ok(())
    }

    /// No event tells of what the kernel does with interfaces in its own time, so this looks every
    /// few milliseconds.
    fn eventually(
        &self,
        limit: Duration,
        done: impl Fn() -> anyhow::Result<bool>,
        otherwise: &dyn Fn() -> String,
    ) -> anyhow::Result<()> {
        let deadline = Instant::now() + limit;
        while !done()? {
            ensure!(
                Instant::now() < deadline,
                "{}\n{}",
                otherwise(),
                self.told()
            );
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }

    /// `xl network-detach`.
    ///
    /// # Errors
    /// The backend does not close in time; everything was removed all the same.
    pub fn detach_nic(&mut self, guest: &Guest, nic: &NicLine) -> anyhow::Result<()> {
        let network = self.network()?.clone();
        self.toolstack.detach_nic(guest.domid(), nic, &network)
    }
}
