//! The broker's side of a worker: start it, speak to it, learn of its end.

use std::ffi::OsString;
use std::fmt;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::PathBuf;
use std::process::{Child, ExitStatus, Stdio};

use ring_proto::DomId;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use crate::channel::{Channel, ChannelError, Received};
use crate::message::{FromWorker, ToWorker};

/// Of the environment: backtraces of a crash, and that standard error is the journal.
const PASSED_ON: [&str; 2] = ["RUST_BACKTRACE", "JOURNAL_STREAM"];

/// What to execute for a worker.
#[derive(Clone, Debug)]
pub struct Command {
    /// The program; `/proc/self/exe` is this very binary, even when the file was replaced.
    pub program: PathBuf,
    /// What it is called in lists of processes.
    pub name: OsString,
    /// Its arguments; `--domid N` is added.
    pub arguments: Vec<OsString>,
}

/// A worker process of one guest. Dropping this neither kills nor waits: the worker goes on
/// with the devices that it has.
#[derive(Debug)]
pub struct Worker {
    domid: DomId,
    child: Child,
    pidfd: OwnedFd,
    channel: Channel,
}

/// How a worker ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exit(ExitStatus);

impl Command {
    /// This binary again, with `arguments`.
    #[must_use]
    pub fn own_binary(arguments: Vec<OsString>) -> Self {
        Self {
            program: PathBuf::from("/proc/self/exe"),
            name: std::env::args_os().next().unwrap_or_default(),
            arguments,
        }
    }
}

impl Worker {
    /// Starts a worker for a guest. It gets the control socket as standard input, our standard
    /// error, and nothing else: every other descriptor of ours is close-on-exec, and of the
    /// environment only what concerns logging passes.
    ///
    /// It is the leader of a process group of its own, so that an interrupt typed at the
    /// broker's terminal does not end the guests' disks.
    ///
    /// # Errors
    /// The host's: no processes, memory or descriptors left.
    pub fn spawn(command: &Command, domid: DomId) -> std::io::Result<Self> {
        let (channel, theirs) = Channel::pair().map_err(std::io::Error::other)?;
        let mut child = std::process::Command::new(&command.program)
            .arg0(&command.name)
            .args(&command.arguments)
            .arg("--domid")
            .arg(domid.raw().to_string())
            .env_clear()
            .envs(
                std::env::vars_os()
                    .filter(|(name, _)| PASSED_ON.iter().any(|passed| name == passed)),
            )
            .stdin(Stdio::from(theirs.into_fd()))
            .stdout(Stdio::null())
            .stderr(Stdio::inherit())
            .process_group(0)
            .spawn()?;
        match own_pidfd(&child) {
            Ok(pidfd) => Ok(Self {
                domid,
                child,
                pidfd,
                channel,
            }),
            Err(error) => {
                // It has no device yet: nothing is lost with it.
                child.kill()?;
                child.wait()?;
                Err(error)
            }
        }
    }

    /// The guest that this worker serves.
    #[must_use]
    pub const fn domid(&self) -> DomId {
        self.domid
    }

    /// Its process id, valid until [`Worker::reap`] has returned an exit.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Gives an order, with descriptors; never waits.
    ///
    /// # Errors
    /// [`ChannelError::Full`]: the worker hangs. [`ChannelError::Gone`]: it has ended.
    pub fn send(&self, order: &ToWorker, fds: &[BorrowedFd<'_>]) -> Result<(), ChannelError> {
        self.channel.try_send(order, fds)
    }

    /// Takes a report if there is one. Descriptors that a worker sends are closed: there is
    /// nothing that a broker wants from it.
    ///
    /// # Errors
    /// A malformed report: the worker is not to be trusted any more.
    pub fn try_recv(&self) -> Result<Received<FromWorker>, ChannelError> {
        Ok(match self.channel.try_recv()? {
            Received::Message(report, _closed) => Received::Message(report, Vec::new()),
            other => other,
        })
    }

    /// The control socket, for poll.
    #[must_use]
    pub fn link_fd(&self) -> BorrowedFd<'_> {
        self.channel.fd()
    }

    /// Readable once the process has ended.
    #[must_use]
    pub fn pidfd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }

    /// How it ended, or `None` while it runs. Reaps it.
    ///
    /// # Errors
    /// Somebody else reaped our child.
    pub fn reap(&mut self) -> std::io::Result<Option<Exit>> {
        Ok(self.child.try_wait()?.map(Exit))
    }

    /// Waits for its end and reaps it.
    ///
    /// # Errors
    /// Somebody else reaped our child.
    pub fn wait(&mut self) -> std::io::Result<Exit> {
        self.child.wait().map(Exit)
    }

    /// Ends it at once (`SIGKILL`). Its I/O that is under way may still reach the disk: the
    /// image's lock, not this call, says when it has.
    ///
    /// # Errors
    /// Not permitted, which says that it is not our child.
    pub fn kill(&self) -> std::io::Result<()> {
        match pidfd_send_signal(&self.pidfd, Signal::KILL) {
            Ok(()) | Err(rustix::io::Errno::SRCH) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

impl Exit {
    /// It ended by itself, without an error.
    #[must_use]
    pub fn is_orderly(self) -> bool {
        self.0.success()
    }
}

impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.0.code(), self.0.signal()) {
            (Some(code), _) => write!(f, "exit status {code}"),
            (None, Some(signal)) if self.0.core_dumped() => {
                write!(f, "signal {signal}, core dumped")
            }
            (None, Some(signal)) => write!(f, "signal {signal}"),
            (None, None) => write!(f, "{}", self.0),
        }
    }
}

/// The child has not been waited for, so its process id still means it.
fn own_pidfd(child: &Child) -> std::io::Result<OwnedFd> {
    let pid = i32::try_from(child.id())
        .ok()
        .and_then(Pid::from_raw)
        .ok_or_else(|| std::io::Error::other("process id out of range"))?;
    Ok(pidfd_open(pid, PidfdFlags::empty())?)
}

#[cfg(test)]
mod tests {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};

    use super::*;

    #[test]
    fn a_worker_that_exits_is_reaped_with_its_status() {
        let mut worker = shell("exit 3");
        assert_eq!(exit_of(&mut worker).to_string(), "exit status 3");
    }

    #[test]
    fn a_killed_worker_is_reaped_with_its_signal() {
        // It waits for an order that never comes.
        let mut worker = shell("read -r line");
        assert_eq!(worker.reap().unwrap(), None);
        worker.kill().unwrap();
        let exit = exit_of(&mut worker);
        assert_eq!(exit.to_string(), "signal 9");
        assert!(!exit.is_orderly());
        worker.kill().unwrap();
    }

    #[test]
    fn a_worker_is_listed_by_the_name_it_was_given() {
        let script = r#"grep -q ^xen-worker /proc/$$/cmdline"#;
        assert!(exit_of(&mut shell(script)).is_orderly());
    }

    #[test]
    fn a_worker_gets_no_descriptor_and_no_environment_of_ours() {
        // The shell itself opens the directory that it lists: 0, 1, 2 and that one.
        let script = r#"
            for fd in /proc/self/fd/*; do [ "${fd##*/}" -gt 3 ] && exit 22; done
            tr "\0" "\n" </proc/$$/environ | grep -qv -e ^RUST_BACKTRACE= -e ^JOURNAL_STREAM= -e ^$ && exit 21
            exit 0"#;
        crate::sys::close_inherited_on_exec().unwrap();
        let mut worker = shell(script);
        assert_eq!(exit_of(&mut worker).to_string(), "exit status 0");
    }

    fn shell(script: &str) -> Worker {
        let command = Command {
            program: "/bin/sh".into(),
            name: "xen-worker".into(),
            arguments: vec!["-c".into(), script.into(), "sh".into()],
        };
        Worker::spawn(&command, DomId::new(7)).unwrap()
    }

    fn exit_of(worker: &mut Worker) -> Exit {
        let mut fds = [PollFd::from_borrowed_fd(worker.pidfd(), PollFlags::IN)];
        let limit = Timespec {
            tv_sec: 20,
            tv_nsec: 0,
        };
        assert_eq!(poll(&mut fds, Some(&limit)).unwrap(), 1, "it still runs");
        worker.reap().unwrap().unwrap()
    }
}
