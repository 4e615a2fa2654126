//! The Xen network backend. See [`netback`] for the walk of a packet.

use std::process::ExitCode;

use clap::Parser;
use netback::cli::{Cli, Command, PolicyCommand};
use netback::serve;

fn main() -> ExitCode {
    let outcome = match Cli::parse().command {
        Command::Serve(options) => serve::serve(options),
        Command::CheckConfig { file } => serve::check_config(file),
        Command::Policy(command) => match command {
            PolicyCommand::Check { files } => serve::check_policies(&files),
            PolicyCommand::Reload { reach } => serve::reload(&reach),
            PolicyCommand::Show { vif, reach, json } => serve::show(&reach, &vif, json),
            PolicyCommand::Test(test) => serve::test(&test),
            PolicyCommand::Drops(options) => serve::dropped(&options),
        },
        Command::Status(options) => serve::status(&options),
        Command::Acl(command) => serve::acl(command),
        Command::Worker(options) => serve::work(&options),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xen-netback: {error:#}");
            ExitCode::FAILURE
        }
    }
}
