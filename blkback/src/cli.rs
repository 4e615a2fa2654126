//! The command line.

use std::path::PathBuf;

use broker::acl;
use broker::cli::{Reach, Serve, Status, Worker};
use clap::{Parser, Subcommand};

/// Serves the virtual disks of Xen guests from image files and block devices.
///
/// It takes the place of the kernel's xen-blkback under an unmodified xl: every disk that libxl
/// gives to a backend of type `vbd` is served. Each guest's disks have a process of their own.
#[derive(Debug, Parser)]
#[command(name = "xen-blkback", version, max_term_width = 100)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Serve disks until told to end (SIGTERM).
    ///
    /// Guests that are connected at that moment keep their disks: their processes go on without
    /// this one.
    Serve(Serve),
    /// Check a configuration file and print what it means.
    CheckConfig {
        /// The file [default: /etc/xen-backends/blkback.toml]
        file: Option<PathBuf>,
    },
    /// Show what the running daemon serves.
    Status(Status),
    /// Have the running daemon read its configuration again.
    ///
    /// Disks that are connected go on as they are: it is for those that come. A file that makes no
    /// sense changes nothing.
    Reload(Reach),
    /// Ask the rules about which guest may have which image.
    #[command(subcommand)]
    Acl(acl::Command),
    /// Serve one guest; started by `serve`.
    #[command(hide = true)]
    Worker(Worker),
}

#[cfg(test)]
mod tests {
    use broker::cli::Level;
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn the_worker_is_hidden_and_takes_what_serve_gives_it() {
        let help = Cli::command().render_long_help().to_string();
        assert!(
            help.contains("check-config") && !help.contains("worker"),
            "{help}"
        );
        let level = Level::Debug.as_str();
        let line = [
            "xen-blkback",
            "worker",
            "--hypervisor",
            "xen",
            "--log",
            level,
            "--domid",
            "7",
        ];
        let Command::Worker(worker) = Cli::try_parse_from(line).unwrap().command else {
            panic!("not a worker");
        };
        assert_eq!((worker.domid, worker.log), (7, Level::Debug));
    }

    #[test]
    fn rules_are_asked_by_guest_and_image() {
        let line = "xen-blkback acl explain --domain web-1 --domid 7 --writable /srv/a.img";
        let Command::Acl(acl::Command::Explain(ask)) =
            Cli::try_parse_from(line.split(' ')).unwrap().command
        else {
            panic!("not asked");
        };
        assert_eq!((ask.domid, ask.object.as_str()), (Some(7), "/srv/a.img"));
        assert!(ask.writable && ask.domain.as_deref() == Some("web-1"));
        let reserved = "xen-blkback acl explain --domid 32752 /srv/a.img";
        assert!(Cli::try_parse_from(reserved.split(' ')).is_err());
    }

    #[test]
    fn an_unknown_hypervisor_is_refused_with_the_known_ones() {
        let error = Cli::try_parse_from(["xen-blkback", "serve", "--hypervisor", "kvm"]);
        assert!(error.unwrap_err().to_string().contains("say `xen`"));
    }
}
