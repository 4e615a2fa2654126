//! A named claim about real Xen, and how a list of them is run.

use std::fmt::{self, Display};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::Context;

use super::backend::Backend;
use super::disk::FOLDER;
use super::dom0::{Dom0, Options};
use super::scenarios;

/// How long tidying up and collecting logs may take.
const TIDY_LIMIT: Duration = Duration::from_secs(120);

/// A claim that is tried in a dom0 with a running backend.
#[derive(Clone, Copy, Debug)]
pub struct Scenario {
    /// Its name on the command line and in the report.
    pub name: &'static str,
    /// The claim, in one line.
    pub about: &'static str,
    /// Whether it also holds for the kernel's backend, and so can try the harness itself.
    pub holds_for_kernel: bool,
    /// Tries it.
    pub run: fn(&mut Dom0) -> anyhow::Result<()>,
}

/// How a scenario ended.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Verdict {
    /// The claim held.
    Passed,
    /// It did not, or could not be tried.
    Failed(String),
    /// It says nothing about the backend in use.
    Skipped,
}

/// One scenario's verdict.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The scenario's name.
    pub name: &'static str,
    /// How it ended.
    pub verdict: Verdict,
    /// What it took, tidying up included.
    pub took: Duration,
}

/// The verdicts of a run.
#[derive(Clone, Debug)]
pub struct Summary {
    /// In the order in which they were run.
    pub outcomes: Vec<Outcome>,
    /// The folder with the console's log, and below `share/logs` the logs of each failure.
    pub results: PathBuf,
    /// The whole run, booting included.
    pub took: Duration,
}

impl Summary {
    /// Whether no scenario failed.
    #[must_use]
    pub fn is_good(&self) -> bool {
        self.count(|verdict| matches!(verdict, Verdict::Failed(_))) == 0
    }

    /// How many scenarios ended like that.
    pub fn count(&self, like: impl Fn(&Verdict) -> bool) -> usize {
        self.outcomes
            .iter()
            .filter(|outcome| like(&outcome.verdict))
            .count()
    }
}

impl Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = match &self.verdict {
            Verdict::Passed => "PASS",
            Verdict::Failed(_) => "FAIL",
            Verdict::Skipped => "SKIP",
        };
        write!(
            f,
            "{word} {:28} {:5.1} s",
            self.name,
            self.took.as_secs_f64()
        )?;
        if let Verdict::Failed(why) = &self.verdict {
            for line in why.lines() {
                write!(f, "\n     {line}")?;
            }
        }
        Ok(())
    }
}

impl Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "real Xen: {} passed, {} failed, {} skipped in {:.0} s; logs in {}",
            self.count(|verdict| *verdict == Verdict::Passed),
            self.count(|verdict| matches!(verdict, Verdict::Failed(_))),
            self.count(|verdict| *verdict == Verdict::Skipped),
            self.took.as_secs_f64(),
            self.results.display()
        )
    }
}

/// Runs `scenarios` on one machine, or on another one each time that one is lost, and tells each
/// outcome to `tell` as soon as it is known.
///
/// # Errors
///
/// No machine boots.
pub fn run_all(
    options: &Options,
    scenarios: &[Scenario],
    tell: impl Fn(&Outcome),
) -> anyhow::Result<Summary> {
    let started = Instant::now();
    let mut machines = 0;
    let mut dom0: Option<Dom0> = None;
    let mut outcomes = Vec::new();
    for scenario in scenarios {
        let started = Instant::now();
        let verdict = if options.backend == Backend::Kernel && !scenario.holds_for_kernel {
            Verdict::Skipped
        } else {
            let mut machine = match dom0.take() {
                Some(machine) => machine,
                None => {
                    machines += 1;
                    boot(options, machines)?
                }
            };
            let (verdict, is_tidy) = attempt(&mut machine, scenario);
            if is_tidy {
                dom0 = Some(machine);
            }
            verdict
        };
        let outcome = Outcome {
            name: scenario.name,
            verdict,
            took: started.elapsed(),
        };
        tell(&outcome);
        outcomes.push(outcome);
    }
    Ok(Summary {
        outcomes,
        results: options.results.clone(),
        took: started.elapsed(),
    })
}

/// The scenarios of those names, in the order in which all of them are run; all for no names.
///
/// # Errors
///
/// There is no scenario of one of the names.
pub fn select(names: &[String]) -> anyhow::Result<Vec<Scenario>> {
    for name in names {
        scenarios::ALL
            .iter()
            .find(|scenario| scenario.name == name)
            .with_context(|| format!("no scenario {name}; `pv-realxen run --list` lists them"))?;
    }
    Ok(scenarios::ALL
        .iter()
        .filter(|scenario| names.is_empty() || names.iter().any(|name| name == scenario.name))
        .copied()
        .collect())
}

/// The first machine's logs lie in the results themselves, a later one's in a folder of its own.
fn boot(options: &Options, number: u32) -> anyhow::Result<Dom0> {
    let mut options = options.clone();
    if number > 1 {
        options.results = options.results.join(format!("machine{number}"));
    }
    Dom0::boot(options)
}

/// Tries one scenario, and tells whether the machine is fit for the next.
fn attempt(dom0: &mut Dom0, scenario: &Scenario) -> (Verdict, bool) {
    let backend = dom0.backend();
    let result = backend
        .start(dom0)
        .and_then(|()| (scenario.run)(dom0))
        .and_then(|()| backend.check(dom0));
    let result = result.map_err(|error| match collect(dom0, scenario.name) {
        Ok(()) => error,
        Err(lost) => error.context(format!("no logs: {lost:#}")),
    });
    let tidied = tidy(dom0).context("tidying up failed");
    let is_tidy = tidied.is_ok() && !dom0.is_wedged();
    match result.and(tidied) {
        Ok(()) => (Verdict::Passed, is_tidy),
        Err(error) => (Verdict::Failed(format!("{error:#}")), is_tidy),
    }
}

/// Saves what a post-mortem needs in the share.
fn collect(dom0: &mut Dom0, name: &str) -> anyhow::Result<()> {
    let script = format!(
        r"
        to=/share/logs/{name}; mkdir -p $to; cd $to
        cp -r /var/log/xen . ; cp /run/xen-blkback/log xen-blkback.log; cp /run/*.cfg .
        xl debug-keys g; xl dmesg > xl-dmesg; dmesg > dmesg; xl list -l > xl-list
        xenstore-ls -fp > xenstore; ps auxf > processes; losetup -a > loops
        true"
    );
    dom0.run(&script, TIDY_LIMIT)?.success()?;
    Ok(())
}

/// Leaves a dom0 without guests, backend, loop devices and old logs.
fn tidy(dom0: &mut Dom0) -> anyhow::Result<()> {
    let backend = dom0.backend();
    let guests = dom0.run(NO_GUESTS, TIDY_LIMIT)?.success();
    let stopped = backend.stop(dom0);
    let script = format!(
        r"
        losetup -D; dmsetup remove_all 2>/dev/null
        rm -rf {FOLDER} /run/xen-blkback/log /run/*.cfg /var/log/xen/*; mkdir -p {FOLDER}
        [ -z $(losetup -a | head -c1) ] || {{ losetup -a >&2; exit 1; }}"
    );
    let cleared = dom0.run(&script, TIDY_LIMIT)?.success();
    guests.and(stopped.map(|()| String::new())).and(cleared)?;
    Ok(())
}

/// Destroys every guest and waits until none is left, not even half-dead.
const NO_GUESTS: &str = r#"
guests() { xl list | awk 'NR > 1 && $1 != "Domain-0"'; }
for id in $(guests | awk '{ print $(NF - 4) }'); do xl destroy "$id"; done
for _ in $(seq 50); do [ -z "$(guests)" ] && break; sleep 0.2; done
[ -z "$(guests)" ] || { echo "guests are left:"; guests; exit 1; } >&2
"#;
