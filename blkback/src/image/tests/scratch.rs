//! Files and devices for the tests.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::image::DeviceNumber;

/// A directory of a test's own.
pub(in crate::image) struct Scratch(PathBuf);

impl Scratch {
    pub(in crate::image) fn new(name: &str) -> Self {
        let dir = std::env::temp_dir().canonicalize().unwrap();
        let dir = dir.join(format!("image-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&dir);
        fs::create_dir(&dir).unwrap();
        Self(dir)
    }

    pub(in crate::image) fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    pub(super) fn file(&self, name: &str, size: u64) -> PathBuf {
        let path = self.path(name);
        File::create(&path).unwrap().set_len(size).unwrap();
        path
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A loop device, where this machine lets us have one.
pub(super) struct Loop {
    pub(super) path: PathBuf,
}

impl Loop {
    pub(super) fn over(image: &Path, sector_size: u32) -> Option<Self> {
        let output = Command::new("losetup")
            .args([
                "--find",
                "--show",
                "--sector-size",
                &sector_size.to_string(),
            ])
            .arg(image)
            .output();
        match output {
            Ok(output) if output.status.success() => {
                let path = String::from_utf8(output.stdout).unwrap();
                Some(Self {
                    path: PathBuf::from(path.trim()),
                })
            }
            other => {
                eprintln!("skipped: no loop device here: {other:?}");
                None
            }
        }
    }

    pub(super) fn number(&self) -> DeviceNumber {
        let rdev = std::os::unix::fs::MetadataExt::rdev(&fs::metadata(&self.path).unwrap());
        DeviceNumber {
            major: rustix::fs::major(rdev),
            minor: rustix::fs::minor(rdev),
        }
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        let _ = Command::new("losetup")
            .arg("--detach")
            .arg(&self.path)
            .status();
    }
}
