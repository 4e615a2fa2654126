//! How a device tells the broker what has become of it.

use std::sync::Arc;

use tracing::warn;

use super::Link;
use crate::message::{Blame, FromWorker};

/// Reports about one device, from any of its threads.
#[derive(Clone, Debug)]
pub struct Reporter {
    link: Arc<Link>,
    device: u32,
}

impl Reporter {
    /// Reports about `device` on `link`.
    #[must_use]
    pub const fn new(link: Arc<Link>, device: u32) -> Self {
        Self { link, device }
    }

    /// Whose reports these are.
    #[must_use]
    pub const fn device(&self) -> u32 {
        self.device
    }

    /// The queues run.
    pub fn connected(&self) {
        self.send(&FromWorker::Connected {
            device: self.device,
        });
    }

    /// A change was taken over.
    pub fn adjusted(&self) {
        self.send(&FromWorker::Adjusted {
            device: self.device,
        });
    }

    /// The device could not be connected; nothing of it is held.
    pub fn failed(&self, blame: Blame, message: String) {
        self.send(&FromWorker::Failed {
            device: self.device,
            blame,
            message,
        });
    }

    /// A queue has ended by itself; the device waits to be disconnected.
    pub fn fault(&self, blame: Blame, message: String) {
        self.send(&FromWorker::Fault {
            device: self.device,
            blame,
            message,
        });
    }

    /// The administrator must look; the device stays connected.
    pub fn alert(&self, message: String) {
        self.send(&FromWorker::Alert {
            device: self.device,
            message,
        });
    }

    /// Nothing of the device is held any more.
    pub fn disconnected(&self) {
        self.send(&FromWorker::Disconnected {
            device: self.device,
        });
    }

    fn send(&self, report: &FromWorker) {
        // Without a broker there is nobody to act on it, and the device serves on.
        if let Err(err) = self.link.send(report) {
            warn!(%err, ?report, "the broker does not hear this report");
        }
    }
}
