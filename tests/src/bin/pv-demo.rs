//! `cargo demo`: the real daemons serve a real disk image and a real tap to scripted guests. No Xen
//! needed.

use std::process::ExitCode;
use std::time::Instant;

use clap::Parser;
use pv_tests::bench::{Protocol, Workload, print};
use pv_tests::demo::{self, Wish};

/// The real daemons serve a real disk image and a real tap to scripted guests, on a simulated
/// machine; every byte is verified, and the disk's ring measured beside plain io_uring.
/// `cargo bench-io` has more to choose.
#[derive(Parser)]
struct Arguments {}

fn main() -> ExitCode {
    Arguments::parse();
    let started = Instant::now();
    let workloads = [false, true]
        .map(|write| [1, 32, 128].map(|depth| Workload::random_4k(write, depth)))
        .concat();
    let wish = Wish {
        workloads,
        protocol: Protocol::QUICK,
        fio: false,
    };
    match demo::nics::verify().and_then(|()| demo::run(&wish)) {
        Ok(tables) => {
            println!("\nIOPS through the ring and by plain io_uring on the same file:\n");
            tables.iter().for_each(|table| print(table));
            println!(
                "\neverything verified, in {} s",
                started.elapsed().as_secs()
            );
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("the demo failed: {error:#}");
            ExitCode::FAILURE
        }
    }
}
