//! What the broker and a worker say to each other.
//!
//! Both ends are the same binary, so there is no version to negotiate: [`FromWorker::Hello`]
//! carries one only so that a broker that finds the worker of an older binary can say so.
//! Descriptors travel beside the message ([`crate::channel::Channel`]).

use serde::{Deserialize, Serialize};

/// An order from the broker.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum ToWorker {
    /// Serve this device; answered by [`FromWorker::Connected`] or [`FromWorker::Failed`].
    Connect {
        /// The device number (vdev or vif handle): unique among this guest's devices.
        device: u32,
        /// What the daemon's driver made of the offer; the worker of the same binary parses it.
        spec: serde_json::Value,
    },
    /// Something about a device that is served has changed; answered by [`FromWorker::Adjusted`].
    /// Not if the device is unknown or closing, nor if the change makes no sense.
    Adjust {
        /// The device number of the `Connect`.
        device: u32,
        /// What, in the words of the daemon's driver.
        change: serde_json::Value,
    },
    /// Finish what is in flight, give everything of this device back, answer
    /// [`FromWorker::Disconnected`]. Legal at any time after `Connect`, also when it crosses a
    /// [`FromWorker::Failed`] or the device is unknown: every `Disconnect` gets one answer.
    Disconnect {
        /// The device number of the `Connect`.
        device: u32,
    },
    /// End as soon as no device is left.
    Shutdown,
}

/// A report to the broker.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum FromWorker {
    /// The worker runs; sent once, first.
    Hello {
        /// The binary's version.
        version: String,
        /// The worker's process id.
        pid: u32,
    },
    /// The device's queues run: the guest may be told so.
    Connected {
        /// The device number.
        device: u32,
    },
    /// A change is taken over: what the queues do from now on is as it says.
    Adjusted {
        /// The device number.
        device: u32,
    },
    /// The device could not be connected; nothing of it is held.
    Failed {
        /// The device number.
        device: u32,
        /// Who has to mend it.
        blame: Blame,
        /// For the log and the error node; may quote the guest.
        message: String,
    },
    /// Nothing of this device is mapped, bound, open or in flight any more.
    Disconnected {
        /// The device number.
        device: u32,
    },
    /// An administrator must look at this device. It stays connected, and the broker changes no
    /// state: the message goes to the log and into the error node.
    Alert {
        /// The device number.
        device: u32,
        /// What happened, and the remedy.
        message: String,
    },
    /// A connected device stopped working; it waits for `Disconnect`.
    Fault {
        /// The device number.
        device: u32,
        /// Who caused it.
        blame: Blame,
        /// For the log and the error node; may quote the guest.
        message: String,
    },
}

/// Who caused a failure, which decides what follows: a guest meets a back-off, the host's
/// administrator a log line that he can act on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Blame {
    /// The frontend broke the protocol; only a broken or hostile one can.
    Guest,
    /// This host: a missing file, no memory, an I/O error, our own bug.
    Host,
}
