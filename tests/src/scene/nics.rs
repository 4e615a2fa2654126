//! Guests with network interfaces, in a network that is the scene's own.

use anyhow::Context;

use super::{Guest, Scene};
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
        let peer = Peer::open(self.network()?, &nic.interface(guest.domid()))?;
        let wire = Wire::new(front, peer, nic.mac);
        wire.with_context(|| self.told())
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
