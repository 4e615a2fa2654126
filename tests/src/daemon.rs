//! The real daemons, as processes of their own.

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use broker::control::{self, Request, Status};
use ring_proto::DomId;
use rustix::process::{Pid, Signal, kill_process};

mod program;

pub use program::Program;

use crate::network::Network;

/// How long starting and ending may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// A running `xen-blkback serve` or `xen-netback serve`. Dropping it kills it and its workers.
#[derive(Debug)]
pub struct Daemon {
    child: Option<Child>,
    run_dir: PathBuf,
    config: PathBuf,
    program: Program,
    log: Arc<Log>,
}

/// What a daemon has said so far. Its workers say it through the same pipe.
#[derive(Debug, Default)]
struct Log {
    lines: Mutex<Vec<String>>,
    more: Condvar,
}

/// How to start a daemon.
#[derive(Debug)]
pub struct Start {
    program: Program,
    network: Option<Network>,
    machine: PathBuf,
    run_dir: PathBuf,
    config: String,
    level: String,
    heard: bool,
}

impl Start {
    /// On the simulated machine that is served in `machine`, with a run directory below it. It logs
    /// what `PV_LOG` says: `debug` shows every step of a test that fails.
    #[must_use]
    pub fn on(machine: &Path, program: Program) -> Self {
        Self {
            program,
            network: None,
            machine: machine.to_path_buf(),
            run_dir: machine.join("run"),
            config: String::new(),
            level: std::env::var("PV_LOG").unwrap_or_else(|_unset| "info".into()),
            heard: true,
        }
    }

    /// With a log that nobody reads any more: every write to it fails.
    #[must_use]
    pub const fn unheard(mut self) -> Self {
        self.heard = false;
        self
    }

    /// It logs what this level says, whatever `PV_LOG` does.
    #[must_use]
    pub fn level(mut self, level: &str) -> Self {
        level.clone_into(&mut self.level);
        self
    }

    /// In this network instead of the host's.
    #[must_use]
    pub fn network(mut self, network: &Network) -> Self {
        self.network = Some(network.clone());
        self
    }

    /// With a configuration file of this text.
    #[must_use]
    pub fn config(mut self, text: &str) -> Self {
        text.clone_into(&mut self.config);
        self
    }

    /// Starts it without waiting for anything.
    ///
    /// # Errors
    /// It cannot be built or executed.
    pub fn spawn(&self, notify: Option<&Path>) -> anyhow::Result<Daemon> {
        fs::create_dir_all(&self.run_dir)?;
        let config = self
            .machine
            .join(format!("{}.toml", self.program.package()));
        fs::write(&config, &self.config)?;
        let mut command = Command::new(self.program.binary()?);
        command
            .arg("serve")
            .arg("--hypervisor")
            .arg(format!("sim:{}", self.machine.display()))
            .arg("--run-dir")
            .arg(&self.run_dir)
            .arg("--config")
            .arg(&config)
            .args(["--log", &self.level])
            .env_remove("NOTIFY_SOCKET")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(match self.heard {
                true => Stdio::piped(),
                false => std::io::pipe()?.1.into(),
            });
        if let Some(notify) = notify {
            command.env("NOTIFY_SOCKET", notify);
        }
        let child = match &self.network {
            Some(network) => network.spawn(&mut command)?,
            None => command.spawn(),
        };
        let mut child = child.context("cannot run the daemon")?;
        let log = Arc::new(Log::default());
        if let Some(errors) = child.stderr.take() {
            let into = Arc::clone(&log);
            std::thread::spawn(move || into.fill(BufReader::new(errors)));
        }
        Ok(Daemon {
            child: Some(child),
            run_dir: self.run_dir.clone(),
            config,
            program: self.program,
            log,
        })
    }

    /// Starts it and waits until it tells systemd that it is ready.
    ///
    /// # Errors
    /// It ends instead, or is not ready in time; the text has its log.
    pub fn ready(&self) -> anyhow::Result<Daemon> {
        let path = self.machine.join("notify.sock");
        // From an earlier daemon on the same machine.
        let _removed = fs::remove_file(&path);
        let socket = UnixDatagram::bind(&path).context("cannot bind NOTIFY_SOCKET")?;
        socket.set_read_timeout(Some(Duration::from_millis(100)))?;
        let mut daemon = self.spawn(Some(&path))?;
        let deadline = Instant::now() + PATIENCE;
        let mut message = [0; 256];
        while Instant::now() < deadline {
            if let Ok(len) = socket.recv(&mut message)
                && message[..len]
                    .split(|&b| b == b'\n')
                    .any(|m| m == b"READY=1")
            {
                return Ok(daemon);
            }
            if let Some(status) = daemon.exited()? {
                bail!("the daemon ended with {status}:\n{}", daemon.log());
            }
        }
        bail!(
            "the daemon is not ready after {PATIENCE:?}:\n{}",
            daemon.log()
        )
    }
}

impl Daemon {
    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    /// What it and its workers have logged so far.
    #[must_use]
    pub fn log(&self) -> String {
        self.log.lines().join("\n")
    }

    /// Lines so far.
    #[must_use]
    pub fn log_lines(&self) -> Vec<String> {
        self.log.lines()
    }

    /// Waits for a line that contains `text`; that line.
    ///
    /// # Errors
    /// There is none within ten seconds.
    pub fn wait_log(&self, text: &str) -> anyhow::Result<String> {
        self.log.wait(text, Duration::from_secs(10))
    }

    /// Its control socket.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        control::socket(&self.run_dir, self.program.package())
    }

    /// What it says of itself and its devices.
    ///
    /// # Errors
    /// It does not answer.
    pub fn status(&self) -> anyhow::Result<Status> {
        let told = control::ask(&self.socket(), &Request::new(control::STATUS))?;
        Ok(serde_json::from_value(told)?)
    }

    /// The configuration file that it was started with.
    #[must_use]
    pub fn config_file(&self) -> &Path {
        &self.config
    }

    /// Runs its program with these arguments, for this daemon; what it prints.
    ///
    /// # Errors
    /// It fails; the text is what it says.
    pub fn command(&self, arguments: &[&str]) -> anyhow::Result<String> {
        let output = self.client(arguments)?.output();
        let output = output.context("cannot run the program")?;
        let told = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "{}", told.trim_end());
        Ok(String::from_utf8(output.stdout)?)
    }

    /// The program, about to ask this daemon with these arguments.
    ///
    /// # Errors
    /// It was not built.
    pub fn client(&self, arguments: &[&str]) -> anyhow::Result<Command> {
        let mut command = Command::new(self.program.binary()?);
        command.args(arguments).arg("--run-dir").arg(&self.run_dir);
        Ok(command)
    }

    /// The processes that serve a guest, from the records the daemon keeps.
    #[must_use]
    pub fn workers(&self, domid: DomId) -> Vec<u32> {
        workers(&self.run_dir, Some(domid))
    }

    /// How it has ended, if it has.
    ///
    /// # Errors
    /// The system's.
    pub fn exited(&mut self) -> anyhow::Result<Option<ExitStatus>> {
        Ok(match &mut self.child {
            Some(child) => child.try_wait()?,
            None => None,
        })
    }

    /// Waits for it to end by itself; how.
    ///
    /// # Errors
    /// It does not within twenty seconds.
    pub fn wait_exit(&mut self) -> anyhow::Result<ExitStatus> {
        let child = self.child.as_ref().context("it was ended before")?;
        let pid = Pid::from_child(child);
        let pidfd = rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty())?;
        let mut polled = [rustix::event::PollFd::new(
            &pidfd,
            rustix::event::PollFlags::IN,
        )];
        let limit = rustix::event::Timespec::try_from(PATIENCE)?;
        rustix::event::poll(&mut polled, Some(&limit))?;
        let status = self.exited()?;
        status.with_context(|| format!("the daemon runs on:\n{}", self.log()))
    }

    /// Asks it to end, as systemd does, and waits. Its workers go on without it.
    ///
    /// # Errors
    /// It does not end in time.
    pub fn stop(mut self) -> anyhow::Result<Orphans> {
        signal(self.pid(), Signal::TERM);
        let status = self.wait_exit()?;
        ensure!(
            status.success(),
            "the daemon ended with {status}:\n{}",
            self.log()
        );
        Ok(self.orphan())
    }

    /// Kills it alone. Its workers go on without it.
    ///
    /// # Errors
    /// The system's.
    pub fn kill(mut self) -> anyhow::Result<Orphans> {
        signal(self.pid(), Signal::KILL);
        self.wait_exit()?;
        Ok(self.orphan())
    }

    fn orphan(mut self) -> Orphans {
        self.child = None;
        Orphans(self.run_dir.clone())
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let Some(mut child) = self.child.take() else {
            return;
        };
        // Gone already is as good; there is nobody to tell of anything else.
        let _killed = child.kill();
        let _reaped = child.wait();
        kill_workers(&self.run_dir);
    }
}

/// Workers whose daemon has ended. Dropping it kills those that are left.
#[derive(Debug)]
pub struct Orphans(PathBuf);

impl Drop for Orphans {
    fn drop(&mut self) {
        kill_workers(&self.0);
    }
}

/// Sends a signal to a process; one that is gone already does not mind.
pub fn signal(pid: Option<u32>, signal: Signal) {
    let pid = pid.and_then(|pid| i32::try_from(pid).ok());
    if let Some(pid) = pid.and_then(Pid::from_raw) {
        let _gone = kill_process(pid, signal);
    }
}

fn kill_workers(run_dir: &Path) {
    for pid in workers(run_dir, None) {
        signal(Some(pid), Signal::KILL);
    }
}

/// The live workers in the records of a run directory: files named after processes that say whose.
fn workers(run_dir: &Path, of: Option<DomId>) -> Vec<u32> {
    let entries = fs::read_dir(run_dir.join("workers"));
    let mut found = Vec::new();
    for entry in entries.into_iter().flatten().flatten() {
        let name = entry.file_name();
        let Some(pid) = name.to_str().and_then(|name| name.parse::<u32>().ok()) else {
            continue;
        };
        let record = fs::read_to_string(entry.path()).unwrap_or_default();
        let guest = record.split(' ').next().and_then(|id| id.parse().ok());
        if of.is_none_or(|of| guest == Some(of.raw())) && is_worker(pid) {
            found.push(pid);
        }
    }
    found
}

fn is_worker(pid: u32) -> bool {
    let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    line.split(|&byte| byte == 0).any(|word| word == b"--domid")
}

impl Log {
    fn fill(&self, from: impl BufRead) {
        for line in from.lines().map_while(Result::ok) {
            if std::env::var_os("PV_SHOW_LOG").is_some() {
                eprintln!("    {line}");
            }
            self.locked().push(line);
            self.more.notify_all();
        }
    }

    fn lines(&self) -> Vec<String> {
        self.locked().clone()
    }

    fn wait(&self, text: &str, limit: Duration) -> anyhow::Result<String> {
        let missing = |lines: &mut Vec<String>| !lines.iter().any(|line| line.contains(text));
        let (lines, _) = self
            .more
            .wait_timeout_while(self.locked(), limit, missing)
            .unwrap_or_else(PoisonError::into_inner);
        let found = lines.iter().find(|line| line.contains(text)).cloned();
        found.with_context(|| format!("{text:?} is not in the log:\n{}", lines.join("\n")))
    }

    fn locked(&self) -> std::sync::MutexGuard<'_, Vec<String>> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
