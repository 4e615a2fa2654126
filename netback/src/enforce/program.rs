//! Running another program to its end.

use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

/// Where programs may be. Looked for there, since who started us may have set other places.
const PLACES: [&str; 6] = [
    "/usr/sbin",
    "/sbin",
    "/usr/local/sbin",
    "/usr/bin",
    "/bin",
    "/usr/local/bin",
];

/// The program, if there is one.
pub(super) fn find(name: &str) -> Option<PathBuf> {
    let mut places = PLACES.iter().map(|place| Path::new(place).join(name));
    places.find(|path| path.exists())
}

/// How long a program may run: much longer than nft takes for ten thousand rules, and all guests wait.
const LIMIT: Duration = Duration::from_secs(10);

/// What it says, or, if it fails, the first line of its complaints.
pub(super) fn run(
    program: &Path,
    arguments: &[&str],
    input: &str,
) -> io::Result<Result<Vec<u8>, String>> {
    let output = run_within(LIMIT, program, arguments, input)?;
    if output.status.success() {
        return Ok(Ok(output.stdout));
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let first = said.lines().find(|line| !line.trim().is_empty());
    Ok(Err(first.unwrap_or("nothing").trim().to_owned()))
}

/// Another thread waits, since who reads two pipes and writes a third must not wait for any of them.
fn run_within(
    limit: Duration,
    program: &Path,
    arguments: &[&str],
    input: &str,
) -> io::Result<Output> {
    #[cfg(test)]
    RUNS.with(|runs| runs.set(runs.get() + 1));
    let mut child = Command::new(program)
        .args(arguments)
        .env_clear()
        .env("LC_ALL", "C")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    let process = pidfd_open(Pid::from_child(&child), PidfdFlags::empty())?;
    let input = input.as_bytes().to_vec();
    let (tell, told) = mpsc::channel();
    let waiting = thread::Builder::new().name("waits".into()).spawn(move || {
        let stdin = child.stdin.take();
        let output = thread::scope(|scope| {
            // That it ends before it has read all shows in its status.
            scope.spawn(|| stdin.map(|mut stdin| stdin.write_all(&input)));
            child.wait_with_output()
        });
        // Nobody listens any more if it took too long.
        let _late = tell.send(output);
    });
    if let Err(error) = waiting {
        // What the thread was to have, the child's pipes, is closed by now.
        pidfd_send_signal(&process, Signal::KILL)?;
        return Err(error);
    }
    told.recv_timeout(limit).unwrap_or_else(|_late| {
        pidfd_send_signal(&process, Signal::KILL)?;
        let arguments = arguments.join(" ");
        Err(io::Error::new(
            io::ErrorKind::TimedOut,
            format!(
                "`{arguments}` did not end within {limit:?}, and was killed: does it end by hand?"
            ),
        ))
    })
}

#[cfg(test)]
thread_local! {
    /// How many programs this thread has run.
    pub(super) static RUNS: std::cell::Cell<u32> = const { std::cell::Cell::new(0) };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_says_what_it_says_and_what_it_complains_of() {
        let sh = find("sh").unwrap();
        let long = "x".repeat(1 << 20);
        assert_eq!(run(&sh, &["-c", "cat"], &long).unwrap(), Ok(long.into()));
        let failed = run(&sh, &["-c", "echo one >&2; echo two >&2; exit 1"], "");
        assert_eq!(failed.unwrap(), Err("one".to_owned()));
    }

    #[test]
    fn a_program_that_hangs_is_killed_and_named() {
        let sh = find("sh").unwrap();
        let limit = Duration::from_millis(50);
        for input in ["", &"x".repeat(1 << 20)] {
            let script = "kill -STOP $$";
            let error = run_within(limit, &sh, &["-c", script], input).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::TimedOut);
            assert!(error.to_string().contains("`-c kill -STOP $$`"), "{error}");
        }
    }
}
