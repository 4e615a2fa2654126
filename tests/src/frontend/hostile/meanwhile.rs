//! What another CPU of the guest does at the same time.

use std::sync::atomic::{AtomicBool, Ordering};

use crate::frontend::Chance;

/// Runs `work` while another thread keeps changing the ring or a page.
pub(super) fn meanwhile(
    change: impl Fn(&mut Chance) + Send + Sync,
    work: impl FnOnce() -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut chance = Chance::new(1);
            while !stop.load(Ordering::Relaxed) {
                change(&mut chance);
            }
        });
        let outcome = work();
        stop.store(true, Ordering::Relaxed);
        outcome
    })
}
