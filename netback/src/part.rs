//! What a VIF has a thread for, and how such a thread begins.

use std::sync::Arc;

use broker::message::Blame;
use broker::worker::{DeviceError, Recruit};
use evtchn::Evtchn;
use gntdev::Gntdev;
use tracing::{debug, info_span};

use crate::control::{Control, ControlSetup};
use crate::queue::{ConnectError, Queue, QueueSetup, Steer};
use crate::spec::{ControlSpec, QueueSpec, VifSpec};
use crate::steering::Steering;
use crate::tap::TapQueue;
use crate::vif::Vif;

/// What a VIF has a thread for.
#[derive(Debug)]
pub enum Part {
    /// A transmit and a receive ring.
    Queue(Box<Queue>),
    /// The control ring.
    Control(Box<Control>),
}

/// Two descriptors of one ring, or of a pair, as handles.
#[derive(Debug)]
pub(crate) struct Handles {
    pub(crate) events: Evtchn,
    pub(crate) grants: Gntdev,
}

/// The thread of one pair of rings.
pub(crate) fn queue(
    spec: &VifSpec,
    index: u32,
    (tap, handles): (TapQueue, Handles),
    rings: QueueSpec,
    vif: Arc<Vif>,
    steer: Option<Steer>,
) -> Recruit<Part> {
    Recruit {
        name: format!("vif-{}-q{index}", spec.handle),
        span: info_span!("vif", handle = spec.handle, queue = index),
        connect: Box::new(move |stop| {
            let Handles { events, grants } = handles;
            let page = vif.page(index);
            let setup = QueueSetup {
                tap,
                events,
                grants,
                rings,
                vif,
                page,
                steer,
                stop,
            };
            let queue = Queue::connect(setup).map_err(|error| unconnected(&error))?;
            Ok(Part::Queue(Box::new(queue)))
        }),
    }
}

/// The thread of a control ring.
pub(crate) fn control(
    spec: &VifSpec,
    handles: Handles,
    ring: ControlSpec,
    queues: u32,
    steering: Arc<Steering>,
) -> Recruit<Part> {
    let dom = spec.dom();
    Recruit {
        name: format!("vif-{}-ctl", spec.handle),
        span: info_span!("vif-control", handle = spec.handle),
        connect: Box::new(move |stop| {
            let Handles { events, grants } = handles;
            let setup = ControlSetup {
                dom,
                events,
                grants,
                ring,
                queues,
                steering,
                stop,
            };
            let control = Control::connect(setup).map_err(|error| unconnected(&error))?;
            Ok(Part::Control(Box::new(control)))
        }),
    }
}

fn unconnected(error: &ConnectError) -> DeviceError {
    DeviceError {
        blame: error.blame(),
        message: error.to_string(),
    }
}

impl broker::worker::Queue for Part {
    fn run(&mut self) -> Result<(), DeviceError> {
        match self {
            Self::Queue(queue) => {
                let ended = queue.run();
                debug!(counters = ?queue.counters(), "the queue has ended");
                ended.map_err(|fault| ended_by(fault.blame(), &fault))
            }
            Self::Control(control) => {
                let ended = control.run();
                ended.map_err(|fault| ended_by(fault.blame(), &fault))
            }
        }
    }
}

fn ended_by(blame: Blame, fault: &dyn std::error::Error) -> DeviceError {
    DeviceError {
        blame,
        message: fault.to_string(),
    }
}
