//! The command line.

use std::path::PathBuf;

use broker::acl;
use broker::cli::{Serve, Status, Worker};
use clap::{Parser, Subcommand};

/// Serves the network interfaces of Xen guests through tap devices.
///
/// It takes the place of the kernel's xen-netback under an unmodified xl: every interface that libxl
/// gives to a backend of type `vif` is served, and bridged or routed by the usual scripts. Each
/// guest's interfaces have a process of their own.
#[derive(Debug, Parser)]
#[command(name = "xen-netback", version, max_term_width = 100)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Serve interfaces until told to end (SIGTERM).
    ///
    /// Guests that are connected at that moment keep their interfaces: their processes go on
    /// without this one.
    Serve(Serve),
    /// Check a configuration file, with its policies, and print what it means.
    CheckConfig {
        /// The file [default: /etc/xen-backends/netback.toml]
        file: Option<PathBuf>,
    },
    /// Ask what policies say: what interfaces may send and receive.
    #[command(subcommand)]
    Policy(PolicyCommand),
    /// Show what the running daemon serves.
    Status(Status),
    /// Ask the rules about which guest may have an interface on which bridge.
    #[command(subcommand)]
    Acl(acl::Command),
    /// Serve one guest; started by `serve`.
    #[command(hide = true)]
    Worker(Worker),
}

/// What to ask of policies.
#[derive(Debug, Subcommand)]
pub enum PolicyCommand {
    /// Check policies, and list them.
    ///
    /// What is wrong is told with its line and column.
    Check {
        /// Files to read, and no others, as one list [default: /etc/xen-backends/netback.toml and
        /// policy.d/*.toml beside it]
        files: Vec<PathBuf>,
    },
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
        let help = Cli::command().render_long_help().to_string();
        assert!(
            help.contains("check-config") && help.contains("policy") && !help.contains("worker")
        );
    }
}
