//! Workers of an earlier broker.
//!
//! When a broker ends, its workers go on serving. The next broker finds them by the records that
//! the first one left in the run directory. It cannot give them orders, but it knows which guests
//! they serve, leaves those devices alone, and can end a worker whose device has to go.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use mio::unix::SourceFd;
use mio::{Interest, Registry, Token};
use ring_proto::DomId;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

/// The note that a worker runs: a file named after the process, with its guest and the time the
/// process started (a process id alone comes back one day).
#[derive(Debug)]
pub(crate) struct Record(PathBuf);

/// The workers found, by guest.
#[derive(Debug, Default)]
pub(crate) struct Incumbents {
    found: BTreeMap<Token, Incumbent>,
}

#[derive(Debug)]
struct Incumbent {
    guest: DomId,
    pid: u32,
    pidfd: OwnedFd,
    record: Record,
}

impl Record {
    /// Notes a worker of ours.
    pub(crate) fn write(run_dir: &Path, guest: DomId, pid: u32) -> io::Result<Self> {
        let directory = directory(run_dir);
        fs::create_dir_all(&directory)?;
        let path = directory.join(pid.to_string());
        fs::write(&path, format!("{guest} {}\n", start_time(pid)?))?;
        Ok(Self(path))
    }

    /// The worker has ended.
    pub(crate) fn remove(&self) {
        if let Err(error) = fs::remove_file(&self.0) {
            tracing::warn!(path = %self.0.display(), %error, "record of an ended worker stays");
        }
    }
}

impl Incumbents {
    /// Finds the workers that are still alive, and watches for their end. Their tokens count
    /// from `first_token`.
    ///
    /// # Errors
    /// The run directory cannot be read.
    pub(crate) fn find(
        run_dir: &Path,
        registry: &Registry,
        first_token: usize,
    ) -> io::Result<Self> {
        let mut found = BTreeMap::new();
        let entries = match fs::read_dir(directory(run_dir)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Self::default()),
            other => other?,
        };
        for entry in entries {
            let path = entry?.path();
            let record = Record(path.clone());
            let Some(incumbent) = alive(&path, record) else {
                Record(path).remove();
                continue;
            };
            let token = Token(first_token + found.len());
            let fd = incumbent.pidfd.as_raw_fd();
            registry.register(&mut SourceFd(&fd), token, Interest::READABLE)?;
            found.insert(token, incumbent);
        }
        Ok(Self { found })
    }

    /// The guests that they serve.
    pub(crate) fn guests(&self) -> BTreeSet<DomId> {
        self.found.values().map(|found| found.guest).collect()
    }

    /// The processes that serve a guest, for the log.
    pub(crate) fn pids(&self, guest: DomId) -> Vec<u32> {
        self.of(guest).map(|incumbent| incumbent.pid).collect()
    }

    /// Ends those of a guest; their end is seen by their tokens.
    ///
    /// # Errors
    /// Not permitted.
    pub(crate) fn kill(&self, guest: DomId) -> io::Result<()> {
        self.of(guest).try_for_each(|incumbent| {
            match pidfd_send_signal(&incumbent.pidfd, Signal::KILL) {
                Ok(()) | Err(rustix::io::Errno::SRCH) => Ok(()),
                Err(error) => Err(error.into()),
            }
        })
    }

    /// One has ended: whose it was, once it was the last of its guest.
    ///
    /// # Errors
    /// Its descriptor cannot be given back.
    pub(crate) fn ended(&mut self, token: Token, registry: &Registry) -> io::Result<Option<DomId>> {
        let Some(incumbent) = self.found.remove(&token) else {
            return Ok(None);
        };
        let fd = incumbent.pidfd.as_fd().as_raw_fd();
        registry.deregister(&mut SourceFd(&fd))?;
        incumbent.record.remove();
        let guest = incumbent.guest;
        let last = self.of(guest).next().is_none();
        Ok(last.then_some(guest))
    }

    fn of(&self, guest: DomId) -> impl Iterator<Item = &Incumbent> {
        self.found
            .values()
            .filter(move |found| found.guest == guest)
    }
}

fn directory(run_dir: &Path) -> PathBuf {
    run_dir.join("workers")
}

/// The worker of a record, if it is still that process.
fn alive(path: &Path, record: Record) -> Option<Incumbent> {
    let pid: u32 = path.file_name()?.to_str()?.parse().ok()?;
    let text = fs::read_to_string(path).ok()?;
    let (guest, started) = text.trim_end().split_once(' ')?;
    let guest = DomId::new(guest.parse().ok()?);
    let raw = Pid::from_raw(i32::try_from(pid).ok()?)?;
    // The descriptor first: what it means cannot change any more when the start time is read.
    let pidfd = pidfd_open(raw, PidfdFlags::empty()).ok()?;
    let started: u64 = started.parse().ok()?;
    let same = start_time(pid).ok()? == started;
    same.then_some(Incumbent {
        guest,
        pid,
        pidfd,
        record,
    })
}

/// When a process started, in clock ticks since boot (`proc_pid_stat(5)`, field 22).
fn start_time(pid: u32) -> io::Result<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The name in field 2 may contain anything, but ends at the last parenthesis.
    stat.rsplit_once(')')
        .and_then(|(_, rest)| rest.split_ascii_whitespace().nth(19)?.parse().ok())
        .ok_or_else(|| io::Error::other(format!("/proc/{pid}/stat has no start time")))
}

#[cfg(test)]
mod tests {
    use std::process::{Child, Command, Stdio};
    use std::time::Duration;

    use mio::{Events, Poll};

    use super::*;

    const GUEST: DomId = DomId::new(7);

    #[test]
    fn a_worker_is_found_again_and_its_end_is_seen() {
        let dir = scratch("found");
        let mut child = waiting_child();
        Record::write(&dir, GUEST, child.id()).unwrap();
        let mut poll = Poll::new().unwrap();
        let mut found = Incumbents::find(&dir, poll.registry(), 100).unwrap();
        assert_eq!(found.pids(GUEST), [child.id()]);
        assert!(found.pids(DomId::new(8)).is_empty());

        found.kill(GUEST).unwrap();
        let mut events = Events::with_capacity(4);
        poll.poll(&mut events, Some(Duration::from_secs(20)))
            .unwrap();
        let token = events.iter().next().expect("its end was not seen").token();
        assert_eq!(found.ended(token, poll.registry()).unwrap(), Some(GUEST));
        assert!(found.pids(GUEST).is_empty());
        assert_eq!(fs::read_dir(directory(&dir)).unwrap().count(), 0);
        child.wait().unwrap();
        fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn records_of_other_processes_are_not_believed() {
        let dir = scratch("stale");
        let mut child = waiting_child();
        let record = Record::write(&dir, GUEST, child.id()).unwrap();
        // The same process id, another process.
        fs::write(&record.0, format!("{GUEST} 1\n")).unwrap();
        fs::write(directory(&dir).join("999999999"), "7 12\n").unwrap();
        fs::write(directory(&dir).join("nonsense"), "7 12\n").unwrap();
        let poll = Poll::new().unwrap();
        let found = Incumbents::find(&dir, poll.registry(), 100).unwrap();
        assert!(found.pids(GUEST).is_empty());
        assert_eq!(fs::read_dir(directory(&dir)).unwrap().count(), 0);
        child.kill().unwrap();
        child.wait().unwrap();
        fs::remove_dir_all(dir).unwrap();
    }

    /// A process that waits for ever.
    fn waiting_child() -> Child {
        Command::new("/bin/sh")
            .args(["-c", "read -r line"])
            .stdin(Stdio::piped())
            .spawn()
            .unwrap()
    }

    fn scratch(name: &str) -> PathBuf {
        let dir = std::env::temp_dir().join(format!("incumbent-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&dir);
        fs::create_dir(&dir).unwrap();
        dir
    }
}
