//! Waits until nobody else needs the machine.

use std::time::{Duration, Instant};

use super::cpu;

/// Busier than this many CPUs, the machine is not quiet.
const QUIET: f64 = 0.3;
const WINDOW: Duration = Duration::from_millis(150);

/// Waits for a quiet moment, for at most `patience`; whether it came.
pub(super) fn wait_for_quiet(patience: Duration) -> anyhow::Result<bool> {
    let deadline = Instant::now() + patience;
    loop {
        let before = (Instant::now(), cpu::of_machine()?);
        std::thread::sleep(WINDOW);
        let busy = cpu::of_machine()?.saturating_sub(before.1);
        if busy.as_secs_f64() < QUIET * before.0.elapsed().as_secs_f64() {
            return Ok(true);
        }
        if Instant::now() >= deadline {
            return Ok(false);
        }
    }
}
