//! What a worker keeps of the memory that frames pass through.

use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use pv_tests::frontend::netfront::{NetShape, Traffic};
use pv_tests::scene::{Guest, Scene};

use super::{Stage, nic};

/// As long as a slow machine may need. It is two seconds.
const SOON: Duration = Duration::from_secs(20);

/// A part of what a queue borrows, in bytes: it does not use all of it here.
const SOME: u64 = 128 << 10;

/// Bytes of memory that a guest's worker has for itself.
pub(super) fn private(scene: &Scene, guest: &Guest) -> anyhow::Result<u64> {
    let workers = scene.daemon()?.workers(guest.domid());
    let pid = workers.first().context("no worker")?;
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find(|line| line.starts_with("RssAnon:"));
    let words = line.and_then(|line| line.split_whitespace().nth(1));
    Ok(words.context("no RssAnon")?.parse::<u64>()? * 1024)
}

/// No event tells of it.
#[test]
fn an_interface_that_is_idle_keeps_no_memory_for_frames() -> anyhow::Result<()> {
    let mut stage = Stage::set(nic().mtu(9000), NetShape::LINUX)?;
    for _ in 0..2 {
        stage.wire.run(&Traffic {
            sizes: (8000, 9014),
            ..Traffic::MIXED
        })?;
        let busy = private(&stage.scene, &stage.guest)?;
        let deadline = Instant::now() + SOON;
        loop {
            let kept = private(&stage.scene, &stage.guest)?;
            if kept + SOME <= busy {
                break;
            }
            ensure!(Instant::now() < deadline, "{kept} of {busy} bytes are kept");
            std::thread::sleep(Duration::from_millis(5));
        }
    }
    stage.clear()
}
