//! `cargo bench-io`: the ring beside plain io_uring and fio, at length.

use std::path::PathBuf;

use anyhow::Context;
use clap::Parser;
use pv_tests::bench::{Protocol, Workload, json, print};
use pv_tests::demo::{self, Wish};

/// Measures the block ring on the simulated machine beside plain io_uring and fio on the
/// same file.
#[derive(Debug, Parser)]
struct Cli {
    /// Five short pairs for each workload instead of eleven long ones.
    #[arg(long)]
    quick: bool,

    /// Only workloads whose name contains TEXT, such as "randread QD32".
    #[arg(long, value_name = "TEXT", default_value = "")]
    only: String,

    /// Also write the figures to FILE.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

fn main() -> anyhow::Result<()> {
    let cli = Cli::parse();
    let protocol = if cli.quick {
        Protocol::QUICK
    } else {
        Protocol::FULL
    };
    let mut workloads = Vec::new();
    for write in [false, true] {
        workloads.extend([1, 32, 128].map(|depth| Workload::random_4k(write, depth)));
        workloads.push(Workload::sequential_128k(write, 8));
    }
    workloads.retain(|workload| workload.to_string().contains(&cli.only));
    anyhow::ensure!(
        !workloads.is_empty(),
        "no workload's name contains {:?}",
        cli.only
    );
    let tables = demo::run(&Wish {
        workloads,
        protocol,
        fio: true,
    })?;
    for table in &tables {
        println!();
        print(table);
    }
    if let Some(path) = cli.json {
        let text = format!("{:#}\n", json(&tables.concat()));
        std::fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}
