//! Running one program of the host's to its end.

use std::process::Command;

use anyhow::{Context, ensure};

/// Lines of a failed program's output that its error carries.
const TAIL_LINES: usize = 15;

/// Runs `command` and returns what it printed to its standard output.
///
/// # Errors
///
/// The program cannot be started, or ended with a status other than 0: the error then holds the
/// last lines that it printed.
pub(super) fn run(command: &mut Command) -> anyhow::Result<Vec<u8>> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = command
        .output()
        .with_context(|| format!("cannot run {program}; is it installed?"))?;
    ensure!(
        output.status.success(),
        "{program} ended with {}:\n{}",
        output.status,
        tail(
            &format!(
                "{}{}",
                String::from_utf8_lossy(&output.stdout),
                String::from_utf8_lossy(&output.stderr)
            ),
            TAIL_LINES
        )
    );
    Ok(output.stdout)
}

/// The last `lines` lines of `text`.
pub(super) fn tail(text: &str, lines: usize) -> String {
    let all: Vec<&str> = text.lines().collect();
    all[all.len().saturating_sub(lines)..].join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_carries_the_last_lines() {
        let error = run(Command::new("sh").args(["-c", "seq 100; echo why >&2; exit 3"]))
            .unwrap_err()
            .to_string();
        assert!(error.contains("exit status: 3"), "{error}");
        assert!(error.ends_with("100\nwhy"), "{error}");
        assert!(!error.contains("\n50\n"), "{error}");
    }

    #[test]
    fn a_missing_program_is_named() {
        let error = format!(
            "{:#}",
            run(&mut Command::new("no-such-program")).unwrap_err()
        );
        assert!(error.contains("no-such-program"), "{error}");
    }
}
