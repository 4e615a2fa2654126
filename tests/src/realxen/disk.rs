//! A disk image in dom0, and the line of an `xl` configuration that gives it to a guest.

use anyhow::Context;

use super::backend::Backend;
use super::dom0::Dom0;

/// The folder in dom0 in which the images of guests lie.
pub const FOLDER: &str = "/disks";

/// How an image reaches its backend.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Via {
    /// As a loop device that the administrator set up: `phy:`.
    Loop,
    /// As a loop device that the toolstack's own block script sets up: `file:`.
    File,
    /// It is a block device already: `phy:`.
    Device,
    /// As the image file itself, through our hotplug script. The kernel's backend knows no files
    /// and is given a loop device instead.
    Script,
}

/// A raw image file, and how a guest sees it.
#[derive(Clone, Debug)]
pub struct Disk {
    /// Its path in dom0.
    pub path: String,
    /// Its name in the guest, such as `xvda`.
    pub device: &'static str,
    /// How it reaches the backend.
    pub via: Via,
    /// Whether the guest may only read.
    pub is_read_only: bool,
}

impl Disk {
    /// A new copy of a guest's root disk (`guest/build-guest.sh`), as `xvda`.
    ///
    /// # Errors
    ///
    /// dom0 has gone or has no space left.
    pub fn root(dom0: &mut Dom0, name: &str, via: Via) -> anyhow::Result<Self> {
        let path = format!("{FOLDER}/{name}.img");
        dom0.sh(&format!(
            "mkdir -p {FOLDER} && cp --sparse=always /realxen/disk.img {path}"
        ))?;
        Ok(Self {
            path,
            device: "xvda",
            via,
            is_read_only: false,
        })
    }

    /// A new image of `mib` MiB full of noise, as `xvdb`.
    ///
    /// # Errors
    ///
    /// dom0 has gone or has no space left.
    pub fn noise(dom0: &mut Dom0, name: &str, mib: u32, via: Via) -> anyhow::Result<Self> {
        let path = format!("{FOLDER}/{name}.img");
        dom0.sh(&format!(
            "mkdir -p {FOLDER} && head -c {mib}M /dev/urandom > {path}"
        ))?;
        Ok(Self {
            path,
            device: "xvdb",
            via,
            is_read_only: false,
        })
    }

    /// The same disk, not writable by the guest.
    #[must_use]
    pub fn read_only(self) -> Self {
        Self {
            is_read_only: true,
            ..self
        }
    }

    /// The disk's specification for `xl`, its loop device set up where it needs one.
    ///
    /// # Errors
    ///
    /// dom0 has gone, or the image does not exist.
    pub fn line(&self, dom0: &mut Dom0) -> anyhow::Result<String> {
        let Self { path, device, .. } = self;
        let letter = if self.is_read_only { "r" } else { "w" };
        let access = if self.is_read_only { "ro" } else { "rw" };
        Ok(match (self.via, dom0.backend()) {
            (Via::Script, Backend::Daemon) => {
                format!("script=block-image,vdev={device},format=raw,access={access},target={path}")
            }
            (Via::Device, _) => format!("phy:{path},{device},{letter}"),
            (Via::File, _) => format!("file:{path},{device},{letter}"),
            (Via::Loop, _) | (Via::Script, Backend::Kernel) => {
                let node = dom0
                    .sh(&format!("losetup --find --show {path}"))
                    .context("cannot set up a loop device")?;
                format!("phy:{},{device},{letter}", node.trim())
            }
        })
    }

    /// The SHA-256 of `mib` MiB of the image from `from` MiB on, read past dom0's page cache.
    ///
    /// # Errors
    ///
    /// dom0 has gone, or the image cannot be read.
    pub fn checksum(&self, dom0: &mut Dom0, from: u32, mib: u32) -> anyhow::Result<String> {
        let sum = dom0.sh(&checksum_script(&self.path, from, mib))?;
        Ok(sum.trim().to_owned())
    }
}

/// A script for dom0 or a guest that prints the SHA-256 of part of a disk, read with `O_DIRECT`.
#[must_use]
pub fn checksum_script(path: &str, from: u32, mib: u32) -> String {
    format!(
        "dd if={path} bs=1M skip={from} count={mib} iflag=direct 2>/dev/null | sha256sum | cut -c1-64"
    )
}
