//! The peer that does nothing but the disk I/O: the same engine, without guest and ring.

use std::fs::{File, OpenOptions};
use std::os::fd::OwnedFd;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use blkback::disk::Disk;
use blkback::engine::{Completion, Engine, Io, IoKind, WakeSources};
use blkback::spec::{DiskSpec, EngineChoice};
use gntdev::LocalPages;
use rustix::event::{EventfdFlags, eventfd};
use rustix::time::{ClockId, clock_gettime};

use super::{Contender, Measured, Places, Workload};

/// A bare loop over a file: as many operations as the depth, each replaced when it completes.
#[derive(Debug)]
pub struct Native {
    path: PathBuf,
    bytes: u64,
}

impl Native {
    /// Measures the file at `path`.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn new(path: &Path) -> anyhow::Result<Self> {
        Ok(Self {
            path: path.to_path_buf(),
            bytes: File::open(path)?.metadata()?.len(),
        })
    }

    fn disk(&self) -> anyhow::Result<Disk> {
        let direct = i32::try_from(rustix::fs::OFlags::DIRECT.bits())?;
        let mut options = OpenOptions::new();
        options.read(true).write(true);
        let file = options
            .clone()
            .custom_flags(direct)
            .open(&self.path)
            .or_else(|_no_direct_io| options.open(&self.path))
            .with_context(|| format!("cannot open {}", self.path.display()))?;
        let spec = DiskSpec {
            sectors: self.bytes / 512,
            sector_size: 512,
            read_only: false,
            block_device: false,
            discard: None,
            flush: true,
        };
        Ok(Disk::new(OwnedFd::from(file), spec))
    }
}

impl Contender for Native {
    fn name(&self) -> &'static str {
        "io_uring"
    }

    fn run(&mut self, workload: Workload, time: Duration) -> anyhow::Result<Measured> {
        let disk = Arc::new(self.disk()?);
        let pages = workload.depth as usize * workload.bytes as usize / gntdev::PAGE_SIZE;
        let pages = Arc::new(LocalPages::new(pages)?);
        let flags = EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK;
        let (events, stop) = (eventfd(0, flags)?, eventfd(0, flags)?);
        let sources = WakeSources::new(&events, &stop);
        let mut engine = Engine::new(EngineChoice::Auto, &disk, &pages, sources, workload.depth)?;
        let mut places = Places::new(workload, self.bytes);
        let mut io = |token: u32| Io {
            token,
            kind: if workload.write {
                IoKind::Write
            } else {
                IoKind::Read
            },
            offset: places.next(),
            len: u64::from(workload.bytes),
            at: token as usize * workload.bytes as usize,
        };
        let (started, cpu) = (Instant::now(), own_cpu());
        let mut completions: Vec<Completion> = Vec::new();
        let mut done = 0_u64;
        for token in 0..workload.depth {
            engine.submit(io(token))?;
        }
        while engine.in_flight() > 0 {
            engine.wait(None)?;
            engine.reap(&mut completions)?;
            let more = started.elapsed() < time;
            for Completion { token, result } in completions.drain(..) {
                ensure!(
                    result == Ok(u64::from(workload.bytes)),
                    "a request came to {result:?}"
                );
                done += 1;
                if more {
                    engine.submit(io(token))?;
                }
            }
        }
        Ok(Measured::new(
            done,
            started.elapsed(),
            own_cpu().saturating_sub(cpu),
        ))
    }
}

/// CPU time of this thread.
fn own_cpu() -> Duration {
    let now = clock_gettime(ClockId::ThreadCPUTime);
    Duration::try_from(now).unwrap_or_default()
}
