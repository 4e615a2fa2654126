//! The Xen block backend. See [`blkback`] for the walk of a request.

use std::process::ExitCode;

use blkback::cli::{Cli, Command};
use blkback::serve;
use clap::Parser;

fn main() -> ExitCode {
    let outcome = match Cli::parse().command {
        Command::Serve(options) => serve::serve(options),
        Command::CheckConfig { file } => serve::check_config(file),
        Command::Status(options) => serve::status(&options),
        Command::Reload(reach) => serve::reload(&reach),
        Command::Acl(command) => serve::acl(command),
        Command::Worker(options) => serve::work(&options),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xen-blkback: {error:#}");
            ExitCode::FAILURE
        }
    }
}
