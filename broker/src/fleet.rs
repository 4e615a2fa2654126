//! The workers: at most one per guest, started when a device needs one, ended with the last.

use std::collections::BTreeSet;
use std::collections::btree_map::{BTreeMap, Entry};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::{Duration, Instant};

use mio::unix::SourceFd;
use mio::{Interest, Registry, Token};
use ring_proto::DomId;

use crate::channel::{ChannelError, Received};
use crate::incumbent::Record;
use crate::message::{FromWorker, ToWorker};
use crate::pace::Bucket;
use crate::worker::{Command, Exit, Worker};

/// Reports of one worker: a good one has a few for each queue of each device at once, and then
/// only as many as its guest may make it connect. One that somebody took over must not keep us from
/// all others, or fill the store.
const REPORTS: u32 = 4096;
const REPORT_EVERY: Duration = Duration::from_millis(10);

/// What a worker's descriptor that became readable means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ready {
    /// It reports.
    Link(DomId),
    /// It has ended.
    Exit(DomId),
}

/// A worker that has ended.
#[derive(Debug)]
pub(crate) struct Ended {
    /// Its process id, for the log.
    pub(crate) pid: u32,
    pub(crate) exit: Exit,
    /// What it had been told to end.
    pub(crate) ordered: bool,
    /// The devices it held.
    pub(crate) devices: BTreeSet<u32>,
}

/// What became of an order to connect.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Ordered {
    /// The worker has it and will answer.
    Sent,
    /// The guest's worker is just ending; order again when it has.
    Ending,
}

#[derive(Debug)]
struct Member {
    worker: Worker,
    record: Record,
    /// Devices it was told to connect and has not given back.
    devices: BTreeSet<u32>,
    /// It was told to end, or does not take orders any more.
    ending: bool,
    reports: Bucket,
}

#[derive(Debug)]
pub(crate) struct Fleet {
    command: Command,
    registry: Registry,
    records: Box<Path>,
    members: BTreeMap<DomId, Member>,
}

impl Fleet {
    /// Tokens of workers begin here; each guest has two.
    pub(crate) const TOKENS: usize = 16;

    pub(crate) fn new(command: Command, registry: Registry, run_dir: &Path) -> Self {
        Self {
            command,
            registry,
            records: run_dir.into(),
            members: BTreeMap::new(),
        }
    }

    /// Which worker a poll token belongs to.
    pub(crate) fn ready(token: Token) -> Option<Ready> {
        let index = token.0.checked_sub(Self::TOKENS)?;
        let domid = DomId::new(u16::try_from(index / 2).ok()?);
        Some(if index % 2 == 0 {
            Ready::Link(domid)
        } else {
            Ready::Exit(domid)
        })
    }

    /// The first token that is nobody's.
    pub(crate) const fn tokens_end() -> usize {
        Self::TOKENS + 2 * (u16::MAX as usize + 1)
    }

    /// Is there a worker to take a device of this guest, or could one be started now?
    pub(crate) fn is_ending(&self, guest: DomId) -> bool {
        self.members.get(&guest).is_some_and(|member| member.ending)
    }

    /// Orders a device to be connected, starting a worker if the guest has none. The descriptors
    /// are the worker's alone once the caller drops his.
    ///
    /// # Errors
    /// No worker could be started, or it does not take the order.
    pub(crate) fn connect(
        &mut self,
        guest: DomId,
        device: u32,
        spec: serde_json::Value,
        fds: &[OwnedFd],
    ) -> io::Result<Ordered> {
        let member = match self.members.entry(guest) {
            Entry::Occupied(entry) => entry.into_mut(),
            Entry::Vacant(entry) => {
                let member = Member::start(&self.command, &self.registry, &self.records, guest)?;
                entry.insert(member)
            }
        };
        if member.ending {
            return Ok(Ordered::Ending);
        }
        let borrowed: Vec<BorrowedFd<'_>> = fds.iter().map(AsFd::as_fd).collect();
        let order = ToWorker::Connect { device, spec };
        match member.worker.send(&order, &borrowed) {
            Ok(()) => {
                member.devices.insert(device);
                Ok(Ordered::Sent)
            }
            Err(ChannelError::Gone) => {
                member.ending = true;
                Ok(Ordered::Ending)
            }
            Err(error) => {
                if member.devices.is_empty() {
                    member.ending = true;
                    member.worker.kill()?;
                }
                Err(io::Error::other(error))
            }
        }
    }

    /// Tells a worker what has changed about a device that it serves.
    ///
    /// # Errors
    /// It takes no orders.
    pub(crate) fn adjust(
        &mut self,
        guest: DomId,
        device: u32,
        change: serde_json::Value,
    ) -> io::Result<()> {
        match self.members.get(&guest) {
            Some(member) if member.devices.contains(&device) => {
                let order = ToWorker::Adjust { device, change };
                member.worker.send(&order, &[]).map_err(io::Error::other)
            }
            _ => Ok(()),
        }
    }

    /// Orders a device to be given back; false when no worker has it. A worker that does not
    /// take orders is ended, which gives everything back.
    pub(crate) fn disconnect(&mut self, guest: DomId, device: u32) -> io::Result<bool> {
        let Some(member) = self.members.get(&guest) else {
            return Ok(false);
        };
        if !member.devices.contains(&device) {
            return Ok(false);
        }
        match member.worker.send(&ToWorker::Disconnect { device }, &[]) {
            // Its end is reported by its pidfd.
            Ok(()) | Err(ChannelError::Gone) => Ok(true),
            Err(error) => {
                tracing::error!(domid = %guest, %error, "worker takes no orders; it is killed");
                member.worker.kill()?;
                Ok(true)
            }
        }
    }

    /// Notes that the worker holds nothing of the device any more; the last one ends the worker.
    pub(crate) fn released(&mut self, guest: DomId, device: u32) {
        let Some(member) = self.members.get_mut(&guest) else {
            return;
        };
        if !member.devices.remove(&device) || !member.devices.is_empty() || member.ending {
            return;
        }
        member.ending = true;
        if let Err(error) = member.worker.send(&ToWorker::Shutdown, &[]) {
            tracing::debug!(domid = %guest, %error, "worker ends before it is told to");
        }
    }

    /// Takes the next report of a guest's worker; `None` when there is none, or no worker.
    ///
    /// # Errors
    /// The worker cannot be ended.
    pub(crate) fn report(&mut self, guest: DomId, now: Instant) -> io::Result<Option<FromWorker>> {
        let Some(member) = self.members.get_mut(&guest) else {
            return Ok(None);
        };
        // One that is not to be trusted any more is killed; its end is reported by its pidfd.
        match member.worker.try_recv() {
            Ok(Received::Message(report, _)) if member.reports.take(now).is_ok() => {
                return Ok(Some(report));
            }
            Ok(Received::Empty | Received::Gone) => return Ok(None),
            Ok(Received::Message(..)) => {
                tracing::error!(domid = %guest, "worker reports without end; it is killed");
            }
            Err(error) => {
                tracing::error!(domid = %guest, %error, "worker reports nonsense; it is killed");
            }
        }
        member.worker.kill()?;
        Ok(None)
    }

    /// Reaps a guest's worker if it has ended.
    ///
    /// # Errors
    /// It is not ours to reap.
    pub(crate) fn reap(&mut self, guest: DomId) -> io::Result<Option<Ended>> {
        let Some(member) = self.members.get_mut(&guest) else {
            return Ok(None);
        };
        let pid = member.worker.pid();
        let Some(exit) = member.worker.reap()? else {
            return Ok(None);
        };
        let Some(member) = self.members.remove(&guest) else {
            return Ok(None);
        };
        for fd in [member.worker.link_fd(), member.worker.pidfd()] {
            self.registry.deregister(&mut SourceFd(&fd.as_raw_fd()))?;
        }
        member.record.remove();
        Ok(Some(Ended {
            pid,
            exit,
            ordered: member.ending,
            devices: member.devices,
        }))
    }

    /// Ends a guest's worker at once.
    pub(crate) fn kill(&self, guest: DomId) -> io::Result<()> {
        self.members
            .get(&guest)
            .map_or(Ok(()), |member| member.worker.kill())
    }

    /// The process of a guest's worker.
    pub(crate) fn pid(&self, guest: DomId) -> Option<u32> {
        Some(self.members.get(&guest)?.worker.pid())
    }

    /// How many devices the guest's worker holds.
    pub(crate) fn devices(&self, guest: DomId) -> usize {
        self.members
            .get(&guest)
            .map_or(0, |member| member.devices.len())
    }

    /// How many workers serve something.
    pub(crate) fn serving(&self) -> usize {
        self.members
            .values()
            .filter(|member| !member.devices.is_empty())
            .count()
    }
}

impl Member {
    fn start(
        command: &Command,
        registry: &Registry,
        records: &Path,
        guest: DomId,
    ) -> io::Result<Self> {
        let worker = Worker::spawn(command, guest)?;
        let (link, exit) = tokens(guest);
        let registered = [(worker.link_fd(), link), (worker.pidfd(), exit)]
            .iter()
            .try_for_each(|(fd, token)| {
                registry.register(&mut SourceFd(&fd.as_raw_fd()), *token, Interest::READABLE)
            });
        let record = registered.and_then(|()| Record::write(records, guest, worker.pid()));
        match record {
            Ok(record) => {
                tracing::debug!(domid = %guest, pid = worker.pid(), "worker started");
                Ok(Self {
                    worker,
                    record,
                    devices: BTreeSet::new(),
                    ending: false,
                    reports: Bucket::new(REPORTS, REPORT_EVERY, Instant::now()),
                })
            }
            Err(error) => {
                // It has no device yet: nothing is lost with it.
                let mut worker = worker;
                worker.kill()?;
                worker.wait()?;
                Err(error)
            }
        }
    }
}

fn tokens(guest: DomId) -> (Token, Token) {
    let first = Fleet::TOKENS + 2 * usize::from(guest.raw());
    (Token(first), Token(first + 1))
}

#[cfg(test)]
mod tests {
    use mio::{Events, Poll};

    use super::*;

    #[test]
    fn every_guest_has_tokens_of_its_own() {
        for domid in [0, 1, 0x7fef, u16::MAX] {
            let guest = DomId::new(domid);
            let (link, exit) = tokens(guest);
            assert_eq!(Fleet::ready(link), Some(Ready::Link(guest)));
            assert_eq!(Fleet::ready(exit), Some(Ready::Exit(guest)));
            assert!(exit.0 < Fleet::tokens_end());
        }
        assert_eq!(Fleet::ready(Token(Fleet::TOKENS - 1)), None);
        assert_eq!(Fleet::ready(Token(Fleet::tokens_end())), None);
    }

    #[test]
    fn a_worker_that_reports_without_end_is_ended_and_not_listened_to() {
        let dir = std::env::temp_dir().join(format!("fleet-{}", std::process::id()));
        let command = Command {
            program: "/bin/sh".into(),
            name: "xen-worker".into(),
            arguments: [
                "-c",
                r#"while echo '{"connected":{"device":1}}' >&0; do :; done; read -r never"#,
                "sh",
            ]
            .map(Into::into)
            .to_vec(),
        };
        let mut poll = Poll::new().unwrap();
        let guest = DomId::new(7);
        let registry = poll.registry().try_clone().unwrap();
        let mut fleet = Fleet::new(command, registry, &dir);
        let spec = serde_json::Value::Null;
        assert_eq!(fleet.connect(guest, 1, spec, &[]).unwrap(), Ordered::Sent);
        let now = Instant::now();
        let (mut heard, mut events) = (0, Events::with_capacity(4));
        let ended = loop {
            poll.poll(&mut events, None).unwrap();
            while fleet.report(guest, now).unwrap().is_some() {
                heard += 1;
                assert!(heard <= REPORTS, "it is listened to without end");
            }
            if let Some(ended) = fleet.reap(guest).unwrap() {
                break ended;
            }
        };
        assert_eq!(
            (heard, ended.exit.to_string()),
            (REPORTS, "signal 9".into())
        );
        assert!(!ended.ordered);
        std::fs::remove_dir_all(dir).unwrap();
    }
}
