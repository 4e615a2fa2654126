//! The toolstack's part: what an unmodified libxl writes, waits for and removes, in its order.
//!
//! Paths, keys and steps are those of Xen `tools/libs/light/libxl_{disk,device}.c`, 4.17 to 4.20. The
//! hotplug script is played, too, as `block-image` does it: the backend says with the key
//! [`REFUSAL`] why it cannot serve a disk, and the script passes that on.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, bail};
use ring_proto::DomId;
use xenbus::{Permissions, State, Store};

use crate::frontend::blkfront::frontend_path;
use crate::frontend::walk::{wait_gone, wait_state, wait_value};

/// Why a backend cannot serve a device, for the hotplug script.
pub const REFUSAL: &str = "xen-backends-error";

/// Where backends run.
const DOM0: DomId = DomId::new(0);

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

/// The backend's directory of a disk.
#[must_use]
pub fn backend_path(domid: DomId, vdev: u32) -> String {
    format!("/local/domain/0/backend/vbd/{domid}/{vdev}")
}

/// Where the backend says what is wrong with a disk.
#[must_use]
pub fn error_path(domid: DomId, vdev: u32) -> String {
    format!("/local/domain/0/error/backend/vbd/{domid}/{vdev}/error")
}

/// Plays libxl over a connection of domain 0.
#[derive(Debug)]
pub struct Toolstack {
    store: Store,
}

impl Toolstack {
    /// Takes a connection of domain 0.
    #[must_use]
    pub const fn new(store: Store) -> Self {
        Self { store }
    }

    /// The connection, for looking around.
    #[must_use]
    pub const fn store(&mut self) -> &mut Store {
        &mut self.store
    }

    /// Makes the directory of a new guest, as far as disks need it.
    ///
    /// # Errors
    /// The store refuses.
    pub fn create_domain(&mut self, domid: DomId) -> anyhow::Result<()> {
        let home = format!("/local/domain/{domid}");
        let readable = Permissions::private(DOM0).readable_by(domid);
        self.store.mkdir(&home)?;
        self.store.set_permissions(&home, &readable)?;
        self.store
            .write(&format!("{home}/domid"), domid.to_string())?;
        self.store
            .write(&format!("{home}/name"), format!("guest{domid}"))?;
        Ok(())
    }

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
        self.make(&backend, &Permissions::private(DOM0).readable_by(domid))?;
        self.make(&frontend, &Permissions::private(domid).readable_by(DOM0))?;
        let flag = |on: bool| u8::from(on).to_string();
        let back = [
            ("frontend", frontend.clone()),
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
            ("backend", backend.clone()),
            ("backend-id", DOM0.to_string()),
            ("state", State::Initialising.value()),
            ("virtual-device", disk.vdev.to_string()),
            ("device-type", "disk".into()),
            ("trusted", flag(true)),
        ];
        let copy = format!("/libxl/{domid}/device/vbd/{}", disk.vdev);
        let ours = [("frontend", frontend.clone()), ("backend", backend.clone())];
        let under = |directory: &str, keys: &[(&str, String)]| -> Vec<(String, String)> {
            let join =
                |(key, value): &(&str, String)| (format!("{directory}/{key}"), value.clone());
            keys.iter().map(join).collect()
        };
        let mut nodes = under(&frontend, &front);
        nodes.extend(under(&backend, &back));
        nodes.extend(under(&copy, &ours));
        nodes.extend(under(&copy, &back));
        let nodes: Vec<(&str, &[u8])> = nodes
            .iter()
            .map(|(path, value)| (path.as_str(), value.as_bytes()))
            .collect();
        Ok(self.store.transaction(|tx| tx.write_many(&nodes))?)
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

    /// `xl block-detach`: asks the backend to close, waits, removes everything.
    ///
    /// # Errors
    /// The backend does not reach Closed in libxl's ten seconds; everything was removed all the same.
    pub fn detach(&mut self, domid: DomId, vdev: u32) -> anyhow::Result<()> {
        self.ask_to_close(domid, vdev, false)?;
        self.finish_removal(domid, vdev)
    }

    /// `online` = 0 and state Closing on the backend's node; with `force` the frontend's directory
    /// goes at the same time.
    ///
    /// # Errors
    /// The store refuses.
    pub fn ask_to_close(&mut self, domid: DomId, vdev: u32, force: bool) -> anyhow::Result<()> {
        let (backend, frontend) = (backend_path(domid, vdev), frontend_path(domid, vdev));
        let state = format!("{backend}/state");
        let asked = self.store.transaction(|tx| {
            if force {
                tx.remove(&frontend)?;
            }
            let Some(now) = tx.read(&state)? else {
                return Ok(());
            };
            tx.write(&format!("{backend}/online"), "0")?;
            if State::parse(&now) != Some(State::Closed) {
                tx.write(&state, State::Closing.value())?;
            }
            Ok::<(), xenbus::StoreError>(())
        });
        Ok(asked?)
    }

    /// Waits for the backend to be Closed and removes the device's nodes.
    ///
    /// # Errors
    /// As [`detach`](Self::detach).
    pub fn finish_removal(&mut self, domid: DomId, vdev: u32) -> anyhow::Result<()> {
        let backend = backend_path(domid, vdev);
        let path = format!("{backend}/state");
        let closed = |value: Option<&[u8]>| {
            value.is_none_or(|value| State::parse(value) == Some(State::Closed))
        };
        let waited = wait_value(
            &mut self.store,
            &path,
            crate::frontend::walk::PATIENCE,
            closed,
        );
        self.store.remove(&frontend_path(domid, vdev))?;
        self.store.remove(&backend)?;
        self.store
            .remove(&format!("/libxl/{domid}/device/vbd/{vdev}"))?;
        // The guest's directory goes with its last device.
        let parent = format!("/local/domain/0/backend/vbd/{domid}");
        if self
            .store
            .list(&parent)?
            .is_some_and(|left| left.is_empty())
        {
            self.store.remove(&parent)?;
        }
        waited.map(drop)
    }

    /// The disks' part of `xl destroy`: all of the guest's disks are closed by force.
    ///
    /// # Errors
    /// A backend does not close in time.
    pub fn remove_disks(&mut self, domid: DomId) -> anyhow::Result<()> {
        let parent = format!("/local/domain/0/backend/vbd/{domid}");
        let disks = self.store.list(&parent)?.unwrap_or_default();
        let vdevs: Vec<u32> = disks.iter().filter_map(|name| name.parse().ok()).collect();
        for &vdev in &vdevs {
            self.ask_to_close(domid, vdev, true)?;
        }
        for &vdev in &vdevs {
            self.finish_removal(domid, vdev)?;
        }
        Ok(())
    }

    /// The rest of `xl destroy`, after the hypervisor has ended the guest: its directories go.
    ///
    /// # Errors
    /// The store refuses.
    pub fn forget_domain(&mut self, domid: DomId) -> anyhow::Result<()> {
        self.store.remove(&format!("/local/domain/{domid}"))?;
        self.store.remove(&format!("/libxl/{domid}"))?;
        Ok(())
    }

    /// The state of a disk's backend; `None` if it has none.
    ///
    /// # Errors
    /// The store is lost.
    pub fn backend_state(&mut self, domid: DomId, vdev: u32) -> anyhow::Result<Option<State>> {
        let value = self
            .store
            .read(&format!("{}/state", backend_path(domid, vdev)))?;
        Ok(value.and_then(|value| State::parse(&value)))
    }

    /// Waits for the backend of a disk to be in one of `wanted`; in which.
    ///
    /// # Errors
    /// It is in none of them within ten seconds.
    pub fn wait_backend(
        &mut self,
        domid: DomId,
        vdev: u32,
        wanted: &[State],
    ) -> anyhow::Result<State> {
        wait_state(&mut self.store, &backend_path(domid, vdev), wanted)
    }

    /// Waits for the text of the backend's error node.
    ///
    /// # Errors
    /// There is none within ten seconds.
    pub fn wait_error(&mut self, domid: DomId, vdev: u32) -> anyhow::Result<String> {
        let path = error_path(domid, vdev);
        let limit = Duration::from_secs(10);
        let value = wait_value(&mut self.store, &path, limit, |value| value.is_some())?;
        String::from_utf8(value.unwrap_or_default()).context("the error is no text")
    }

    /// Waits until the backend of a disk has no directory any more.
    ///
    /// # Errors
    /// It has one still after ten seconds.
    pub fn wait_gone(&mut self, domid: DomId, vdev: u32) -> anyhow::Result<()> {
        wait_gone(&mut self.store, &backend_path(domid, vdev))
    }

    fn make(&mut self, path: &str, permissions: &Permissions) -> anyhow::Result<()> {
        self.store.mkdir(path)?;
        Ok(self.store.set_permissions(path, permissions)?)
    }
}
