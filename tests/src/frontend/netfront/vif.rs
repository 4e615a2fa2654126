//! A network interface as a frontend sees it, connected and closed.

use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use xenbus::State;

use super::offer::{self, Backend};
use super::{Control, NetQueue, NetShape};
use crate::frontend::device::Device;
use crate::frontend::walk::wait_ports;
use crate::sim::hypervisor::GuestPort;

/// A connected interface.
#[derive(Debug)]
pub struct Netfront {
    device: Device,
    shape: NetShape,
    backend: Backend,
    queues: Vec<NetQueue>,
    control: Option<Control>,
}

impl Netfront {
    /// Connects as Linux does: waits for `InitWait`, makes rings, posts buffers, writes keys,
    /// Connected, and then waits for the backend, whose interface the hotplug script must have pulled
    /// up.
    ///
    /// # Errors
    /// The backend refuses, or does not answer in time.
    pub fn connect(device: Device, shape: NetShape) -> anyhow::Result<Self> {
        Self::connect_at(device, shape, 0)
    }

    /// As [`connect`](Self::connect), with ring indices that start at `start`.
    ///
    /// # Errors
    /// As [`connect`](Self::connect).
    pub fn connect_at(mut device: Device, shape: NetShape, start: u32) -> anyhow::Result<Self> {
        let backend = Self::backend(&mut device)?;
        let mut front = Self::prepare(device, shape, backend, start)?;
        front.device.switch(State::Connected)?;
        let answers = [State::Connected, State::Closing, State::Closed];
        match front.device.wait_backend(&answers)? {
            State::Connected => Ok(front),
            refused => bail!("the backend went to {refused} instead of connecting"),
        }
    }

    /// Waits for the backend to be ready; what it offers.
    ///
    /// # Errors
    /// It is not ready in time, or offers nothing that a frontend could use.
    pub fn backend(device: &mut Device) -> anyhow::Result<Backend> {
        device.wait_backend(&[State::InitWait])?;
        let path = device.backend().to_owned();
        Backend::read(device.store(), &path)
    }

    /// Everything before state Connected: rings, buffers and keys.
    ///
    /// # Errors
    /// The shape is more than the backend offers, or the guest is out of pages.
    pub fn prepare(
        mut device: Device,
        shape: NetShape,
        backend: Backend,
        start: u32,
    ) -> anyhow::Result<Self> {
        ensure!(
            shape.queues <= backend.queues,
            "{shape} is more than the backend offers: {backend:?}"
        );
        let split = shape.split && backend.split;
        let queue = |_| NetQueue::new(device.domain(), &shape, split, start);
        let mut queues = (0..shape.queues)
            .map(queue)
            .collect::<anyhow::Result<Vec<_>>>()?;
        for queue in &mut queues {
            queue.rx.fill()?;
        }
        let keys: Vec<_> = queues.iter().map(NetQueue::keys).collect();
        let mut keys = offer::offer(&shape, &keys);
        let control = shape.control && backend.control;
        let control = control.then(|| Control::new(device.domain(), start));
        let control = control.transpose()?;
        keys.extend(control.iter().flat_map(Control::keys));
        device.offer(&keys)?;
        for queue in &mut queues {
            queue.publish()?;
        }
        Ok(Self {
            device,
            shape,
            backend,
            queues,
            control,
        })
    }

    /// The connected device.
    #[must_use]
    pub const fn device(&mut self) -> &mut Device {
        &mut self.device
    }

    /// What was asked for.
    #[must_use]
    pub const fn shape(&self) -> &NetShape {
        &self.shape
    }

    /// What the backend has offered.
    #[must_use]
    pub const fn offered(&self) -> &Backend {
        &self.backend
    }

    /// The queues.
    #[must_use]
    pub fn queues(&mut self) -> &mut [NetQueue] {
        &mut self.queues
    }

    /// The control ring.
    ///
    /// # Errors
    /// There is none: it was not offered, or not asked for.
    pub fn control(&mut self) -> anyhow::Result<&mut Control> {
        self.control.as_mut().context("there is no control ring")
    }

    /// From now on frames may come with a hash, or must not.
    pub fn expect_hashes(&mut self, may: bool) {
        for queue in &mut self.queues {
            queue.rx.expect_hashes(may);
        }
    }

    /// The event channels of all queues.
    pub fn ports(&self) -> impl Iterator<Item = &GuestPort> {
        self.queues.iter().flat_map(NetQueue::ports)
    }

    /// Asks for an event at the next response of any ring; `true` if there is one already.
    ///
    /// # Errors
    /// A ring is broken.
    pub fn rearm(&mut self) -> anyhow::Result<bool> {
        let mut more = false;
        for queue in &mut self.queues {
            more |= queue.rearm()?;
        }
        Ok(more)
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
                came |= queue.take_events()?;
            }
            if came || !wait_ports(self.ports(), deadline)? {
                return Ok(came);
            }
        }
    }

    /// Asks for another headroom, as Linux does when an XDP program comes or goes: the key, state
    /// Reconfiguring, wait for Reconfigured, Connected again. Returns when the backend is, too: a
    /// Reconfigured that is still there would be taken for the answer to the next change.
    ///
    /// # Errors
    /// The backend does not answer in time.
    pub fn reconfigure(&mut self, headroom: u16) -> anyhow::Result<()> {
        for queue in &mut self.queues {
            queue.rx.change_headroom(headroom);
        }
        let path = format!("{}/xdp-headroom", self.device.frontend());
        self.device.store().write(&path, headroom.to_string())?;
        self.device.switch(State::Reconfiguring)?;
        self.device.wait_backend(&[State::Reconfigured])?;
        self.device.switch(State::Connected)?;
        self.device.wait_backend(&[State::Connected])?;
        Ok(())
    }

    /// From now on each frame must have the headroom that was asked for last.
    pub fn settle_headroom(&mut self) {
        for queue in &mut self.queues {
            queue.rx.settle_headroom();
        }
    }

    /// Closes as Linux does when a driver is unloaded, and ends all grants, none of which may be
    /// mapped any more.
    ///
    /// # Errors
    /// The backend does not follow in time, or has something mapped still.
    pub fn close(mut self) -> anyhow::Result<Device> {
        self.device.close()?;
        let keys: Vec<_> = self.queues.iter().map(NetQueue::keys).collect();
        let mut keys = offer::offer(&self.shape, &keys);
        keys.extend(self.control.iter().flat_map(Control::keys));
        // Gone with the device if the toolstack was faster.
        let _ = self.device.withdraw(&keys);
        for queue in &self.queues {
            queue.check_events()?;
        }
        retire(self.queues, self.control, &self.device)?;
        Ok(self.device)
    }

    /// Answers a backend that closes (`network-detach`): Closed, and all grants ended.
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
        retire(self.queues, self.control, &self.device)?;
        Ok(self.device)
    }

    /// The walk of a kernel that was started over an old one (kexec, crash kernel): Linux
    /// `xenbus_reset_state`. What the old kernel had under way is forgotten.
    ///
    /// # Errors
    /// The backend does not follow a step.
    pub fn kexec(self) -> anyhow::Result<Device> {
        let Self {
            mut device,
            queues,
            control,
            ..
        } = self;
        device.kexec()?;
        retire(queues, control, &device)?;
        Ok(device)
    }

    /// Gives the interface up without a word, as a guest that is destroyed does.
    #[must_use]
    pub fn vanish(self) -> Device {
        self.device
    }
}

/// Ends all grants, after the backend has closed.
fn retire(queues: Vec<NetQueue>, control: Option<Control>, device: &Device) -> anyhow::Result<()> {
    for queue in queues {
        queue.retire()?;
    }
    match control {
        Some(control) => control.retire(device.domain()),
        None => Ok(()),
    }
}
