//! A worker's own side: serves all devices of one guest, in a process that is handed nothing else.
//!
//! This thread takes orders from the broker; every queue has a thread of its own. When the broker
//! dies the worker serves on, and ends with its last device.

use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use anyhow::Context;
use crossbeam_channel::{Receiver, Sender, bounded, unbounded};
use tracing::{error, info, warn};

use super::crew::{Crew, News};
use super::{DeviceError, Link, Queue, Recruit, Reporter};
use crate::channel::ChannelError;
use crate::message::ToWorker;

/// What a daemon's worker knows about its kind of device.
pub trait Backend {
    /// One of a device's queues.
    type Queue: Queue + 'static;

    /// Makes sense of what the broker's driver said about a device, and of the descriptors that
    /// came with it: the queues that are to be started. Nothing of the guest is touched yet.
    ///
    /// # Errors
    /// The host's: broker and worker do not fit together.
    fn open(
        &mut self,
        spec: serde_json::Value,
        fds: Vec<OwnedFd>,
        reporter: &Reporter,
    ) -> Result<Vec<Recruit<Self::Queue>>, DeviceError>;

    /// Something about a device that is served has changed. When this returns, whatever its queues
    /// begin is done accordingly.
    ///
    /// # Errors
    /// The host's: broker and worker do not fit together. The device goes on as it was.
    fn adjust(&mut self, device: u32, change: serde_json::Value) -> Result<(), DeviceError> {
        let change = change.to_string();
        Err(DeviceError::host(format!(
            "nothing of device {device} can change: {change}"
        )))
    }

    /// All queues of a device have ended.
    fn closed(&mut self, _device: u32) {}
}

/// Serves until told to end, or until the broker is gone, and then until the last device is closed.
///
/// # Errors
/// A thread could not be started: the host's fault.
pub fn run(link: Link, backend: impl Backend) -> anyhow::Result<()> {
    let link = Arc::new(link);
    let orders = listen(&link)?;
    // Bounded by the number of queues that this thread has started.
    let (tell, news) = unbounded();
    let mut worker = Worker {
        link,
        backend,
        tell,
        devices: HashMap::new(),
        alone: false,
        ending: false,
    };
    worker.serve(&orders, &news);
    Ok(())
}

#[derive(Debug)]
struct Worker<B> {
    link: Arc<Link>,
    backend: B,
    tell: Sender<News>,
    devices: HashMap<u32, Device>,
    /// There is no broker: what has closed is forgotten unasked.
    alone: bool,
    ending: bool,
}

/// A device that was connected, until its `Disconnect` is answered.
#[derive(Debug)]
struct Device {
    crew: Crew,
    /// All its queues have ended.
    closed: bool,
    /// Orders to disconnect that were not answered yet: each is answered once.
    owed: u32,
}

type Order = (ToWorker, Vec<OwnedFd>);

impl<B: Backend> Worker<B> {
    fn serve(&mut self, orders: &Receiver<Order>, news: &Receiver<News>) {
        while !(self.ending && self.devices.is_empty()) {
            crossbeam_channel::select! {
                recv(news) -> heard => {
                    if let Ok(heard) = heard {
                        self.heed(heard);
                    }
                }
                recv(orders) -> order => match order {
                    Ok((order, fds)) => {
                        // News of devices that were, before the order makes new ones of them.
                        news.try_iter().for_each(|heard| self.heed(heard));
                        self.obey(order, fds);
                    }
                    Err(_gone) => self.serve_alone(news),
                },
            }
        }
    }

    /// There are no orders any more: only devices that end.
    fn serve_alone(&mut self, news: &Receiver<News>) {
        if !self.ending {
            info!(
                devices = self.devices.len(),
                "the broker is gone; serving on"
            );
        }
        (self.alone, self.ending) = (true, true);
        self.devices.retain(|_, device| !device.closed);
        while !self.devices.is_empty() {
            if let Ok(heard) = news.recv() {
                self.heed(heard);
            }
        }
    }

    /// Reports what has become of a device, unless it is none of ours any more.
    fn heed(&mut self, news: News) {
        match news {
            News::Fault { device, error } => {
                if self.devices.contains_key(&device) {
                    self.reporter(device).fault(error.blame, error.message);
                }
            }
            News::Closed { device } => {
                if let Some(closed) = self.devices.get_mut(&device) {
                    closed.closed = true;
                    self.backend.closed(device);
                    self.settle(device);
                }
            }
        }
    }

    /// Forgets a device that has closed, if that was ordered, and says so.
    fn settle(&mut self, device: u32) {
        let due = |state: &Device| state.closed && (state.owed > 0 || self.alone);
        if !self.devices.get(&device).is_some_and(due) {
            return;
        }
        let owed = self.devices.remove(&device).map_or(0, |state| state.owed);
        for _ in 0..owed {
            self.reporter(device).disconnected();
        }
    }

    fn obey(&mut self, order: ToWorker, fds: Vec<OwnedFd>) {
        match order {
            ToWorker::Connect { device, spec } => {
                let reporter = self.reporter(device);
                match self.connect(spec, fds, &reporter) {
                    Ok(crew) => {
                        let (closed, owed) = (false, 0);
                        self.devices.insert(device, Device { crew, closed, owed });
                        reporter.connected();
                    }
                    Err(err) => reporter.failed(err.blame, err.message),
                }
            }
            ToWorker::Disconnect { device } => match self.devices.get_mut(&device) {
                Some(state) => {
                    state.owed += 1;
                    state.crew.stop();
                    self.settle(device);
                }
                None => self.reporter(device).disconnected(),
            },
            ToWorker::Adjust { device, change } => {
                let served = self.devices.get(&device).is_some_and(|state| !state.closed);
                let taken = served.then(|| self.backend.adjust(device, change));
                match taken {
                    Some(Ok(())) => self.reporter(device).adjusted(),
                    Some(Err(err)) => self.reporter(device).alert(err.message),
                    None => {}
                }
            }
            ToWorker::Shutdown => self.ending = true,
        }
    }

    fn reporter(&self, device: u32) -> Reporter {
        Reporter::new(Arc::clone(&self.link), device)
    }

    fn connect(
        &mut self,
        spec: serde_json::Value,
        fds: Vec<OwnedFd>,
        reporter: &Reporter,
    ) -> Result<Crew, DeviceError> {
        let device = reporter.device();
        if self.devices.contains_key(&device) {
            let twice = format!("device {device} is connected already");
            return Err(DeviceError::host(twice));
        }
        let recruits = self.backend.open(spec, fds, reporter)?;
        Crew::start(recruits, reporter, self.tell.clone())
    }
}

/// The broker's orders as a channel, so that they can be waited for together with closing devices.
fn listen(link: &Arc<Link>) -> anyhow::Result<Receiver<Order>> {
    let (tell, orders) = bounded(16);
    let link = Arc::clone(link);
    std::thread::Builder::new()
        .name("orders".into())
        .spawn(move || {
            loop {
                match link.recv() {
                    Ok(Some(order)) => {
                        if tell.send(order).is_err() {
                            return;
                        }
                    }
                    Ok(None) => return,
                    Err(err @ ChannelError::Socket(_)) => {
                        error!(%err, "the broker cannot be heard any more");
                        return;
                    }
                    Err(err) => warn!(%err, "an order from the broker is unreadable"),
                }
            }
        })
        .context("starting the thread that listens to the broker")?;
    Ok(orders)
}
