//! dom0, from the host's point of view: a place where scripts run.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};

use super::agent::{Agent, Answer};
use super::backend::Backend;
use super::command;
use super::image::Image;
use super::machine::{Clock, Console, Machine};
use super::share::Share;

/// How long dom0 may take to boot, on a busy host and on the slow clock.
const BOOT_LIMIT: Duration = Duration::from_secs(300);

/// The limit of [`Dom0::sh`].
const SH_LIMIT: Duration = Duration::from_secs(90);

/// What the host grants a job on top of its limit before it takes dom0 for dead.
const GRACE: Duration = Duration::from_secs(30);

/// What a machine is started with.
#[derive(Clone, Debug)]
pub struct Options {
    /// What it boots from.
    pub image: Image,
    /// What its clock counts.
    pub clock: Clock,
    /// Where its console goes.
    pub console: Console,
    /// A folder for its logs and for the share.
    pub results: PathBuf,
    /// Programs to copy into it, `/share/bin` there.
    pub programs: Vec<PathBuf>,
    /// Which backend serves the disks of its guests.
    pub backend: Backend,
}

/// How a script ended, and what it printed.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Output {
    /// Its exit status; 124 when it was killed at its limit.
    pub status: i32,
    /// Its standard output.
    pub stdout: String,
    /// Its standard error.
    pub stderr: String,
}

impl Output {
    /// The standard output of a script that ended with status 0.
    ///
    /// # Errors
    ///
    /// The script ended otherwise; the error has the status and its last lines.
    pub fn success(self) -> anyhow::Result<String> {
        match self.status {
            0 => Ok(self.stdout),
            124 => bail!("no end within the limit:\n{}", self.last_words()),
            125 => bail!("the guest has gone:\n{}", self.last_words()),
            status => bail!("status {status}:\n{}", self.last_words()),
        }
    }

    /// The last lines of both streams.
    #[must_use]
    pub fn last_words(&self) -> String {
        command::tail(&format!("{}{}", self.stdout, self.stderr), 20)
    }
}

/// A script that runs in dom0 by now.
#[derive(Debug)]
#[must_use = "a job's end and failure are only seen by Dom0::finish"]
pub struct Job {
    id: String,
    deadline: Instant,
}

/// A booted dom0 whose agent answered. Dropping it ends the machine.
#[derive(Debug)]
pub struct Dom0 {
    agent: Agent,
    machine: Machine,
    share: Share,
    options: Options,
    jobs: u32,
    is_wedged: bool,
}

impl Dom0 {
    /// Boots a machine and waits for its agent.
    ///
    /// # Errors
    ///
    /// A file is missing, QEMU does not run, or dom0 does not come up within five minutes: the
    /// error then has the last lines of the console.
    pub fn boot(options: Options) -> anyhow::Result<Self> {
        let share = Share::create(&options.results, &options.programs)?;
        let console = options.results.join("console.log");
        let (machine, line) = Machine::start(
            &options.image,
            share.dir(),
            console,
            options.clock,
            options.console,
        )?;
        let mut dom0 = Self {
            agent: Agent::new(line),
            machine,
            share,
            options,
            jobs: 0,
            is_wedged: false,
        };
        dom0.answer("ready", Instant::now() + BOOT_LIMIT)
            .context("dom0 does not boot")?;
        Ok(dom0)
    }

    /// Runs `script` in bash, for at most `limit` of the machine's time.
    ///
    /// # Errors
    ///
    /// dom0 has gone or does not answer. A failed script is no error.
    pub fn run(&mut self, script: &str, limit: Duration) -> anyhow::Result<Output> {
        let job = self.start(script, limit)?;
        self.finish(job)
    }

    /// Runs a `script` that must succeed within 90 s, and returns its standard output.
    ///
    /// # Errors
    ///
    /// dom0 has gone, or the script failed.
    pub fn sh(&mut self, script: &str) -> anyhow::Result<String> {
        self.run(script, SH_LIMIT)?
            .success()
            .with_context(|| format!("in dom0: {}", script.trim()))
    }

    /// Starts `script` beside whatever else runs.
    ///
    /// # Errors
    ///
    /// dom0 has gone.
    pub fn start(&mut self, script: &str, limit: Duration) -> anyhow::Result<Job> {
        self.jobs += 1;
        let id = format!("job{}", self.jobs);
        let dir = self.share.job(&id);
        fs::create_dir_all(&dir).with_context(|| format!("cannot create {}", dir.display()))?;
        fs::write(dir.join("script"), script)
            .with_context(|| format!("cannot write to {}", dir.display()))?;
        self.agent.start(&id, limit.as_secs().max(1))?;
        // On the instruction clock a second inside may last several outside.
        let limit = match self.options.clock {
            Clock::Wall => limit,
            Clock::Instructions => limit * 6,
        };
        Ok(Job {
            id,
            deadline: Instant::now() + limit + GRACE,
        })
    }

    /// Waits for a started script.
    ///
    /// # Errors
    ///
    /// dom0 has gone or does not answer. A failed script is no error.
    pub fn finish(&mut self, job: Job) -> anyhow::Result<Output> {
        let Job { id, deadline } = job;
        let status = self.answer(&id, deadline)?;
        let text = |name: &str| {
            let path = self.share.job(&id).join(name);
            let bytes = fs::read(&path).with_context(|| format!("no {}", path.display()))?;
            anyhow::Ok(String::from_utf8_lossy(&bytes).into_owned())
        };
        Ok(Output {
            status,
            stdout: text("out")?,
            stderr: text("err")?,
        })
    }

    /// Waits until the machine ends, as when dom0 is powered off from its shell.
    ///
    /// # Errors
    ///
    /// The host cannot wait.
    pub fn wait(&mut self) -> anyhow::Result<()> {
        self.machine.wait()
    }

    /// Which backend serves the disks of guests.
    #[must_use]
    pub fn backend(&self) -> Backend {
        self.options.backend
    }

    /// What the machine was started with.
    #[must_use]
    pub fn options(&self) -> &Options {
        &self.options
    }

    /// Whether it once failed to answer: then nothing more can be learnt from it.
    #[must_use]
    pub fn is_wedged(&self) -> bool {
        self.is_wedged
    }

    /// The host's side of dom0's `/share/logs`.
    #[must_use]
    pub fn logs(&self) -> PathBuf {
        self.share.logs()
    }

    /// Whether the host gave it a program of that name, and where dom0 finds it.
    #[must_use]
    pub fn program(&self, name: &str) -> Option<String> {
        self.options
            .programs
            .iter()
            .any(|program| program.file_name() == Path::new(name).file_name())
            .then(|| format!("/share/bin/{name}"))
    }

    fn answer(&mut self, id: &str, deadline: Instant) -> anyhow::Result<i32> {
        let how = match self.agent.wait(id, deadline)? {
            Answer::Status(status) => return Ok(status),
            Answer::Late => "does not answer",
            Answer::Gone => "has gone",
        };
        self.is_wedged = true;
        bail!(
            "dom0 {how}; its console ends:\n{}",
            self.machine.last_words()
        )
    }
}
