//! The command line.

use std::path::PathBuf;

use broker::acl;
use broker::cli::{Reach, Serve, Status, Worker};
use clap::{Args, Parser, Subcommand};

use crate::trial::Ends;

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
    /// Read the policies again, and have them govern the interfaces that there are, too.
    ///
    /// Each interface gets its new rules in one step; flows that were allowed are judged anew. If
    /// anything makes no sense, nothing changes.
    Reload {
        /// How to reach the daemon.
        #[command(flatten)]
        reach: Reach,
    },
    /// Show what governs an interface, why, and what became of its frames.
    Show {
        /// Its name in this host, as vif7.0.
        vif: String,
        /// How to reach the daemon.
        #[command(flatten)]
        reach: Reach,
        /// For programs.
        #[arg(long)]
        json: bool,
    },
    /// Ask what becomes of a frame, and which rule decides.
    Test(Test),
    /// Show the frames of an interface that were dropped last, and why.
    ///
    /// Each queue remembers 64 of them, of each its first 256 bytes. They are those that the
    /// interface's process has dropped; what the kernel has dropped is counted, see `policy show`.
    Drops(Drops),
}

/// Which frames to show, and how.
#[derive(Args, Debug)]
pub struct Drops {
    /// The interface's name in this host, as vif7.0.
    pub vif: String,
    /// Go on with those that are dropped from now on.
    #[arg(long, short)]
    pub follow: bool,
    /// So many frames: the last ones, or with --follow the first ones.
    #[arg(long, short, value_name = "N")]
    pub count: Option<usize>,
    /// Write a capture in the format pcapng, with the reasons as comments; - is standard output.
    #[arg(long, short, value_name = "FILE", conflicts_with = "json")]
    pub write: Option<PathBuf>,
    /// A line of JSON for each.
    #[arg(long)]
    pub json: bool,
    /// How to reach the daemon.
    #[command(flatten)]
    pub reach: Reach,
}

/// What to ask about.
#[derive(Args, Debug)]
pub struct Test {
    /// The interface's name in this host, as vif7.0.
    pub vif: String,
    /// The frame.
    #[command(flatten)]
    pub what: What,
    /// It comes to the guest, instead of from it.
    #[arg(long = "in")]
    pub incoming: bool,
    /// How to reach the daemon.
    #[command(flatten)]
    pub reach: Reach,
}

/// A frame, in one of three ways.
#[derive(Args, Debug)]
#[group(required = true, multiple = false)]
pub struct What {
    /// A file with the bytes of an Ethernet frame.
    #[arg(long, value_name = "FILE")]
    pub frame: Option<PathBuf>,
    /// The first packet of a TCP connection: `10.0.0.5:40000,192.0.2.1:443` or
    /// `[fd00::5]:40000,[2001:db8::1]:443`.
    #[arg(long, value_name = "SOURCE,DESTINATION")]
    pub tcp: Option<Ends>,
    /// A UDP datagram.
    #[arg(long, value_name = "SOURCE,DESTINATION")]
    pub udp: Option<Ends>,
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
