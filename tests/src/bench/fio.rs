//! The peer that users know: fio with `io_uring` on the same file.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, ensure};

use super::{Contender, Measured, Workload};

/// `fio --ioengine=io_uring`, with registered buffers and files.
#[derive(Debug)]
pub struct Fio {
    path: PathBuf,
}

impl Fio {
    /// Measures the file at `path`; `None` if fio is not installed.
    #[must_use]
    pub fn new(path: &Path) -> Option<Self> {
        let version = Command::new("fio").arg("--version").output().ok()?;
        version.status.success().then(|| Self {
            path: path.to_path_buf(),
        })
    }
}

impl Contender for Fio {
    fn name(&self) -> &'static str {
        "fio"
    }

    fn run(&mut self, workload: Workload, time: Duration) -> anyhow::Result<Measured> {
        let Workload {
            write,
            bytes,
            depth,
            random,
        } = workload;
        let order = if random { "rand" } else { "" };
        let kind = if write { "write" } else { "read" };
        let output = Command::new("fio")
            .args(["--name=peer", "--ioengine=io_uring", "--direct=1"])
            .args(["--fixedbufs=1", "--registerfiles=1", "--thread=1"])
            .args(["--time_based=1", "--output-format=json", "--randrepeat=0"])
            .arg(format!("--filename={}", self.path.display()))
            .arg(format!("--rw={order}{kind}"))
            .arg(format!("--bs={bytes}"))
            .arg(format!("--iodepth={depth}"))
            .arg(format!("--runtime={}ms", time.as_millis()))
            .output()
            .context("cannot run fio")?;
        ensure!(
            output.status.success(),
            "fio failed:\n{}",
            String::from_utf8_lossy(&output.stderr)
        );
        let report: serde_json::Value =
            serde_json::from_slice(&output.stdout).context("fio's report is no JSON")?;
        let iops = report["jobs"][0][kind]["iops"].as_f64();
        Ok(Measured {
            iops: iops.context("fio's report has no IOPS")?,
            cpu_us: 0.0,
        })
    }
}
