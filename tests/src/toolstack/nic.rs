//! Network interfaces: what libxl writes for one, and the part of the hotplug script.
//!
//! The script is played as `vif-bridge` and `vif-route` do it: the backend has made the interface, and
//! the script gives it its MTU, its name and its place, and pulls it up.

use anyhow::ensure;
use ring_proto::DomId;
use xenbus::State;

use super::{DOM0, DeviceId, Toolstack, backend_path, frontend_path, vif};
use crate::frontend::walk::wait_state;
use crate::network::Network;

/// One `vif=` line.
#[derive(Clone, Debug)]
pub struct NicLine {
    /// The number of the interface: 0 is the first.
    pub handle: u32,
    /// What the `handle` key says instead, of a toolstack that is mistaken.
    pub said_handle: Option<u32>,
    /// `mac=`.
    pub mac: [u8; 6],
    /// `rate=`, as libxl writes it: so many bytes in so many microseconds.
    pub rate: Option<(u64, u64)>,
    /// `mtu=`; libxl writes it if it is not 1500.
    pub mtu: u16,
    /// `vifname=`.
    pub name: Option<String>,
    /// `bridge=`: an interface of the network that it is put into; without one it stands alone, as
    /// `vif-route` has it.
    pub bridge: Option<String>,
    /// The host's own addresses on it, as `ip address add` takes them.
    pub addresses: Vec<String>,
}

impl NicLine {
    /// An interface like any other, alone.
    #[must_use]
    pub const fn new(handle: u32, mac: [u8; 6]) -> Self {
        Self {
            handle,
            said_handle: None,
            mac,
            rate: None,
            mtu: 1500,
            name: None,
            bridge: None,
            addresses: Vec::new(),
        }
    }

    /// The same, for longer or shorter packets.
    #[must_use]
    pub const fn mtu(mut self, mtu: u16) -> Self {
        self.mtu = mtu;
        self
    }

    /// The name that the interface has in the end.
    #[must_use]
    pub fn interface(&self, domid: DomId) -> String {
        let default = || format!("vif{domid}.{}", self.handle);
        self.name.clone().unwrap_or_else(default)
    }

    /// Which of the guest's devices it is.
    #[must_use]
    pub const fn device(&self) -> DeviceId {
        vif(self.handle)
    }

    fn address(&self) -> String {
        self.mac.map(|byte| format!("{byte:02x}")).join(":")
    }
}

impl Toolstack {
    /// `xl network-attach`: keys, wait for `InitWait`, hotplug script. On failure the device is
    /// removed again, as libxl does.
    ///
    /// # Errors
    /// The text that `xl` would show.
    pub fn attach_nic(
        &mut self,
        domid: DomId,
        nic: &NicLine,
        network: &Network,
    ) -> anyhow::Result<()> {
        self.write_nic_keys(domid, nic)?;
        let backend = backend_path(domid, nic.device());
        let outcome = wait_state(&mut self.store, &backend, &[State::InitWait])
            .map(drop)
            .and_then(|()| self.run_vif_script(domid, nic, network));
        if let Err(why) = outcome {
            // What xl tells is why it failed, not what came of tidying up.
            let _removed = self.detach(domid, nic.device());
            return Err(why);
        }
        Ok(())
    }

    /// Writes what libxl writes for an interface, complete in one transaction.
    ///
    /// # Errors
    /// The store refuses.
    pub fn write_nic_keys(&mut self, domid: DomId, nic: &NicLine) -> anyhow::Result<()> {
        let device = nic.device();
        let (backend, frontend) = (backend_path(domid, device), frontend_path(domid, device));
        let handle = nic.handle.to_string();
        let said = nic.said_handle.unwrap_or(nic.handle);
        let mut back = vec![
            ("frontend", frontend),
            ("frontend-id", domid.to_string()),
            ("script", "/etc/xen/scripts/vif-bridge".into()),
            ("mac", nic.address()),
            ("handle", said.to_string()),
            ("type", "vif".into()),
            ("online", "1".into()),
            ("state", State::Initialising.value()),
            ("hotplug-status", String::new()),
        ];
        if let Some(name) = &nic.name {
            back.push(("vifname", name.clone()));
        }
        if let Some((bytes, micros)) = nic.rate {
            back.push(("rate", format!("{bytes},{micros}")));
        }
        if nic.mtu != 1500 {
            back.push(("mtu", nic.mtu.to_string()));
        }
        if let Some(bridge) = &nic.bridge {
            back.push(("bridge", bridge.clone()));
        }
        let front = [
            ("backend", backend),
            ("backend-id", DOM0.to_string()),
            ("state", State::Initialising.value()),
            ("handle", handle),
            ("mac", nic.address()),
            ("trusted", "1".into()),
            ("mtu", nic.mtu.to_string()),
        ];
        self.write_device(domid, device, &back, &front)
    }

    /// Runs the hotplug script's part: `vif-bridge online`.
    ///
    /// # Errors
    /// The backend has made no interface, or the network refuses what is asked of it.
    pub fn run_vif_script(
        &mut self,
        domid: DomId,
        nic: &NicLine,
        network: &Network,
    ) -> anyhow::Result<()> {
        let made = format!("vif{domid}.{}", nic.handle);
        ensure!(
            network.has(&made)? || network.has(&nic.interface(domid))?,
            "vif-bridge: there is no interface {made}"
        );
        let interface = nic.interface(domid);
        if made != interface && network.has(&made)? {
            network.ip(&format!("link set {made} down"))?;
            network.ip(&format!("link set {made} name {interface}"))?;
        }
        network.ip(&format!("link set {interface} mtu {}", nic.mtu))?;
        if let Some(bridge) = &nic.bridge {
            network.ip(&format!("link set {interface} master {bridge}"))?;
        }
        if nic.addresses.iter().any(|address| address.contains(':')) {
            let ipv6 = format!("/proc/sys/net/ipv6/conf/{interface}/disable_ipv6");
            network.inside(|| std::fs::write(ipv6, "0"))??;
        }
        network.ip(&format!("link set {interface} up"))?;
        for address in &nic.addresses {
            network.ip(&format!("address add {address} dev {interface}"))?;
        }
        let backend = backend_path(domid, nic.device());
        self.store
            .write(&format!("{backend}/hotplug-status"), "connected")?;
        Ok(())
    }

    /// `xl network-detach`: asks the backend to close, waits, runs the script (`offline`), removes
    /// everything.
    ///
    /// # Errors
    /// The backend does not reach Closed in libxl's ten seconds; everything was removed all the same.
    pub fn detach_nic(
        &mut self,
        domid: DomId,
        nic: &NicLine,
        network: &Network,
    ) -> anyhow::Result<()> {
        self.ask_to_close(domid, nic.device(), false)?;
        self.finish_nic_removal(domid, nic, network)
    }

    /// Waits for the backend to be Closed, runs the script, and removes the device's nodes.
    ///
    /// # Errors
    /// As [`detach_nic`](Self::detach_nic).
    pub fn finish_nic_removal(
        &mut self,
        domid: DomId,
        nic: &NicLine,
        network: &Network,
    ) -> anyhow::Result<()> {
        let waited = self.wait_removable(domid, nic.device());
        // The script does not mind an interface that is gone.
        let interface = nic.interface(domid);
        if network.has(&interface)? {
            network.ip(&format!("link set {interface} nomaster"))?;
            network.ip(&format!("link set {interface} down"))?;
        }
        self.remove_nodes(domid, nic.device())?;
        waited
    }
}
