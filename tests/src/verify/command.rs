//! Running one command to its end, its output in a log, with a deadline.

use std::fs::{self, File};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::Context;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open};

/// How a command ended.
#[derive(Debug)]
pub(super) enum End {
    /// Exit status 0.
    Well,
    /// Any other status, or a signal.
    Badly(String),
    /// It was still running at its deadline and was killed with its children.
    Late(Duration),
}

/// Runs `command` with its output in `log`, for at most `deadline`.
pub(super) fn run(mut command: Command, log: &Path, deadline: Duration) -> anyhow::Result<End> {
    let output =
        File::create(log).with_context(|| format!("cannot create the log {}", log.display()))?;
    let errors = output.try_clone().context("cannot share the log")?;
    let program = command.get_program().to_string_lossy().into_owned();
    let mut child = command
        .stdin(Stdio::null())
        .stdout(output)
        .stderr(errors)
        .spawn()
        .with_context(|| format!("cannot run {program}; is it installed?"))?;
    if !ended_in_time(&child, deadline)? {
        kill_tree(child.id());
        child.wait().context("cannot wait for a killed command")?;
        return Ok(End::Late(deadline));
    }
    let status = child.wait().context("cannot wait for a command")?;
    Ok(if status.success() {
        End::Well
    } else {
        End::Badly(status.to_string())
    })
}

fn ended_in_time(child: &Child, deadline: Duration) -> anyhow::Result<bool> {
    let pid = Pid::from_child(child);
    let pidfd = pidfd_open(pid, PidfdFlags::empty()).context("cannot watch a command")?;
    let timeout = Timespec::try_from(deadline).context("the deadline is too far away")?;
    let mut fds = [PollFd::new(&pidfd, PollFlags::IN)];
    let fired = poll(&mut fds, Some(&timeout)).context("cannot wait for a command")?;
    Ok(fired > 0)
}

/// Kills a process and its descendants, children first asked for, so that none escapes by being
/// handed to another parent.
fn kill_tree(pid: u32) {
    let tasks = fs::read_dir(format!("/proc/{pid}/task"));
    for task in tasks.into_iter().flatten().flatten() {
        let children = fs::read_to_string(task.path().join("children")).unwrap_or_default();
        for child in children.split_whitespace().filter_map(|c| c.parse().ok()) {
            kill_tree(child);
        }
    }
    if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
        // It may have ended in the meantime, which is as good.
        let _gone = kill_process(pid, Signal::KILL);
    }
}

#[cfg(test)]
mod tests {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    use rustix::process::{PidfdFlags, pidfd_open};

    use super::*;

    fn shell(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    fn log(name: &str) -> std::path::PathBuf {
        std::env::temp_dir().join(format!("pv-verify-{}-{name}", std::process::id()))
    }

    #[test]
    fn output_and_status_are_kept() {
        let log = log("kept");
        let end = run(
            shell("echo out; echo err >&2; exit 3"),
            &log,
            Duration::from_secs(20),
        );
        assert!(matches!(end.unwrap(), End::Badly(status) if status.contains('3')));
        assert_eq!(fs::read_to_string(&log).unwrap(), "out\nerr\n");
        assert!(matches!(
            run(shell("true"), &log, Duration::from_secs(20)).unwrap(),
            End::Well
        ));
        fs::remove_file(log).unwrap();
    }

    #[test]
    fn a_late_command_is_killed_with_its_children() {
        let log = log("late");
        let end = run(
            shell("sleep 300 & echo $!; wait"),
            &log,
            Duration::from_secs(1),
        );
        assert!(matches!(end.unwrap(), End::Late(_)));
        let child = fs::read_to_string(&log).unwrap();
        let child = Pid::from_raw(child.trim().parse().unwrap()).unwrap();
        // Killed is not gone yet: it ends when it is scheduled next.
        if let Ok(child) = pidfd_open(child, PidfdFlags::empty()) {
            let mut ends = [PollFd::new(&child, PollFlags::IN)];
            let limit = Timespec::try_from(Duration::from_secs(20)).unwrap();
            assert_eq!(poll(&mut ends, Some(&limit)), Ok(1), "the child lives on");
        }
        fs::remove_file(log).unwrap();
    }
}
