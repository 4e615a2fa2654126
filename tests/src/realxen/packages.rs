//! What tests and the harness need installed on the host.

use std::path::Path;
use std::process::Command;

use anyhow::Context;

use super::command;

/// A program and the Debian package that brings it.
const NEEDED: [(&str, &str); 8] = [
    ("qemu-system-x86_64", "qemu-system-x86"),
    ("debootstrap", "debootstrap"),
    ("cpio", "cpio"),
    ("mkfs.ext4", "e2fsprogs"),
    ("xz", "xz-utils"),
    ("gzip", "gzip"),
    ("awk", "mawk"),
    ("setpriv", "util-linux"),
];

/// The same for tests that need no Xen.
const NEEDED_BY_TESTS: [(&str, &str); 2] = [("nft", "nftables"), ("bridge", "iproute2")];

/// Installs the Debian packages that the harness needs and the host lacks.
///
/// # Errors
///
/// A package is missing and apt cannot install it; the error names the command to run by hand.
pub fn install_missing() -> anyhow::Result<()> {
    install(&NEEDED)
}

/// Installs the Debian packages that tests need and the host lacks.
///
/// # Errors
///
/// As of [`install_missing`].
pub fn install_for_tests() -> anyhow::Result<()> {
    install(&NEEDED_BY_TESTS)
}

fn install(needed: &[(&str, &'static str)]) -> anyhow::Result<()> {
    let missing: Vec<&str> = needed
        .iter()
        .filter(|(program, _)| !is_installed(program))
        .map(|(_, package)| *package)
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    let by_hand = || {
        format!(
            "cannot install what is needed; as root, run: apt-get install {}",
            missing.join(" ")
        )
    };
    command::run(apt_get().arg("update")).with_context(by_hand)?;
    command::run(
        apt_get()
            .args(["install", "-y", "--no-install-recommends"])
            .args(&missing),
    )
    .with_context(by_hand)?;
    Ok(())
}

fn apt_get() -> Command {
    let mut command = Command::new("timeout");
    command
        .args(["600", "apt-get", "-q"])
        .env("DEBIAN_FRONTEND", "noninteractive");
    command
}

fn is_installed(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/sbin", "/sbin"].map(|dir| Path::new(dir).to_path_buf()))
        .any(|dir| dir.join(program).is_file())
}
