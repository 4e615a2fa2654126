//! A worker: serves all disks of one guest, in a process that can reach nothing else.
//!
//! This thread takes orders from the broker; every queue has a thread of its own. When the broker
//! dies the worker serves on, and ends with its last device.

use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use anyhow::Context;
use broker::message::{Blame, ToWorker};
use broker::worker::Link;
use crossbeam_channel::{Receiver, Sender, bounded, unbounded};
use evtchn::Evtchn;
use gntdev::Gntdev;
use tracing::{info, warn};

use crate::reporter::Reporter;
use crate::spec::VbdSpec;
use crate::vbd::{Vbd, VbdError, VbdHandles};

/// Serves until told to end, or until the broker is gone, and then until the last device is closed.
///
/// # Errors
/// The link to the broker failed in a way that is not its end, or a thread could not be started:
/// the host's fault.
pub fn run(link: Link, kind: evtchn::Kind) -> anyhow::Result<()> {
    let link = Arc::new(link);
    let orders = listen(&link)?;
    // Bounded by the number of devices that this thread has connected.
    let (closed, closings) = unbounded();
    let mut worker = Worker {
        link,
        kind,
        closed,
        devices: HashMap::new(),
        ending: false,
    };
    worker.serve(&orders, &closings);
    Ok(())
}

#[derive(Debug)]
struct Worker {
    link: Arc<Link>,
    kind: evtchn::Kind,
    closed: Sender<u32>,
    devices: HashMap<u32, Vbd>,
    ending: bool,
}

type Order = (ToWorker, Vec<OwnedFd>);

impl Worker {
    fn serve(&mut self, orders: &Receiver<Order>, closings: &Receiver<u32>) {
        while !(self.ending && self.devices.is_empty()) {
            crossbeam_channel::select! {
                recv(closings) -> device => {
                    if let Ok(device) = device {
                        self.devices.remove(&device);
                    }
                }
                recv(orders) -> order => match order {
                    Ok((order, fds)) => self.obey(order, fds),
                    Err(_gone) => {
                        if !self.ending {
                            info!(devices = self.devices.len(), "the broker is gone; serving on");
                        }
                        self.ending = true;
                        self.await_closings(closings);
                    }
                },
            }
        }
    }

    /// There are no orders any more: only devices that end.
    fn await_closings(&mut self, closings: &Receiver<u32>) {
        while !self.devices.is_empty() {
            if let Ok(device) = closings.recv() {
                self.devices.remove(&device);
            }
        }
    }

    fn obey(&mut self, order: ToWorker, fds: Vec<OwnedFd>) {
        match order {
            ToWorker::Connect { device, spec } => {
                let reporter = Reporter::new(Arc::clone(&self.link), device);
                match self.connect(device, spec, fds, reporter.clone()) {
                    Ok(vbd) => {
                        self.devices.insert(device, vbd);
                        reporter.connected();
                    }
                    Err(err) => reporter.failed(err.blame, err.message),
                }
            }
            ToWorker::Disconnect { device } => match self.devices.get(&device) {
                Some(vbd) => vbd.stop(),
                None => Reporter::new(Arc::clone(&self.link), device).disconnected(),
            },
            ToWorker::Shutdown => self.ending = true,
        }
    }

    fn connect(
        &self,
        device: u32,
        spec: serde_json::Value,
        fds: Vec<OwnedFd>,
        reporter: Reporter,
    ) -> Result<Vbd, VbdError> {
        let ours = |message: String| VbdError {
            blame: Blame::Host,
            message,
        };
        if self.devices.contains_key(&device) {
            return Err(ours(format!("device {device} is connected already")));
        }
        let spec: VbdSpec = serde_json::from_value(spec)
            .map_err(|err| ours(format!("the broker's description is malformed: {err}")))?;
        let handles = self
            .adopt(fds, spec.rings.len())
            .map_err(|err| ours(format!("{err:#}")))?;
        Vbd::connect(spec, handles, reporter, self.closed.clone())
    }

    /// Makes handles of the descriptors: the disk, then for each ring event channels and grants.
    fn adopt(&self, fds: Vec<OwnedFd>, rings: usize) -> anyhow::Result<VbdHandles> {
        let got = fds.len();
        let expected = 1 + 2 * rings;
        anyhow::ensure!(
            got == expected && rings > 0,
            "{got} descriptors came for {rings} rings, expected {expected}"
        );
        let mut fds = fds.into_iter();
        let disk = fds.next().context("no disk")?;
        let mut handles = Vec::with_capacity(rings);
        while let (Some(events), Some(grants)) = (fds.next(), fds.next()) {
            handles.push((
                Evtchn::adopt(self.kind, events)?,
                Gntdev::adopt(grants_kind(self.kind), grants)?,
            ));
        }
        Ok(VbdHandles {
            disk,
            rings: handles,
        })
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
                    Err(err) => warn!(%err, "an order from the broker is unreadable"),
                }
            }
        })
        .context("starting the thread that listens to the broker")?;
    Ok(orders)
}

const fn grants_kind(kind: evtchn::Kind) -> gntdev::Kind {
    match kind {
        evtchn::Kind::Xen => gntdev::Kind::Xen,
        #[cfg(feature = "sim")]
        evtchn::Kind::Sim => gntdev::Kind::Sim,
    }
}
