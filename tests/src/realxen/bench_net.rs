//! Our network backend against the kernel's, in one boot, on a clock that counts instructions; and
//! against itself when it has a thousand rules to ask.
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

/// Who serves the guest, and by which policy.
struct Setup {
    name: &'static str,
    backend: Backend,
    /// The daemon's configuration.
    config: fn() -> String,
}

/// The first one is what the others are compared with.
const SETUPS: [Setup; 4] = [
    Setup {
        name: "kernel",
        backend: Backend::Kernel,
        config: String::new,
    },
    Setup {
        name: "ours",
        backend: Backend::Daemon,
        config: String::new,
    },
    Setup {
        name: "1,000 rules",
        backend: Backend::Daemon,
        config: || thousand_rules(false),
    },
    Setup {
        name: "1,000 stateful rules",
        backend: Backend::Daemon,
        config: || thousand_rules(true),
    },
];

/// One measurement.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    /// What was measured.
    pub case: &'static str,
    /// In which unit.
    pub unit: &'static str,
    /// One figure for each of the table's setups.
    pub figures: Vec<f64>,
}

/// The whole comparison.
#[derive(Clone, Debug, Serialize)]
pub struct Table {
    /// Who served.
    pub setups: Vec<&'static str>,
    /// One row for each measurement.
    pub rows: Vec<Row>,
}

/// Runs the comparison, with the daemon if it is among `options.programs`, and leaves
/// `bench-net.json` in the results. Takes about ten minutes.
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
    let has_daemon = dom0.program(Devices::Nics.program()).is_some();
    let setups = SETUPS
        .iter()
        .filter(|setup| has_daemon || setup.backend == Backend::Kernel);
    let mut table = Table::new();
    for setup in setups {
        let figures = measure(&mut dom0, setup).with_context(|| format!("with {}", setup.name))?;
        table.add(setup.name, &figures);
    }
    std::fs::write(&json, serde_json::to_string_pretty(&table)?)
        .with_context(|| format!("cannot write {}", json.display()))?;
    Ok(table)
}

/// All measurements with one backend, which is gone afterwards.
fn measure(dom0: &mut Dom0, setup: &Setup) -> anyhow::Result<Vec<f64>> {
    let Setup {
        backend, config, ..
    } = *setup;
    dom0.sh(&format!(
        "mkdir -p /etc/xen-backends\ncat > /etc/xen-backends/netback.toml <<'END'\n{}END",
        config()
    ))?;
    backend.start(dom0, Devices::Nics)?;
    lan::raise(dom0)?;
    Station::open(dom0, Host::Dom0)?;
    let nic = Nic::on(GUEST, lan::BRIDGE);
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

/// The guest's address.
const GUEST: &str = "00:16:3e:77:00:10";

/// A policy of a thousand rules, half of them for each direction. They ask about networks, hosts and
/// ports in turn; what the measurements send matches the last one of its direction, and what no rule
/// allows is dropped.
fn thousand_rules(stateful: bool) -> String {
    let mut text = format!(
        "[[policy]]\nname = \"bench\"\nmatch = {{ mac = \"{GUEST}\" }}\nprofile = \"locked\"\n\
         ipv4 = \"10.77.0.10\"\ndefault-out = \"drop\"\ndefault-in = \"drop\"\nstateful = {stateful}\n"
    );
    for direction in ["out", "in"] {
        for number in 0_u32..499 {
            let (high, low) = (number / 250, number % 250);
            let asks = match number % 4 {
                0 => format!("remote = \"10.{high}.{low}.0/24\"\naction = \"drop\""),
                1 => format!(
                    "protocol = \"tcp\"\nremote = \"172.16.{high}.{low}\"\nports = {}\naction = \"accept\"",
                    1000 + number
                ),
                2 => format!(
                    "protocol = \"udp\"\nports = \"{}-{}\"\naction = \"drop\"",
                    10_000 + 10 * number,
                    10_005 + 10 * number
                ),
                _ => format!(
                    "protocol = \"tcp\"\nports = {}\naction = \"accept\"",
                    20_000 + number
                ),
            };
            text += &format!("[[policy.rule]]\ndirection = \"{direction}\"\n{asks}\n");
        }
        text += &format!(
            "[[policy.rule]]\ndirection = \"{direction}\"\nremote = \"10.77.0.0/24\"\naction = \"accept\"\n"
        );
    }
    text
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
    fn new() -> Self {
        let rows = CASES.iter().map(|case| Row {
            case: case.name,
            unit: case.unit,
            figures: Vec::new(),
        });
        Self {
            setups: Vec::new(),
            rows: rows.collect(),
        }
    }

    fn add(&mut self, setup: &'static str, figures: &[f64]) {
        self.setups.push(setup);
        for (row, figure) in self.rows.iter_mut().zip(figures) {
            row.figures.push(*figure);
        }
    }

    /// The same as JSON, on one line.
    ///
    /// # Errors
    ///
    /// A figure is not finite.
    pub fn json(&self) -> anyhow::Result<String> {
        Ok(serde_json::to_string(self)?)
    }
}

/// Each figure behind the first has its ratio to the first one beside it.
impl Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "| real Xen, instruction clock | |")?;
        for (at, setup) in self.setups.iter().enumerate() {
            write!(f, " {setup} |{}", if at > 0 { " |" } else { "" })?;
        }
        let columns = (2 * self.setups.len()).saturating_sub(1);
        writeln!(f, "\n|---|---|{}", "--:|".repeat(columns))?;
        for row in &self.rows {
            let first = row.figures.first().copied().unwrap_or(f64::NAN);
            let digits = if first < 10.0 { 3 } else { 0 };
            write!(f, "| {} | {} |", row.case, row.unit)?;
            for (at, figure) in row.figures.iter().enumerate() {
                write!(f, " {figure:.digits$} |")?;
                if at > 0 {
                    write!(f, " {:.2} |", figure / first)?;
                }
            }
            writeln!(f)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

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
    fn the_table_has_a_line_for_each_case_and_a_ratio_for_each_setup_but_the_first() {
        let mut table = Table::new();
        table.add("kernel", &[100.0; CASES.len()]);
        table.add("ours", &[81.0; CASES.len()]);
        let text = table.to_string();
        assert!(text.starts_with(
            "| real Xen, instruction clock | | kernel | ours | |\n|---|---|--:|--:|--:|\n"
        ));
        assert_eq!(text.lines().count(), 2 + CASES.len());
        assert!(text.ends_with("| ping | ms | 100 | 81 | 0.81 |\n"));
    }

    #[test]
    fn the_policy_has_a_thousand_rules_and_is_one() {
        for stateful in [false, true] {
            let text = thousand_rules(stateful);
            assert_eq!(text.matches("[[policy.rule]]").count(), 1000);
            netback::config::Config::parse(Path::new("netback.toml"), &text).unwrap();
        }
    }
}
