//! Our backend against the kernel's, in one boot, on a clock that counts instructions.
//!
//! The guest's fio (libaio, `O_DIRECT`) works on a RAM disk of dom0's, so all that differs between
//! the two columns is the backend. A ratio repeats within about two percent.

use std::fmt::{self, Display};
use std::time::Duration;

use anyhow::{Context, ensure};
use serde::Serialize;

use super::backend::{Backend, Devices};
use super::disk::{Disk, Via};
use super::dom0::{Dom0, Options};
use super::guest::{Guest, Kind};
use super::machine::Clock;

/// What one instruction lasts on the machine's clock, in nanoseconds (`-icount shift=1`).
const NS_PER_INSTRUCTION: f64 = 2.0;

/// The limit of one measurement in the machine's time; it takes about ten seconds.
const LIMIT: Duration = Duration::from_secs(60);

/// One workload of the guest's.
struct Case {
    name: &'static str,
    arguments: &'static str,
}

const CASES: [Case; 5] = [
    Case {
        name: "4K randread QD1",
        arguments: "--rw=randread --bs=4k --iodepth=1",
    },
    Case {
        name: "4K randread QD32",
        arguments: "--rw=randread --bs=4k --iodepth=32",
    },
    Case {
        name: "4K randwrite QD32",
        arguments: "--rw=randwrite --bs=4k --iodepth=32",
    },
    Case {
        name: "128K read QD8",
        arguments: "--rw=read --bs=128k --iodepth=8",
    },
    Case {
        name: "128K write QD8",
        arguments: "--rw=write --bs=128k --iodepth=8",
    },
];

/// What one backend reached in one workload.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Figure {
    /// I/O operations per second of the machine's time, as the guest's fio saw them.
    pub iops: f64,
    /// Instructions that dom0, the hypervisor's work for it included, spent on each.
    pub dom0_instructions: f64,
}

/// Both backends in one workload.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    /// The workload.
    pub case: &'static str,
    /// The kernel's xen-blkback.
    pub kernel: Figure,
    /// The daemon.
    pub ours: Figure,
    /// The daemon's IOPS over the kernel's: above 1 is faster.
    pub iops_ratio: f64,
    /// The daemon's instructions in dom0 over the kernel's: below 1 is cheaper.
    pub dom0_ratio: f64,
}

/// The whole comparison.
#[derive(Clone, Debug, Serialize)]
pub struct Table {
    /// One row for each workload.
    pub rows: Vec<Row>,
}

/// Runs the comparison with the daemon among `options.programs`, and leaves `bench.json` in the
/// results. Takes about ten minutes.
///
/// # Errors
///
/// The machine does not boot, or a backend or a guest fails.
pub fn bench(options: Options) -> anyhow::Result<Table> {
    let json = options.results.join("bench.json");
    let mut dom0 = Dom0::boot(Options {
        clock: Clock::Instructions,
        ..options
    })?;
    dom0.sh(
        "modprobe brd rd_nr=1 rd_size=65536 && dd if=/dev/urandom of=/dev/ram0 bs=1M count=64",
    )?;
    let kernel = measure(&mut dom0, Backend::Kernel).context("with the kernel's backend")?;
    let ours = measure(&mut dom0, Backend::Daemon).context("with our backend")?;
    let rows = CASES
        .iter()
        .zip(kernel.into_iter().zip(ours))
        .map(|(case, (kernel, ours))| Row {
            case: case.name,
            kernel,
            ours,
            iops_ratio: ours.iops / kernel.iops,
            dom0_ratio: ours.dom0_instructions / kernel.dom0_instructions,
        })
        .collect();
    let table = Table { rows };
    std::fs::write(&json, serde_json::to_string_pretty(&table)?)
        .with_context(|| format!("cannot write {}", json.display()))?;
    Ok(table)
}

/// All workloads with one backend, which is gone afterwards.
fn measure(dom0: &mut Dom0, backend: Backend) -> anyhow::Result<Vec<Figure>> {
    backend.start(dom0, Devices::Disks)?;
    let root = Disk::root(dom0, "root", Via::Loop)?;
    let ram = Disk {
        path: "/dev/ram0".into(),
        device: "xvdb",
        via: Via::Device,
        is_read_only: false,
    };
    let guest = Guest::new("bench", Kind::Pv, vec![root, ram]);
    guest.create(dom0)?;
    let figures = CASES
        .iter()
        .map(|case| one(dom0, &guest, case).context(case.name))
        .collect::<anyhow::Result<Vec<_>>>()?;
    guest.destroy(dom0)?;
    dom0.sh("losetup -D")?;
    backend.stop(dom0, Devices::Disks)?;
    Ok(figures)
}

/// fio starts within about two seconds and warms up for two more; dom0's share is sampled in the
/// four seconds that begin 3.5 s after the guest's sign, well inside fio's run.
fn one(dom0: &mut Dom0, guest: &Guest, case: &Case) -> anyhow::Result<Figure> {
    guest.sh(dom0, "xenstore-write data/go 0", LIMIT)?;
    let sampler = dom0.start(&sampler(guest.name()), LIMIT)?;
    let script = format!(
        "xenstore-write data/go 1; fio --name=bench --filename=/dev/xvdb --ioengine=libaio \
         --direct=1 --time_based --runtime=7 --ramp_time=2 --norandommap --eta=never \
         --output-format=json {}",
        case.arguments
    );
    let printed = guest.sh(dom0, &script, LIMIT)?;
    let share = dom0.finish(sampler)?.success().context("the sampler")?;
    let iops = iops(&printed)?;
    let share: f64 = share.trim().parse().context("dom0's share is no number")?;
    ensure!(iops > 0.0, "fio did no I/O");
    Ok(Figure {
        iops,
        dom0_instructions: share * 1e9 / NS_PER_INSTRUCTION / iops,
    })
}

/// Waits for the guest's sign and prints dom0's share of the one CPU over four seconds.
fn sampler(guest: &str) -> String {
    format!(
        r#"
        go=/local/domain/$(xl domid {guest})/data/go
        exec 3< <(exec xenstore-watch $go); watcher=$!
        while read -r -u 3 _; do [ "$(xenstore-read $go)" = 1 ] && break; done
        kill $watcher
        PYTHONPATH=/usr/lib/xen-4.17/lib/python python3 -c '
import time
from xen.lowlevel import xc
xen = xc.xc()
def now():
    return time.monotonic_ns(), xen.domain_getinfo(0, 1)[0]["cpu_time"]
time.sleep(3.5)
(t0, c0) = now()
time.sleep(4)
(t1, c1) = now()
print((c1 - c0) / (t1 - t0))'
        "#
    )
}

/// The I/O rate in fio's JSON, whatever stands before and behind it on the console.
fn iops(printed: &str) -> anyhow::Result<f64> {
    let (from, to) = printed
        .find('{')
        .zip(printed.rfind('}'))
        .with_context(|| format!("fio printed no JSON:\n{printed}"))?;
    let json: serde_json::Value =
        serde_json::from_str(&printed[from..=to]).context("fio's JSON")?;
    let job = &json["jobs"][0];
    ensure!(job["error"] == 0, "fio reports error {}", job["error"]);
    ["read", "write"]
        .iter()
        .map(|kind| job[kind]["iops"].as_f64().context("fio gave no rate"))
        .sum()
}

impl Table {
    /// The same as JSON, on one line.
    ///
    /// # Errors
    ///
    /// A figure is not finite.
    pub fn json(&self) -> anyhow::Result<String> {
        Ok(serde_json::to_string(self)?)
    }
}

impl Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "| real Xen, instruction clock | kernel IOPS | our IOPS | ratio | kernel dom0 instr/IO \
             | our dom0 instr/IO | ratio |"
        )?;
        writeln!(f, "|---|--:|--:|--:|--:|--:|--:|")?;
        for row in &self.rows {
            writeln!(
                f,
                "| {} | {:.0} | {:.0} | {:.2} | {:.0} | {:.0} | {:.2} |",
                row.case,
                row.kernel.iops,
                row.ours.iops,
                row.iops_ratio,
                row.kernel.dom0_instructions,
                row.ours.dom0_instructions,
                row.dom0_ratio
            )?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_is_found_among_noise() {
        let printed = "note: x\n{\"jobs\":[{\"error\":0,\"read\":{\"iops\":12.5},\"write\":{\"iops\":0}}]}\nbye\n";
        assert!((iops(printed).unwrap() - 12.5).abs() < 1e-9);
        assert!(iops("fio: no").is_err());
        assert!(iops("{\"jobs\":[{\"error\":5}]}").is_err());
    }

    #[test]
    fn the_table_has_a_line_for_each_case() {
        let figure = Figure {
            iops: 1000.0,
            dom0_instructions: 5000.0,
        };
        let table = Table {
            rows: vec![Row {
                case: "a case",
                kernel: figure,
                ours: figure,
                iops_ratio: 1.0,
                dom0_ratio: 1.0,
            }],
        };
        assert!(
            table
                .to_string()
                .ends_with("| a case | 1000 | 1000 | 1.00 | 5000 | 5000 | 1.00 |\n")
        );
    }
}
