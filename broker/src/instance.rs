//! One daemon of a kind per machine: two would fight over every device.

use std::fs::{self, File};
use std::io::{self, Read, Seek, Write};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

/// The right to be the only daemon of a name in a run directory; ends with the process, however
/// that ends.
#[derive(Debug)]
pub struct Instance {
    _locked: File,
}

/// Why this process is not the one.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InstanceError {
    /// Another one runs.
    #[error(
        "another {name} runs{}: stop it first (systemctl stop xen-{name}), or give this one a \
         --run-dir of its own",
        pid.map_or_else(String::new, |pid| format!(" (pid {pid})"))
    )]
    Running {
        /// The daemon.
        name: String,
        /// Its process, as far as it has said so.
        pid: Option<u32>,
    },
    /// The run directory cannot be used.
    #[error("run directory {path:?} cannot be used ({error}): it must be writable (see --run-dir)")]
    Directory {
        /// The file or directory.
        path: PathBuf,
        /// The system's word.
        error: io::Error,
    },
}

impl Instance {
    /// Takes the right, creating the directory when it is missing.
    ///
    /// # Errors
    /// [`InstanceError::Running`], or the directory cannot be used.
    pub fn claim(run_dir: &Path, name: &str) -> Result<Self, InstanceError> {
        let path = run_dir.join(format!("{name}.pid"));
        let mut file = open(run_dir, &path).map_err(|error| InstanceError::Directory {
            path: path.clone(),
            error,
        })?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(Errno::WOULDBLOCK) => {
                return Err(InstanceError::Running {
                    name: name.to_owned(),
                    pid: pid_in(&mut file),
                });
            }
            Err(errno) => {
                let error = errno.into();
                return Err(InstanceError::Directory { path, error });
            }
        }
        write_pid(&mut file).map_err(|error| InstanceError::Directory { path, error })?;
        Ok(Self { _locked: file })
    }
}

/// The file stays when the daemon ends: removing it would let two lock two files of one name.
fn open(run_dir: &Path, path: &Path) -> io::Result<File> {
    fs::create_dir_all(run_dir)?;
    File::options()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(path)
}

fn write_pid(file: &mut File) -> io::Result<()> {
    file.set_len(0)?;
    file.rewind()?;
    writeln!(file, "{}", std::process::id())
}

fn pid_in(file: &mut File) -> Option<u32> {
    let mut text = String::new();
    file.take(16).read_to_string(&mut text).ok()?;
    text.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_is_told_who_is_first() {
        let dir = std::env::temp_dir().join(format!("instance-{}/deep", std::process::id()));
        let first = Instance::claim(&dir, "blkback").unwrap();
        let refused = Instance::claim(&dir, "blkback").unwrap_err().to_string();
        let pid = format!("pid {}", std::process::id());
        assert!(refused.contains(&pid), "{refused}");
        let _another_kind = Instance::claim(&dir, "netback").unwrap();
        drop(first);
        Instance::claim(&dir, "blkback").unwrap();
        fs::remove_dir_all(dir.parent().unwrap()).unwrap();
    }

    #[test]
    fn a_run_directory_that_cannot_be_used_is_named() {
        let error = Instance::claim(Path::new("/proc/none"), "blkback").unwrap_err();
        assert!(
            error.to_string().contains("/proc/none/blkback.pid"),
            "{error}"
        );
    }
}
