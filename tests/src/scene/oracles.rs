//! What must hold of a guest that meant harm, whatever kind of device it had.

use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use xenbus::State;

use super::{GIVEN_BACK, Guest, Scene};
use crate::toolstack::DeviceId;

/// Lines that a guest may cause in a minute, for a device and for its worker (O7).
const MOST_LINES: usize = 20;

impl Scene {
    /// Open descriptors of the daemon.
    ///
    /// # Errors
    /// It has ended.
    pub fn descriptors(&self) -> anyhow::Result<usize> {
        let pid = self.daemon()?.pid().context("it has ended")?;
        Ok(std::fs::read_dir(format!("/proc/{pid}/fd"))?.count())
    }

    /// A guest's worker ends with the guest, and the daemon has as few `descriptors` as before it came
    /// (O4).
    ///
    /// # Errors
    /// Not in time.
    pub fn wait_left(&self, guest: &Guest, descriptors: usize) -> anyhow::Result<()> {
        let deadline = Instant::now() + GIVEN_BACK;
        loop {
            let workers = self.daemon()?.workers(guest.domid());
            let now = self.descriptors()?;
            if workers.is_empty() && now <= descriptors {
                return Ok(());
            }
            ensure!(
                Instant::now() < deadline,
                "O4: workers {workers:?}, {now} descriptors instead of {descriptors}\n{}",
                self.told()
            );
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// The log has few lines about a guest, whose devices it calls `class` (O7).
    ///
    /// # Errors
    /// It has many.
    pub fn has_few_lines(&self, guest: &Guest, class: &str) -> anyhow::Result<()> {
        let log = self.daemon()?.log_lines();
        let device = format!("{class} {}/", guest.domid());
        let domid = format!("domid={}", guest.domid());
        let ours = |line: &&String| line.contains(&device) || ends_word(line, &domid);
        let lines: Vec<_> = log.iter().filter(ours).collect();
        ensure!(
            lines.len() <= MOST_LINES,
            "O7: {} lines: {lines:#?}",
            lines.len()
        );
        Ok(())
    }

    /// A device was closed by the backend: an error node, a closing state, nothing mapped (E1).
    ///
    /// # Errors
    /// It was not, in the time that libxl would wait.
    pub fn wait_refused(
        &mut self,
        guest: &Guest,
        device: impl Into<DeviceId>,
    ) -> anyhow::Result<()> {
        let device = device.into();
        let toolstack = self.toolstack();
        let why = toolstack.wait_error(guest.domid(), device)?;
        ensure!(!why.is_empty(), "the error node is empty");
        toolstack.wait_backend(guest.domid(), device, &[State::Closing, State::Closed])?;
        self.wait_unmapped(guest.domid())
    }
}

/// Is the word there, and not the beginning of a longer number?
fn ends_word(line: &str, word: &str) -> bool {
    line.match_indices(word)
        .any(|(at, _)| !line[at + word.len()..].starts_with(|c: char| c.is_ascii_digit()))
}
