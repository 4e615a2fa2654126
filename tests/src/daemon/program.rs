//! Which daemon, and where its program is.

use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;

use anyhow::{Context, ensure};

/// One of the daemons.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Program {
    /// `xen-blkback`.
    Blkback,
    /// `xen-netback`.
    Netback,
}

impl Program {
    /// The package that it is built from.
    #[must_use]
    pub const fn package(self) -> &'static str {
        match self {
            Self::Blkback => "blkback",
            Self::Netback => "netback",
        }
    }

    /// Builds it as this program was built, if it is not up to date, and says where it is.
    /// `PV_BLKBACK` and `PV_NETBACK` name those that are to be used instead.
    ///
    /// # Errors
    /// It does not compile, or this program does not lie in a target directory.
    pub fn binary(self) -> anyhow::Result<PathBuf> {
        static BUILT: [OnceLock<Result<PathBuf, String>>; 2] = [const { OnceLock::new() }; 2];
        let (built, chosen) = match self {
            Self::Blkback => (&BUILT[0], "PV_BLKBACK"),
            Self::Netback => (&BUILT[1], "PV_NETBACK"),
        };
        let built = built.get_or_init(|| match std::env::var_os(chosen) {
            Some(path) => Ok(path.into()),
            None => self.build().map_err(|error| format!("{error:#}")),
        });
        built.clone().map_err(anyhow::Error::msg)
    }

    fn build(self) -> anyhow::Result<PathBuf> {
        let program = std::env::current_exe().context("cannot tell where this program lies")?;
        // TARGET/PROFILE/pv-demo, or TARGET/PROFILE/deps/vbd_io-0123.
        let mut profile = program.parent().context("this program has no folder")?;
        if profile.ends_with("deps") {
            profile = profile.parent().context("deps has no folder")?;
        }
        let target = profile.parent().context("the profile has no folder")?;
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let mut command = Command::new(cargo);
        command
            .args(["build", "--quiet", "--package", self.package()])
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .env("CARGO_TARGET_DIR", target);
        if profile.ends_with("release") {
            command.arg("--release");
        }
        let output = command.output().context("cannot run cargo")?;
        ensure!(
            output.status.success(),
            "the daemon does not compile:\n{}",
            String::from_utf8_lossy(&output.stderr)
        );
        Ok(profile.join(format!("xen-{}", self.package())))
    }
}
