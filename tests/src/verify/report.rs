//! Verdicts, as they come and in the end.

use std::io::Write as _;
use std::path::Path;
use std::time::Duration;

use super::Counts;

/// Lines of a failure that are shown; the log has all of it.
const SHOWN: usize = 60;

/// What became of one step.
#[derive(Clone, Debug)]
pub struct Verdict {
    /// The step, or the scenario of a step.
    pub name: String,
    /// What it counts for.
    pub counts: Counts,
    /// What there is to say: why it failed, or a figure.
    pub remark: String,
}

/// All verdicts so far.
#[derive(Debug, Default)]
pub struct Report {
    verdicts: Vec<Verdict>,
}

impl Report {
    /// Says that a step begins, so that whoever watches knows what takes so long.
    pub fn begin(&self, name: &str) {
        print!("{name:<28} ");
        // A terminal that has gone away is no reason to stop verifying.
        let _shown = std::io::stdout().flush();
    }

    /// Takes a verdict and prints it behind what [`begin`](Self::begin) printed.
    pub fn end(&mut self, verdict: Verdict, took: Duration) {
        let word = if verdict.counts.failed == 0 {
            "ok"
        } else {
            "FAILED"
        };
        let tests = match verdict.counts {
            Counts::PASSED | Counts::FAILED => String::new(),
            Counts { passed, failed } => format!("{passed} passed, {failed} failed"),
        };
        println!("{word:<7} {:>7.1} s  {tests}", took.as_secs_f64());
        if !verdict.remark.is_empty() {
            for line in last_lines(&verdict.remark, SHOWN) {
                println!("    {line}");
            }
        }
        self.verdicts.push(verdict);
    }

    /// Takes a verdict that was printed already.
    pub fn note(&mut self, verdict: Verdict) {
        self.verdicts.push(verdict);
    }

    /// The sum of all verdicts.
    #[must_use]
    pub fn counts(&self) -> Counts {
        let mut sum = Counts::default();
        for verdict in &self.verdicts {
            sum += verdict.counts;
        }
        sum
    }

    /// Prints what failed and, as the last line, how many did.
    pub fn print_summary(&self, logs: &Path) {
        println!();
        for verdict in self.verdicts.iter().filter(|v| v.counts.failed > 0) {
            println!("FAILED: {}", verdict.name);
        }
        println!("logs: {}", logs.display());
        let Counts { passed, failed } = self.counts();
        println!("{passed} passed, {failed} failed");
    }
}

fn last_lines(text: &str, count: usize) -> Vec<&str> {
    let lines: Vec<&str> = text.lines().collect();
    let from = lines.len().saturating_sub(count);
    lines.into_iter().skip(from).collect()
}
