//! The contender: a guest's requests through a ring, the real daemon and its worker.

use std::time::{Duration, Instant};

use anyhow::ensure;

use super::{Contender, Measured, Places, Workload, cpu};
use crate::frontend::model::SECTOR;
use crate::frontend::{Blkfront, Io};

/// How long the backend may take for any one answer.
const PATIENCE: Duration = Duration::from_secs(20);

/// A connected disk whose contents do not matter.
#[derive(Debug)]
pub struct Ring<'a> {
    front: &'a mut Blkfront,
    worker: u32,
    bytes: u64,
}

impl<'a> Ring<'a> {
    /// Measures a connected disk of `bytes` bytes; `worker` is the process that serves it.
    pub fn new(front: &'a mut Blkfront, worker: u32, bytes: u64) -> Self {
        for queue in front.queues() {
            queue.ignore_data();
        }
        Self {
            front,
            worker,
            bytes,
        }
    }

    /// Sends one request; the ring is never asked for more than it has slots.
    fn send(&mut self, workload: Workload, places: &mut Places) -> anyhow::Result<()> {
        let whole_pages = [(0, 7); 32];
        let pages = workload.bytes as usize / gntdev::PAGE_SIZE;
        let segments = whole_pages.get(..pages).unwrap_or(&whole_pages);
        let sector = places.next() / SECTOR as u64;
        let io = if workload.write {
            Io::Write {
                sector,
                segments,
                data: &[],
            }
        } else {
            Io::Read { sector, segments }
        };
        let sent = match self.front.queues().first_mut() {
            Some(queue) => queue.submit(&io)?,
            None => None,
        };
        ensure!(sent.is_some(), "the ring has no slot for {workload}");
        Ok(())
    }

    /// Takes what was answered; how many.
    fn take(&mut self) -> anyhow::Result<u32> {
        let mut taken = 0;
        if let Some(queue) = self.front.queues().first_mut() {
            while let Some(done) = queue.take()? {
                ensure!(done.status == 0, "a request failed: status {}", done.status);
                taken += 1;
            }
        }
        Ok(taken)
    }

    /// Sleeps until there is an answer.
    fn sleep(&mut self) -> anyhow::Result<()> {
        let again = match self.front.queues().first_mut() {
            Some(queue) => queue.rearm()?,
            None => true,
        };
        if !again {
            ensure!(self.front.wait(PATIENCE)?, "no answer in {PATIENCE:?}");
        }
        Ok(())
    }

    fn publish(&mut self) -> anyhow::Result<()> {
        if let Some(queue) = self.front.queues().first_mut() {
            queue.publish()?;
        }
        Ok(())
    }
}

impl Contender for Ring<'_> {
    fn name(&self) -> &'static str {
        "ring"
    }

    fn run(&mut self, workload: Workload, time: Duration) -> anyhow::Result<Measured> {
        let mut places = Places::new(workload, self.bytes);
        let (started, cpu) = (Instant::now(), cpu::of_process(self.worker)?);
        let mut done = 0_u64;
        let mut open = workload.depth;
        for _ in 0..workload.depth {
            self.send(workload, &mut places)?;
        }
        self.publish()?;
        while open > 0 {
            let taken = self.take()?;
            done += u64::from(taken);
            if started.elapsed() < time {
                for _ in 0..taken {
                    self.send(workload, &mut places)?;
                }
                self.publish()?;
            } else {
                open -= taken;
            }
            if taken == 0 {
                self.sleep()?;
            }
        }
        let cpu = cpu::of_process(self.worker)?.saturating_sub(cpu);
        Ok(Measured::new(done, started.elapsed(), cpu))
    }
}
