//! A block device as a frontend sees it, connected and closed.

use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use xenbus::State;

use super::device::Device;
use super::keys::{self, Disk, Limits};
use super::walk::{PATIENCE, wait_ports};
use super::{Done, Io, Misbehaviour, Queue, Shape};

/// A connected device.
#[derive(Debug)]
pub struct Blkfront {
    device: Device,
    shape: Shape,
    disk: Disk,
    queues: Vec<Queue>,
}

impl Device {
    /// Waits for the backend to be ready and reads what it can do.
    ///
    /// # Errors
    /// It is not ready in time.
    pub fn limits(&mut self) -> anyhow::Result<Limits> {
        self.wait_backend(&[State::InitWait])?;
        let backend = self.backend().to_owned();
        Limits::read(self.store(), &backend)
    }

    /// Connects as Linux does: waits for `InitWait`, makes rings, writes keys, Initialised, waits for
    /// the backend, reads what it offers, Connected.
    ///
    /// # Errors
    /// The backend refuses, or does not answer in time.
    pub fn connect(self, shape: Shape) -> anyhow::Result<Blkfront> {
        self.connect_at(shape, 0)
    }

    /// As [`connect`](Self::connect), with ring indices that start at `start`.
    ///
    /// # Errors
    /// As [`connect`](Self::connect).
    pub fn connect_at(mut self, shape: Shape, start: u32) -> anyhow::Result<Blkfront> {
        let limits = self.limits()?;
        let order = u64::from(shape.order.unwrap_or(0));
        ensure!(
            order <= limits.order && u64::from(shape.queues) <= limits.queues,
            "{shape} is more than the backend offers: {limits:?}"
        );
        let queues = (0..shape.queues).map(|_| Queue::starting_at(self.domain(), &shape, start));
        let mut queues = queues.collect::<anyhow::Result<Vec<_>>>()?;
        let rings: Vec<_> = queues.iter().map(Queue::keys).collect();
        self.offer(&keys::offer(&shape, &rings))?;
        self.switch(State::Initialised)?;
        let answers = [State::Connected, State::Closing, State::Closed];
        match self.wait_backend(&answers)? {
            State::Connected => {}
            refused => bail!("the backend went to {refused} instead of connecting"),
        }
        let backend = self.backend().to_owned();
        let disk = Disk::read(self.store(), &backend)?;
        if shape.persistent && disk.persistent {
            queues.iter_mut().for_each(Queue::keep_grants);
        }
        self.switch(State::Connected)?;
        Ok(Blkfront {
            device: self,
            shape,
            disk,
            queues,
        })
    }
}

impl Blkfront {
    /// The connected device.
    #[must_use]
    pub const fn device(&mut self) -> &mut Device {
        &mut self.device
    }

    /// What was asked for.
    #[must_use]
    pub const fn shape(&self) -> &Shape {
        &self.shape
    }

    /// What the backend says about the disk.
    #[must_use]
    pub const fn disk(&self) -> &Disk {
        &self.disk
    }

    /// Whether both sides keep grants.
    #[must_use]
    pub const fn persistent(&self) -> bool {
        self.shape.persistent && self.disk.persistent
    }

    /// The rings.
    #[must_use]
    pub fn queues(&mut self) -> &mut [Queue] {
        &mut self.queues
    }

    /// Most segments that one request may have.
    #[must_use]
    pub fn max_segments(&self) -> usize {
        let direct = ring_proto::blkif::MAX_DIRECT_SEGMENTS;
        match self.shape.segments {
            super::Segments::Direct => direct,
            _ => direct.max(usize::from(self.disk.max_indirect_segments)),
        }
    }

    /// Waits until some queue is signalled, for at most `limit`; whether one was. The events are taken.
    ///
    /// # Errors
    /// The machine is gone.
    pub fn wait(&mut self, limit: Duration) -> anyhow::Result<bool> {
        let deadline = Instant::now() + limit;
        loop {
            let mut came = false;
            for queue in &mut self.queues {
                came |= queue.take_event()?;
            }
            if came || !wait_ports(self.queues.iter().map(Queue::port), deadline)? {
                return Ok(came);
            }
        }
    }

    /// Sends one request on the first queue and waits for its answer.
    ///
    /// # Errors
    /// There is none within ten seconds, or it is not what Linux would accept.
    pub fn answer(&mut self, io: &Io<'_>) -> anyhow::Result<Done> {
        let queue = &mut self.queues[0];
        queue.submit(io)?.context("the ring is full")?;
        queue.publish()?;
        loop {
            let queue = &mut self.queues[0];
            if let Some(done) = queue.take()? {
                return Ok(done);
            }
            if !queue.rearm()? {
                ensure!(self.wait(PATIENCE)?, "no answer within {PATIENCE:?}");
            }
        }
    }

    /// Closes as Linux does when a driver is unloaded, and ends all grants, none of which may be
    /// mapped any more.
    ///
    /// # Errors
    /// The backend does not follow in time, or has something mapped still.
    pub fn close(self) -> anyhow::Result<Device> {
        let Self {
            mut device, queues, ..
        } = self;
        device.close()?;
        let rings: Vec<_> = queues.iter().map(Queue::keys).collect();
        let keys = keys::offer(&self.shape, &rings);
        // Gone with the device if the toolstack was faster.
        let _ = device.withdraw(&keys);
        for queue in queues {
            check_events(&queue)?;
            queue.retire()?;
        }
        Ok(device)
    }

    /// Answers a backend that closes (`block-detach`): Closed, and all grants ended.
    ///
    /// # Errors
    /// As [`close`](Self::close).
    pub fn follow_closing(self) -> anyhow::Result<Device> {
        self.follow_closing_after(|| Ok(()))
    }

    /// As [`follow_closing`](Self::follow_closing), but waits for `unmapped` before grants are
    /// ended: of a worker that was killed, the simulated machine hears a moment later than the
    /// daemon.
    ///
    /// # Errors
    /// As [`close`](Self::close), or `unmapped` fails.
    pub fn follow_closing_after(
        mut self,
        unmapped: impl FnOnce() -> anyhow::Result<()>,
    ) -> anyhow::Result<Device> {
        self.device.follow_closing()?;
        unmapped()?;
        for queue in self.queues {
            queue.retire()?;
        }
        Ok(self.device)
    }

    /// The walk of a kernel that was started over an old one (kexec, crash kernel): Linux
    /// `xenbus_reset_state`. What the old kernel had under way is forgotten.
    ///
    /// # Errors
    /// The backend does not follow a step.
    pub fn kexec(self) -> anyhow::Result<Device> {
        let Self {
            mut device, queues, ..
        } = self;
        device.kexec()?;
        for queue in queues {
            queue.retire()?;
        }
        Ok(device)
    }

    /// Gives the device up without a word, as a guest that is destroyed does.
    #[must_use]
    pub fn vanish(self) -> Device {
        self.device
    }
}

/// FE-11: an event needs a response that it announces; one more is allowed for having connected.
fn check_events(queue: &Queue) -> Result<(), Misbehaviour> {
    let (responses, events) = queue.counts();
    if events > responses + 1 {
        return Err(Misbehaviour::NeedlessEvents { events, responses });
    }
    Ok(())
}
