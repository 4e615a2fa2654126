//! The host's folder that dom0 sees as `/share`.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};

use super::recipe;

/// A folder with the scripts, the programs under test, the jobs and what they leave behind.
#[derive(Debug)]
pub(super) struct Share {
    dir: PathBuf,
}

impl Share {
    /// Lays out a new share below `results`, with `programs` in its `bin`.
    pub(super) fn create(results: &Path, programs: &[PathBuf]) -> anyhow::Result<Self> {
        let share = Self {
            dir: results.join("share"),
        };
        for part in ["boot", "bin", "hotplug", "jobs", "logs"] {
            let dir = share.dir.join(part);
            fs::create_dir_all(&dir).with_context(|| format!("cannot create {}", dir.display()))?;
        }
        for script in recipe::SHARED {
            fs::write(share.dir.join("boot").join(script.name), script.text)
                .with_context(|| format!("cannot write {}", script.name))?;
        }
        for program in programs {
            ensure!(program.is_file(), "{} does not exist", program.display());
            share.take(program, "bin")?;
        }
        for script in hotplug_scripts()? {
            share.take(&script, "hotplug")?;
        }
        Ok(share)
    }

    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    /// Where the files of one job lie.
    pub(super) fn job(&self, id: &str) -> PathBuf {
        self.dir.join("jobs").join(id)
    }

    /// Where jobs leave logs for the host, `/share/logs` in dom0.
    pub(super) fn logs(&self) -> PathBuf {
        self.dir.join("logs")
    }

    fn take(&self, file: &Path, part: &str) -> anyhow::Result<()> {
        let name = file
            .file_name()
            .with_context(|| format!("{} has no file name", file.display()))?;
        let copy = self.dir.join(part).join(name);
        fs::copy(file, &copy).with_context(|| format!("cannot copy {}", file.display()))?;
        fs::set_permissions(&copy, fs::Permissions::from_mode(0o755))
            .with_context(|| format!("cannot make {} executable", copy.display()))
    }
}

impl Drop for Share {
    /// Leaves the logs and the jobs, not the copies of what is elsewhere.
    fn drop(&mut self) {
        for part in ["boot", "bin", "hotplug"] {
            // At worst some megabytes stay among the results.
            let _removed = fs::remove_dir_all(self.dir.join(part));
        }
    }
}

/// The project's own hotplug scripts.
fn hotplug_scripts() -> anyhow::Result<Vec<PathBuf>> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../systemd/hotplug");
    if !dir.is_dir() {
        return Ok(Vec::new());
    }
    fs::read_dir(&dir)
        .with_context(|| format!("cannot list {}", dir.display()))?
        .map(|entry| Ok(entry.context("cannot list the hotplug scripts")?.path()))
        .filter(|path: &anyhow::Result<PathBuf>| path.as_ref().map_or(true, |path| path.is_file()))
        .collect()
}
