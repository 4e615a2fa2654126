//! The steps that are cargo's commands.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use super::{Counts, Places, Report, Verdict, command};

/// One command whose success is to be verified.
pub(super) struct Step {
    name: &'static str,
    arguments: Vec<&'static str>,
    environment: Vec<(&'static str, String)>,
    deadline: Duration,
    /// Its output holds result lines of tests.
    tests: bool,
}

/// The steps that need nothing but Rust, in order: what is quick to fail comes first.
pub(super) fn on_this_machine(places: &Places) -> Vec<Step> {
    let minutes = |count: u64| Duration::from_secs(60 * count);
    // Other flags mean other artifacts: a folder of their own keeps the usual ones usable.
    let apart = |name: &str| places.target.join(name).display().to_string();
    vec![
        Step {
            name: "rustfmt",
            arguments: vec!["fmt", "--all", "--", "--check"],
            environment: vec![],
            deadline: minutes(2),
            tests: false,
        },
        Step {
            name: "build",
            arguments: vec!["build", "--workspace", "--all-targets"],
            environment: vec![],
            deadline: minutes(20),
            tests: false,
        },
        Step {
            name: "clippy",
            arguments: vec![
                "clippy",
                "--workspace",
                "--all-targets",
                "--",
                "-D",
                "warnings",
            ],
            environment: vec![],
            deadline: minutes(20),
            tests: false,
        },
        Step {
            name: "tests",
            arguments: vec!["test", "--workspace", "--no-fail-fast"],
            environment: vec![],
            deadline: minutes(30),
            tests: true,
        },
        Step {
            name: "loom (ring-proto)",
            arguments: vec![
                "test",
                "--package",
                "ring-proto",
                "--release",
                "--test",
                "loom",
            ],
            environment: vec![
                ("RUSTFLAGS", "--cfg loom".into()),
                ("CARGO_TARGET_DIR", apart("loom")),
            ],
            deadline: minutes(15),
            tests: true,
        },
        Step {
            name: "docs",
            arguments: vec!["doc", "--workspace", "--no-deps"],
            environment: vec![("RUSTDOCFLAGS", "-D warnings".into())],
            deadline: minutes(15),
            tests: false,
        },
    ]
}

/// What is taken along to real Xen, as it would be installed.
pub(super) fn release_build() -> Step {
    Step {
        name: "release build",
        arguments: vec![
            "build",
            "--release",
            "--package",
            "blkback",
            "--package",
            "netback",
            "--package",
            "pv-tests",
            "--bin",
            "xen-blkback",
            "--bin",
            "xen-netback",
            "--bin",
            "pv-contracts",
            "--bin",
            "pv-frames",
        ],
        environment: vec![],
        deadline: Duration::from_secs(20 * 60),
        tests: false,
    }
}

impl Step {
    /// Runs the command and reports.
    pub(super) fn run(&self, places: &Places, report: &mut Report) {
        let started = Instant::now();
        report.begin(self.name);
        let log = places.logs.join(format!("{}.log", file_name(self.name)));
        let verdict = match command::run(self.command(places), &log, self.deadline) {
            Ok(end) => self.judge(&end, &log),
            Err(why) => self.verdict(Counts::FAILED, format!("{why:#}")),
        };
        report.end(verdict, started.elapsed());
    }

    fn command(&self, places: &Places) -> Command {
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let mut command = Command::new(cargo);
        command
            .args(&self.arguments)
            .current_dir(&places.root)
            .env("CARGO_TARGET_DIR", &places.target)
            .env("CARGO_TERM_COLOR", "never")
            .envs(self.environment.iter().map(|(k, v)| (*k, v.as_str())));
        command
    }

    fn judge(&self, end: &command::End, log: &Path) -> Verdict {
        let said = std::fs::read(log).unwrap_or_default();
        let said = String::from_utf8_lossy(&said);
        let counts = if self.tests {
            Counts::in_log(&said)
        } else {
            Counts::default()
        };
        let mut remark = match end {
            command::End::Well if self.tests && counts == Counts::default() => {
                return self.verdict(Counts::FAILED, "no test has run".into());
            }
            command::End::Well if self.tests => return self.verdict(counts, String::new()),
            command::End::Well => return self.verdict(Counts::PASSED, String::new()),
            command::End::Badly(status) => format!("{}\n{status}", why(&said, self.tests)),
            command::End::Late(after) => {
                format!("{said}\nkilled: not done after {} s", after.as_secs())
            }
        };
        if remark.contains("no such command") || remark.contains("is not installed") {
            remark += "\nremedy: rustup component add rustfmt clippy";
        }
        // A test program that does not compile, or dies, has no result line of its own.
        let failed = counts.failed.max(1);
        self.verdict(Counts { failed, ..counts }, remark)
    }

    fn verdict(&self, counts: Counts, remark: String) -> Verdict {
        Verdict {
            name: self.name.into(),
            counts,
            remark,
        }
    }
}

fn file_name(step: &str) -> String {
    step.chars()
        .map(|c| if c.is_ascii_alphanumeric() { c } else { '-' })
        .collect()
}

/// The part of a failed command's output that tells why: of tests, what the failed ones printed.
fn why(said: &str, tests: bool) -> String {
    if !tests {
        return said.into();
    }
    let mut kept = String::new();
    let mut inside = false;
    for line in said.lines() {
        if line.starts_with("---- ") || line.starts_with("error") {
            inside = true;
        } else if line.starts_with("test result:") || line.trim_start().starts_with("Running ") {
            inside = false;
        }
        if inside || line.ends_with("... FAILED") {
            kept.push_str(line);
            kept.push('\n');
        }
    }
    if kept.is_empty() { said.into() } else { kept }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_failed_tests_only_what_they_said_is_kept() {
        let said = "     Running unittests\ntest a ... ok\ntest b ... FAILED\n\nfailures:\n\n\
                    ---- b stdout ----\npanicked: 1 is not 2\n\nfailures:\n    b\n\n\
                    test result: FAILED. 1 passed; 1 failed; 0 ignored\n     Running other\ntest c ... ok\n";
        let kept = why(said, true);
        assert!(kept.contains("1 is not 2"));
        assert!(kept.contains("test b ... FAILED"));
        assert!(!kept.contains("test a"));
        assert!(!kept.contains("test c"));
    }

    #[test]
    fn output_without_failed_tests_is_kept_whole() {
        assert_eq!(why("signal: 9\n", true), "signal: 9\n");
    }
}
