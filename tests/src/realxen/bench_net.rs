//! Our network backend against the kernel's, in one boot, on a clock that counts instructions.
//!
//! A guest with one queue talks to dom0 over a bridge. One CPU does the work of both, so each
//! figure has the price of both ends in it, of which only the backend's differs.

use std::fmt::{self, Display};
use std::time::Duration;

use anyhow::{Context, ensure};
use serde::Serialize;

use super::backend::{Backend, Devices};
use super::dom0::{Dom0, Options};
use super::guest::{Guest, Kind};
use super::lan;
use super::machine::Clock;
use super::nic::Nic;
use super::traffic::{Host, Station};

/// The limit of one measurement in the machine's time; it takes about ten seconds.
const LIMIT: Duration = Duration::from_secs(60);

/// One measurement that the guest makes.
struct Case {
    name: &'static str,
    /// What is measured.
    unit: &'static str,
    command: &'static str,
    /// Takes the figure out of what the command printed.
    figure: fn(&str) -> anyhow::Result<f64>,
}

const CASES: [Case; 4] = [
    Case {
        name: "TCP guest to dom0",
        unit: "Mbit/s",
        command: "iperf3 -J -t 5 -O 1 -c 10.77.0.1",
        figure: |printed| {
            let rate = iperf(printed, "sum_received", "bits_per_second")?;
            Ok(rate / 1e6)
        },
    },
    Case {
        name: "TCP dom0 to guest",
        unit: "Mbit/s",
        command: "iperf3 -J -t 5 -O 1 -R -c 10.77.0.1",
        figure: |printed| {
            let rate = iperf(printed, "sum_received", "bits_per_second")?;
            Ok(rate / 1e6)
        },
    },
    Case {
        name: "UDP guest to dom0, 64 B",
        unit: "1/s arrived",
        command: "iperf3 -J -t 5 -u -l 64 -b 0 -c 10.77.0.1",
        figure: |printed| {
            let sent = iperf(printed, "sum", "packets")?;
            let lost = iperf(printed, "sum", "lost_packets")?;
            let seconds = iperf(printed, "sum", "seconds")?;
            Ok((sent - lost) / seconds)
        },
    },
    Case {
        name: "ping",
        unit: "ms",
        command: "sleep 1; ping -q -c 100 -i 0.02 10.77.0.1",
        figure: average,
    },
];

/// Both backends in one measurement.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    /// What was measured.
    pub case: &'static str,
    /// In which unit.
    pub unit: &'static str,
    /// The kernel's xen-netback.
    pub kernel: f64,
    /// The daemon, if there is one.
    pub ours: Option<f64>,
}

/// The whole comparison.
#[derive(Clone, Debug, Serialize)]
pub struct Table {
    /// One row for each measurement.
    pub rows: Vec<Row>,
}

/// Runs the comparison, with the daemon if it is among `options.programs`, and leaves
/// `bench-net.json` in the results. Takes about five minutes.
///
/// # Errors
///
/// The machine does not boot, or a backend or the guest fails.
pub fn bench(options: Options) -> anyhow::Result<Table> {
    let json = options.results.join("bench-net.json");
    let mut dom0 = Dom0::boot(Options {
        clock: Clock::Instructions,
        ..options
    })?;
    let kernel = measure(&mut dom0, Backend::Kernel).context("with the kernel's backend")?;
    let ours = match dom0.program(Devices::Nics.program()) {
        Some(_) => measure(&mut dom0, Backend::Daemon)
            .context("with our backend")?
            .into_iter()
            .map(Some)
            .collect(),
        None => vec![None; CASES.len()],
    };
    let rows = CASES
        .iter()
        .zip(kernel.into_iter().zip(ours))
        .map(|(case, (kernel, ours))| Row {
            case: case.name,
            unit: case.unit,
            kernel,
            ours,
        })
        .collect();
    let table = Table { rows };
    std::fs::write(&json, serde_json::to_string_pretty(&table)?)
        .with_context(|| format!("cannot write {}", json.display()))?;
    Ok(table)
}

/// All measurements with one backend, which is gone afterwards.
fn measure(dom0: &mut Dom0, backend: Backend) -> anyhow::Result<Vec<f64>> {
    backend.start(dom0, Devices::Nics)?;
    lan::raise(dom0)?;
    Station::open(dom0, Host::Dom0)?;
    let nic = Nic::on("00:16:3e:77:00:10", lan::BRIDGE);
    let guest = Guest::diskless("bench", Kind::Pv, vec![nic]);
    guest.create(dom0)?;
    nic.raise(dom0, &guest, &["10.77.0.10/24"])?;
    let figures = CASES
        .iter()
        .map(|case| one(dom0, &guest, case).context(case.name))
        .collect::<anyhow::Result<Vec<_>>>()?;
    guest.destroy(dom0)?;
    backend.stop(dom0, Devices::Nics)?;
    Ok(figures)
}

fn one(dom0: &mut Dom0, guest: &Guest, case: &Case) -> anyhow::Result<f64> {
    let printed = guest.sh(dom0, case.command, LIMIT)?;
    let figure = (case.figure)(&printed)?;
    ensure!(figure > 0.0, "nothing was measured:\n{printed}");
    Ok(figure)
}

/// A number of iperf3's JSON, whatever stands before and behind it on the console.
fn iperf(printed: &str, sum: &str, number: &str) -> anyhow::Result<f64> {
    let (from, to) = printed
        .find('{')
        .zip(printed.rfind('}'))
        .with_context(|| format!("iperf3 printed no JSON:\n{printed}"))?;
    let json: serde_json::Value =
        serde_json::from_str(&printed[from..=to]).context("iperf3's JSON")?;
    json["end"][sum][number]
        .as_f64()
        .with_context(|| format!("iperf3 gave no {sum}.{number}; it says: {}", json["error"]))
}

/// The average of ping's last line, `rtt min/avg/max/mdev = 0.1/0.2/0.3/0.0 ms`.
fn average(printed: &str) -> anyhow::Result<f64> {
    printed
        .lines()
        .find_map(|line| {
            line.strip_prefix("rtt min/avg/max/mdev = ")?
                .split('/')
                .nth(1)
        })
        .with_context(|| format!("ping printed no average:\n{printed}"))?
        .parse()
        .context("ping's average is no number")
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
            "| real Xen, instruction clock | | kernel | ours | ratio |"
        )?;
        writeln!(f, "|---|---|--:|--:|--:|")?;
        for row in &self.rows {
            let Row {
                case,
                unit,
                kernel,
                ours,
            } = row;
            let digits = if *kernel < 10.0 { 3 } else { 0 };
            write!(f, "| {case} | {unit} | {kernel:.digits$} | ")?;
            match ours {
                Some(ours) => writeln!(f, "{ours:.digits$} | {:.2} |", ours / kernel)?,
                None => writeln!(f, "- | - |")?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_found_among_noise() {
        let printed = "note\n{\"end\":{\"sum\":{\"packets\":12.5}}}\nbye\n";
        assert!((iperf(printed, "sum", "packets").unwrap() - 12.5).abs() < 1e-9);
        assert!(iperf(printed, "sum", "seconds").is_err());
        let printed = "3 packets\nrtt min/avg/max/mdev = 0.1/0.25/0.3/0.0 ms\n";
        assert!((average(printed).unwrap() - 0.25).abs() < 1e-9);
        assert!(average("3 packets").is_err());
    }

    #[test]
    fn the_table_has_a_line_for_each_case() {
        let row = Row {
            case: "a case",
            unit: "ms",
            kernel: 0.5,
            ours: Some(1.0),
        };
        let table = Table {
            rows: vec![row.clone(), Row { ours: None, ..row }],
        };
        assert!(table.to_string().ends_with(
            "| a case | ms | 0.500 | 1.000 | 2.00 |\n| a case | ms | 0.500 | - | - |\n"
        ));
    }
}
