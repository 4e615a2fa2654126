//! The Debian packages that verifying needs.

use std::process::Command;
use std::time::{Duration, Instant};

use super::{Counts, Report, Verdict, command};

/// A program and the package that brings it.
const NEEDED: [(&str, &str); 6] = [
    ("qemu-system-x86_64", "qemu-system-x86"),
    ("debootstrap", "debootstrap"),
    ("busybox", "busybox-static"),
    ("cpio", "cpio"),
    ("mkfs.ext4", "e2fsprogs"),
    ("fio", "fio"),
];

/// How long apt may take.
const DEADLINE: Duration = Duration::from_secs(600);

/// Installs what is missing, or says what to install.
pub(super) fn step(report: &mut Report) {
    let started = Instant::now();
    report.begin("packages");
    let missing: Vec<&str> = NEEDED
        .into_iter()
        .filter(|(program, _)| !is_installed(program))
        .map(|(_, package)| package)
        .collect();
    let outcome = if missing.is_empty() {
        Ok(String::new())
    } else {
        install(&missing).map(|()| format!("installed {}", missing.join(" ")))
    };
    let (counts, remark) = match outcome {
        Ok(remark) => (Counts::PASSED, remark),
        Err(why) => (Counts::FAILED, why),
    };
    let verdict = Verdict {
        name: "packages".into(),
        counts,
        remark,
    };
    report.end(verdict, started.elapsed());
}

fn is_installed(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let sbin = ["/usr/sbin".into(), "/sbin".into()];
    std::env::split_paths(&path)
        .chain(sbin)
        .any(|folder| folder.join(program).is_file())
}

fn install(packages: &[&str]) -> Result<(), String> {
    let advice = format!("install them: apt-get install {}", packages.join(" "));
    let prefix: &[&str] = if rustix::process::geteuid().is_root() {
        &[]
    } else if is_installed("sudo") {
        &["sudo", "-n"]
    } else {
        return Err(format!("neither root nor sudo; {advice}"));
    };
    let log = std::env::temp_dir().join(format!("pv-verify-apt-{}.log", std::process::id()));
    let mut words: Vec<Vec<&str>> = vec![vec!["apt-get", "-q", "update"]];
    words.push(vec![
        "apt-get",
        "-q",
        "-y",
        "--no-install-recommends",
        "install",
    ]);
    words[1].extend(packages);
    let outcome = words
        .iter()
        .try_for_each(|words| apt(prefix, words, &log, &advice));
    let _removed = std::fs::remove_file(&log);
    outcome
}

fn apt(prefix: &[&str], words: &[&str], log: &std::path::Path, advice: &str) -> Result<(), String> {
    let line: Vec<&str> = prefix.iter().chain(words).copied().collect();
    let mut apt = Command::new(line[0]);
    apt.args(&line[1..])
        .env("DEBIAN_FRONTEND", "noninteractive");
    match command::run(apt, log, DEADLINE) {
        Ok(command::End::Well) => Ok(()),
        Ok(_) => {
            let said = std::fs::read_to_string(log).unwrap_or_default();
            Err(format!("{said}\n{} failed; {advice}", line.join(" ")))
        }
        Err(why) => Err(format!("{why:#}; {advice}")),
    }
}
