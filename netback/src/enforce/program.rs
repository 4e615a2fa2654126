//! Running another program to its end.

use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

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

/// What it says, or, if it fails, the first line of its complaints.
pub(super) fn run(
    program: &Path,
    arguments: &[&str],
    input: &str,
) -> io::Result<Result<Vec<u8>, String>> {
    let mut child = Command::new(program)
        .args(arguments)
        .env_clear()
        .env("LC_ALL", "C")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    if let Some(mut stdin) = child.stdin.take() {
        // That it ends before it has read all shows in its status.
        let _closed = stdin.write_all(input.as_bytes());
    }
    let output = child.wait_with_output()?;
    if output.status.success() {
        return Ok(Ok(output.stdout));
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let first = said.lines().find(|line| !line.trim().is_empty());
    Ok(Err(first.unwrap_or("nothing").trim().to_owned()))
}
