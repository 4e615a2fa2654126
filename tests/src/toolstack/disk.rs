//! Disks: what libxl writes for one, and the part of the hotplug script.
//!
//! The script is played as `block-image` does it: the backend says with the key [`REFUSAL`] why it
//! cannot serve a disk, and the script passes that on.

use std::path::{Path, PathBuf};

use anyhow::bail;
use ring_proto::DomId;
use xenbus::State;

use crate::frontend::walk::wait_state;

use super::{DOM0, Toolstack, backend_path, frontend_path};

/// Why a backend cannot serve a device, for the hotplug script.
pub const REFUSAL: &str = "xen-backends-error";

/// One `disk=` line.
#[derive(Clone, Debug)]
pub struct DiskLine {
    /// The virtual device: 51712 is `xvda`.
    pub vdev: u32,
    /// `target=`.
    pub target: PathBuf,
    /// `access=ro`.
    pub read_only: bool,
    /// `discard`; xl's default is to allow it.
    pub discard: bool,
}

/// `xvda`.
pub const XVDA: u32 = 51712;

impl DiskLine {
    /// A writable disk for `vdev` in the image at `target`.
    #[must_use]
    pub fn image(vdev: u32, target: &Path) -> Self {
        Self {
            vdev,
            target: target.to_path_buf(),
            read_only: false,
            discard: true,
        }
    }

    /// The same, read-only.
    #[must_use]
    pub fn read_only(mut self) -> Self {
        self.read_only = true;
        self
    }

    /// The name that goes with the number: `xvda`, `xvdb` ..., for the disks 0 to 15.
    fn name(&self) -> String {
        let disk = u8::try_from(self.vdev >> 4 & 15).unwrap_or(0);
        format!("xvd{}", char::from(b'a' + disk))
    }
}

impl Toolstack {
    /// `xl block-attach`: keys, wait for `InitWait`, hotplug script. On failure the device is removed
    /// again, as libxl does.
    ///
    /// # Errors
    /// The text that `xl` would show.
    pub fn attach(&mut self, domid: DomId, disk: &DiskLine) -> anyhow::Result<()> {
        self.write_keys(domid, disk)?;
        let backend = backend_path(domid, disk.vdev);
        let outcome = wait_state(&mut self.store, &backend, &[State::InitWait])
            .map(drop)
            .and_then(|()| self.run_script(domid, disk));
        if let Err(why) = outcome {
            // What xl tells is why it failed, not what came of tidying up.
            let _removed = self.detach(domid, disk.vdev);
            return Err(why);
        }
        Ok(())
    }

    /// Writes what libxl writes for a disk, complete in one transaction.
    ///
    /// # Errors
    /// The store refuses.
    pub fn write_keys(&mut self, domid: DomId, disk: &DiskLine) -> anyhow::Result<()> {
        let (backend, frontend) = (
            backend_path(domid, disk.vdev),
            frontend_path(domid, disk.vdev),
        );
        let flag = |on: bool| u8::from(on).to_string();
        let back = [
            ("frontend", frontend),
            ("frontend-id", domid.to_string()),
            ("params", disk.target.display().to_string()),
            ("script", "/etc/xen/scripts/block-image".into()),
            ("online", flag(true)),
            ("removable", flag(false)),
            ("bootable", flag(true)),
            ("state", State::Initialising.value()),
            ("dev", disk.name()),
            ("type", "phy".into()),
            ("mode", if disk.read_only { "r" } else { "w" }.into()),
            ("device-type", "disk".into()),
            ("discard-enable", flag(disk.discard)),
            ("specification", "xen".into()),
        ];
        let front = [
            ("backend", backend),
            ("backend-id", DOM0.to_string()),
            ("state", State::Initialising.value()),
            ("virtual-device", disk.vdev.to_string()),
            ("device-type", "disk".into()),
            ("trusted", flag(true)),
        ];
        self.write_device(domid, disk.vdev.into(), &back, &front)
    }

    /// Runs the hotplug script's part: `block-image add`.
    ///
    /// # Errors
    /// What the backend says is wrong.
    pub fn run_script(&mut self, domid: DomId, disk: &DiskLine) -> anyhow::Result<()> {
        let backend = backend_path(domid, disk.vdev);
        let refusal = self.store.read(&format!("{backend}/{REFUSAL}"))?;
        let refusal = refusal.unwrap_or_default();
        if !refusal.is_empty() {
            let why = String::from_utf8_lossy(&refusal).into_owned();
            self.store
                .write(&format!("{backend}/hotplug-error"), &why)?;
            self.store
                .write(&format!("{backend}/hotplug-status"), "error")?;
            bail!("block-image: {why}");
        }
        let path = disk.target.display().to_string();
        self.store
            .write(&format!("{backend}/physical-device-path"), path)?;
        self.store
            .write(&format!("{backend}/hotplug-status"), "connected")?;
        Ok(())
    }
}
