//! The machine, the worker and the broker's end of their link.

use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use blkback::spec::{DiscardSpec, DiskSpec, EngineChoice, RingSpec, VbdSpec};
use blkback::vbd::Vbds;
use broker::channel::{Channel, Received};
use broker::message::{FromWorker, ToWorker};
use broker::worker::Link;
use evtchn::Evtchn;
use gntdev::Gntdev;
use pv_tests::frontend::{Protocol, Queue, Segments, Shape};
use pv_tests::sim::Machine;
use pv_tests::sim::hypervisor::GuestDomain;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{MemfdFlags, memfd_create};

pub(crate) const LONG: Duration = Duration::from_secs(20);
pub(crate) const ENGINES: [EngineChoice; 2] = [EngineChoice::IoUring, EngineChoice::Threads];
/// A device's number in orders; the spec's is another on purpose, orders are what counts.
pub(crate) const DEVICE: u32 = 51712;
pub(crate) const PAGE: &[(u8, u8)] = &[(0, 7)];
pub(crate) const COPYING: Shape = Shape {
    protocol: Protocol::X86_64,
    persistent: false,
    order: None,
    queues: 1,
    segments: Segments::Direct,
};

/// A machine with one guest, and a worker that serves it.
pub(crate) struct Bench {
    pub(crate) guest: Arc<GuestDomain>,
    pub(crate) broker: Channel,
    pub(crate) worker: JoinHandle<anyhow::Result<()>>,
    pub(crate) machine: Machine,
}

impl Bench {
    pub(crate) fn start() -> Self {
        let machine = Machine::temporary().unwrap();
        let guest = machine.guest(4096).unwrap();
        let (broker, theirs) = Channel::pair().unwrap();
        let worker = std::thread::spawn(|| {
            let vbds = Vbds::new(evtchn::Kind::Sim);
            broker::worker::run(Link::adopt(theirs).unwrap(), vbds)
        });
        let bench = Self {
            guest,
            broker,
            worker,
            machine,
        };
        assert!(matches!(bench.report(), FromWorker::Hello { .. }));
        bench
    }

    pub(crate) fn queue(&self, shape: Shape) -> Queue {
        let mut queue = Queue::new(&self.guest, &shape).unwrap();
        if shape.persistent {
            queue.keep_grants();
        }
        queue
    }

    /// Orders a connection of `queues` to `disk`, and does not wait for it.
    pub(crate) fn order(&self, queues: &[&Queue], shape: Shape, engine: EngineChoice, disk: Disk) {
        let ring = |queue: &&Queue| {
            let keys = queue.keys();
            RingSpec {
                refs: keys.refs.iter().map(|gref| gref.raw()).collect(),
                port: keys.port.0,
            }
        };
        let spec = VbdSpec {
            domid: self.guest.domid().raw(),
            vdev: DEVICE + 16,
            protocol: shape.protocol.key().map(str::to_owned),
            persistent: shape.persistent,
            max_indirect_segments: 256,
            disk: disk.spec,
            engine,
            rings: queues.iter().map(ring).collect(),
        };
        let mut fds = vec![disk.file];
        for _ in queues {
            fds.push(Evtchn::open_sim(self.machine.dir()).unwrap().into_fd());
            let grants = Gntdev::open_sim(self.machine.dir()).unwrap();
            fds.push(grants.into_fd().unwrap());
        }
        let fds: Vec<_> = fds.iter().map(AsFd::as_fd).collect();
        let spec = serde_json::to_value(spec).unwrap();
        let order = ToWorker::Connect {
            device: DEVICE,
            spec,
        };
        self.broker.send(&order, &fds).unwrap();
    }

    pub(crate) fn connect(&self, queue: &Queue, shape: Shape, engine: EngineChoice, disk: Disk) {
        self.order(&[queue], shape, engine, disk);
        assert_eq!(self.report(), FromWorker::Connected { device: DEVICE });
    }

    pub(crate) fn say(&self, order: &ToWorker) {
        self.broker.send(order, &[]).unwrap();
    }

    pub(crate) fn disconnect(&self) {
        self.say(&ToWorker::Disconnect { device: DEVICE });
        assert_eq!(self.report(), FromWorker::Disconnected { device: DEVICE });
    }

    /// The worker's next report; it must come soon.
    pub(crate) fn report(&self) -> FromWorker {
        let deadline = Instant::now() + LONG;
        loop {
            match self.broker.try_recv().unwrap() {
                Received::Message(report, _) => return report,
                Received::Empty => {}
                Received::Gone => panic!("the worker is gone"),
            }
            assert!(readable(&self.broker.fd(), deadline), "no report");
        }
    }

    /// Ends the worker, which has no more to say.
    pub(crate) fn end(self) {
        self.say(&ToWorker::Shutdown);
        let deadline = Instant::now() + LONG;
        while !self.worker.is_finished() {
            assert!(Instant::now() < deadline, "it does not end");
            std::thread::yield_now();
        }
        self.worker.join().unwrap().unwrap();
        let unasked = self.broker.try_recv::<FromWorker>().unwrap();
        assert!(matches!(unasked, Received::Empty), "{unasked:?}");
        let control = self.machine.control().unwrap();
        assert_eq!(control.violations().unwrap(), [""; 0]);
        assert_eq!(control.abandoned_pages().unwrap(), 0);
        let domains = control.domains().unwrap();
        assert!(domains.iter().all(|domain| domain.mapped_pages == 0));
    }
}

pub(crate) fn readable(fd: &impl AsFd, deadline: Instant) -> bool {
    let left = deadline.saturating_duration_since(Instant::now());
    let left = Timespec::try_from(left).unwrap();
    poll(&mut [PollFd::new(fd, PollFlags::IN)], Some(&left)).unwrap() > 0
}

pub(crate) struct Disk {
    file: OwnedFd,
    spec: DiskSpec,
}

impl Disk {
    pub(crate) fn over(file: OwnedFd, bytes: u64) -> Self {
        let spec = DiskSpec {
            sectors: bytes / 512,
            sector_size: 512,
            read_only: false,
            block_device: false,
            discard: Some(DiscardSpec {
                granularity: 4096,
                alignment: 0,
            }),
            flush: true,
        };
        Self { file, spec }
    }

    pub(crate) fn memory(bytes: u64) -> Self {
        let file = File::from(memfd_create("disk", MemfdFlags::CLOEXEC).unwrap());
        file.set_len(bytes).unwrap();
        Self::over(file.into(), bytes)
    }
}
