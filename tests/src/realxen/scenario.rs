//! A named claim about real Xen, and how a list of them is run.

use std::fmt::{self, Display};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::Context;

use super::backend::{Backend, Devices};
use super::disk::FOLDER;
use super::dom0::{Dom0, Options};
use super::emulator;
use super::scenarios;

/// How often a scenario is tried until the emulator leaves its guests alone.
const TRIES: u32 = 5;

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

/// Scenarios about one kind of devices.
#[derive(Clone, Copy, Debug)]
pub struct Suite {
    /// What is served.
    pub devices: Devices,
    /// Whether a scenario that passed leaves its guests and its backend to the next one of the
    /// suite. A scenario then makes what it needs and does not find, and undoes what it did.
    pub shares_guests: bool,
    /// Run only when named, and so not by `cargo verify`: it takes too long, or was not seen to pass.
    pub on_request: bool,
    /// In the order in which they are tried.
    pub scenarios: &'static [Scenario],
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

/// Runs the scenarios of `suites` on one machine, or on another one each time that one is lost,
/// and tells each outcome to `tell` as soon as it is known.
///
/// # Errors
///
/// No machine boots.
pub fn run_all(
    options: &Options,
    suites: &[(Suite, Vec<Scenario>)],
    tell: impl Fn(&Outcome),
) -> anyhow::Result<Summary> {
    let started = Instant::now();
    let mut machines = 0;
    let mut dom0: Option<Dom0> = None;
    let mut outcomes = Vec::new();
    for (suite, scenarios) in suites {
        let (tried, skipped): (Vec<_>, Vec<_>) = scenarios
            .iter()
            .partition(|scenario| options.backend == Backend::Daemon || scenario.holds_for_kernel);
        for (index, scenario) in tried.iter().enumerate() {
            let started = Instant::now();
            let mut machine = match dom0.take() {
                Some(machine) => machine,
                None => {
                    machines += 1;
                    boot(options, machines)?
                }
            };
            let leaves_guests = suite.shares_guests && index + 1 < tried.len();
            let tried = persist(&mut machine, suite, scenario, leaves_guests);
            dom0 = tried.is_fit.then_some(machine);
            outcomes.push(Outcome {
                name: scenario.name,
                verdict: tried.verdict,
                took: started.elapsed(),
            });
            outcomes.last().into_iter().for_each(&tell);
        }
        for scenario in skipped {
            outcomes.push(Outcome {
                name: scenario.name,
                verdict: Verdict::Skipped,
                took: Duration::ZERO,
            });
            outcomes.last().into_iter().for_each(&tell);
        }
    }
    Ok(Summary {
        outcomes,
        results: options.results.clone(),
        took: started.elapsed(),
    })
}

/// The scenarios of those names, in the order in which all of them are run; those that are
/// verified for no names. A name that ends in `*` stands for all that begin like it.
///
/// # Errors
///
/// There is no scenario of one of the names.
pub fn select(names: &[String]) -> anyhow::Result<Vec<(Suite, Vec<Scenario>)>> {
    let is_meant = |name: &String, scenario: &Scenario| match name.strip_suffix('*') {
        Some(start) => scenario.name.starts_with(start),
        None => scenario.name == name,
    };
    for name in names {
        scenarios::SUITES
            .iter()
            .flat_map(|suite| suite.scenarios)
            .find(|scenario| is_meant(name, scenario))
            .with_context(|| format!("no scenario {name}; `pv-realxen run --list` lists them"))?;
    }
    Ok(scenarios::SUITES
        .iter()
        .map(|suite| {
            let chosen = |scenario: &&Scenario| {
                names.is_empty() && !suite.on_request
                    || names.iter().any(|name| is_meant(name, scenario))
            };
            (
                *suite,
                suite.scenarios.iter().filter(chosen).copied().collect(),
            )
        })
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

/// How trying a scenario once ended.
struct Attempt {
    verdict: Verdict,
    /// The machine is fit for the next scenario.
    is_fit: bool,
    /// It failed, and the emulator had ended a guest.
    is_void: bool,
}

/// Tries one scenario, and again if the emulator ended a guest of it.
fn persist(dom0: &mut Dom0, suite: &Suite, scenario: &Scenario, leaves_guests: bool) -> Attempt {
    for _ in 1..TRIES {
        let tried = attempt(dom0, suite, scenario, leaves_guests);
        if !tried.is_void || !tried.is_fit {
            return tried;
        }
        println!("     the emulator lost a guest of {}; again", scenario.name);
    }
    attempt(dom0, suite, scenario, leaves_guests)
}

fn attempt(dom0: &mut Dom0, suite: &Suite, scenario: &Scenario, leaves_guests: bool) -> Attempt {
    let backend = dom0.backend();
    let devices = suite.devices;
    let result = backend
        .start(dom0, devices)
        .and_then(|()| (scenario.run)(dom0))
        .and_then(|()| backend.check(dom0, devices));
    if result.is_ok() && leaves_guests {
        return Attempt {
            verdict: Verdict::Passed,
            is_fit: true,
            is_void: false,
        };
    }
    let result = result.map_err(|error| match collect(dom0, scenario.name) {
        Ok(()) => error,
        Err(lost) => error.context(format!("no logs: {lost:#}")),
    });
    let is_void = result.is_err() && emulator::has_lost_a_guest(dom0).unwrap_or(false);
    let tidied = tidy(dom0, devices).context("tidying up failed");
    let is_fit = tidied.is_ok() && !dom0.is_wedged();
    let verdict = match result.and(tidied) {
        Ok(()) => Verdict::Passed,
        Err(error) => Verdict::Failed(format!("{error:#}")),
    };
    Attempt {
        verdict,
        is_fit,
        is_void,
    }
}

/// Saves what a post-mortem needs in the share.
fn collect(dom0: &mut Dom0, name: &str) -> anyhow::Result<()> {
    let script = format!(
        r"
        to=/share/logs/{name}; mkdir -p $to; cd $to
        touch /run/xl-dmesg; cp -r /var/log/xen . ; cp /run/*.cfg .
        for log in /run/xen-*back/log; do cp $log $(basename ${{log%/log}}).log; done
        ip -d -s address > ip; ip route > routes; ps auxf > processes; losetup -a > loops
        xl debug-keys g; xl dmesg | cat /run/xl-dmesg - > xl-dmesg; dmesg > dmesg; xl list -l > xl-list
        xenstore-ls -fp > xenstore
        true"
    );
    dom0.run(&script, TIDY_LIMIT)?.success()?;
    Ok(())
}

/// Leaves a dom0 without guests, backend, loop devices and old logs.
fn tidy(dom0: &mut Dom0, devices: Devices) -> anyhow::Result<()> {
    let backend = dom0.backend();
    let guests = dom0.run(NO_GUESTS, TIDY_LIMIT)?.success();
    let stopped = backend.stop(dom0, devices);
    let script = format!(
        r"
        losetup -D; dmsetup remove_all 2>/dev/null
        rm -rf {FOLDER} /run/xen-*back/log /run/*.cfg /run/xl-dmesg /var/log/xen/*; mkdir -p {FOLDER}
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

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(names: &[&str]) -> Vec<&'static str> {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let suites = select(&names).unwrap();
        let scenarios = suites.iter().flat_map(|(_, scenarios)| scenarios);
        scenarios.map(|scenario| scenario.name).collect()
    }

    #[test]
    fn scenarios_are_chosen_by_name_or_by_beginning_and_else_all() {
        assert!(chosen(&["policy-*"]).contains(&"policy-spoofs"));
        assert_eq!(chosen(&["net-nat", "pv-root"]), ["pv-root", "net-nat"]);
        assert!(chosen(&["net-no-*"]).contains(&"net-no-gso"));
        assert!(!chosen(&["net-no-*"]).contains(&"net-nat"));
        let verified = scenarios::SUITES.iter().filter(|suite| !suite.on_request);
        let all = verified.flat_map(|suite| suite.scenarios);
        assert_eq!(chosen(&[]).len(), all.count());
        assert!(select(&["no-such*".to_owned()]).is_err());
    }
}
