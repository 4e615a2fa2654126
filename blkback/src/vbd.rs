//! From what the broker says about a VBD to queues that can be started.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use broker::worker::{Backend, DeviceError, Recruit, Reporter};
use evtchn::Evtchn;
use gntdev::Gntdev;
use tracing::{debug, info_span};

use crate::disk::Disk;
use crate::queue::{Queue, QueueSetup};
use crate::spec::VbdSpec;

/// The VBDs of one guest.
#[derive(Debug)]
pub struct Vbds {
    kind: evtchn::Kind,
}

/// The descriptors that came with a [`VbdSpec`], as handles.
#[derive(Debug)]
struct Handles {
    disk: OwnedFd,
    /// For each ring its event channels and grants.
    rings: Vec<(Evtchn, Gntdev)>,
}

impl Vbds {
    /// Takes descriptors of this kind.
    #[must_use]
    pub const fn new(kind: evtchn::Kind) -> Self {
        Self { kind }
    }

    /// Makes handles of the descriptors: the disk, then for each ring event channels and grants.
    fn adopt(&self, fds: Vec<OwnedFd>, rings: usize) -> Result<Handles, DeviceError> {
        let got = fds.len();
        let expected = 1 + 2 * rings;
        let mut fds = fds.into_iter();
        let Some(disk) = fds.next().filter(|_| got == expected && rings > 0) else {
            return Err(DeviceError::host(format!(
                "{got} of {expected} descriptors came: this guest's worker may open too few (too \
                 many open files; raise LimitNOFILE= in the unit, or ulimit -n)"
            )));
        };
        let mut handles = Vec::with_capacity(rings);
        while let (Some(events), Some(grants)) = (fds.next(), fds.next()) {
            handles.push((
                Evtchn::adopt(self.kind, events).map_err(DeviceError::host)?,
                Gntdev::adopt(grants_kind(self.kind), grants).map_err(DeviceError::host)?,
            ));
        }
        Ok(Handles {
            disk,
            rings: handles,
        })
    }
}

impl Backend for Vbds {
    type Queue = Queue;

    fn open(
        &mut self,
        spec: serde_json::Value,
        fds: Vec<OwnedFd>,
        reporter: &Reporter,
    ) -> Result<Vec<Recruit<Queue>>, DeviceError> {
        let spec: VbdSpec = serde_json::from_value(spec).map_err(|err| {
            DeviceError::host(format!("the broker's description is malformed: {err}"))
        })?;
        let handles = self.adopt(fds, spec.rings.len())?;
        let disk = Arc::new(Disk::new(handles.disk, spec.disk.clone()));
        let spec = Arc::new(spec);
        let rings = handles.rings.into_iter().zip(spec.rings.iter().cloned());
        Ok(rings
            .enumerate()
            .map(|(index, ((events, grants), ring))| {
                let (spec, disk) = (Arc::clone(&spec), Arc::clone(&disk));
                let reporter = reporter.clone();
                Recruit {
                    name: format!("vbd-{}-q{index}", spec.vdev),
                    span: info_span!("vbd", vdev = spec.vdev, queue = index),
                    connect: Box::new(move |stop| {
                        let setup = QueueSetup {
                            events,
                            grants,
                            ring,
                            disk,
                            stop,
                            reporter,
                        };
                        Queue::connect(setup, &spec).map_err(|err| DeviceError {
                            blame: err.blame(),
                            message: err.to_string(),
                        })
                    }),
                }
            })
            .collect())
    }
}

impl broker::worker::Queue for Queue {
    fn run(&mut self) -> Result<(), DeviceError> {
        let ended = Self::run(self);
        debug!(counters = ?self.counters(), "the queue has ended");
        ended.map_err(|fault| DeviceError {
            blame: fault.blame(),
            message: fault.to_string(),
        })
    }
}

const fn grants_kind(kind: evtchn::Kind) -> gntdev::Kind {
    match kind {
        evtchn::Kind::Xen => gntdev::Kind::Xen,
        #[cfg(feature = "sim")]
        evtchn::Kind::Sim => gntdev::Kind::Sim,
    }
}
