//! Pairs of runs and what they come to.

use std::time::Duration;

use super::{Contender, Measured, Workload, noise};
use crate::frontend::Chance;

/// How a comparison is made.
#[derive(Clone, Copy, Debug)]
pub struct Protocol {
    /// Pairs of runs.
    pub pairs: usize,
    /// Length of one run.
    pub run: Duration,
    /// Length of the run before, which does not count.
    pub warm_up: Duration,
    /// How long to wait for a quiet machine before each pair.
    pub patience: Duration,
}

impl Protocol {
    /// A first impression.
    pub const QUICK: Self = Self {
        pairs: 5,
        run: Duration::from_millis(250),
        warm_up: Duration::from_millis(50),
        patience: Duration::from_millis(500),
    };

    /// For figures that are published.
    pub const FULL: Self = Self {
        pairs: 11,
        run: Duration::from_millis(500),
        warm_up: Duration::from_millis(60),
        patience: Duration::from_secs(10),
    };
}

/// A contender beside a peer.
#[derive(Clone, Debug)]
pub struct Comparison {
    /// What was asked.
    pub workload: Workload,
    /// The peer's name.
    pub peer: &'static str,
    /// All pairs: the contender's, the peer's.
    pub pairs: Vec<(Measured, Measured)>,
    /// Pairs before which the machine did not become quiet.
    pub noisy: usize,
}

impl Comparison {
    /// Contender's IOPS by peer's: first quartile, median, third quartile.
    #[must_use]
    pub fn iops_ratio(&self) -> [f64; 3] {
        quartiles(self.pairs.iter().map(|(a, b)| a.iops / b.iops))
    }

    /// Contender's CPU time per request by peer's, as [`iops_ratio`](Self::iops_ratio); `None` where
    /// the peer's is unknown.
    #[must_use]
    pub fn cpu_ratio(&self) -> Option<[f64; 3]> {
        let known = self.pairs.iter().all(|(_, peer)| peer.cpu_us > 0.0);
        known.then(|| quartiles(self.pairs.iter().map(|(a, b)| a.cpu_us / b.cpu_us)))
    }

    /// Medians of the contender and of the peer.
    #[must_use]
    pub fn medians(&self) -> (Measured, Measured) {
        let median = |of: fn(&(Measured, Measured)) -> f64| quartiles(self.pairs.iter().map(of))[1];
        (
            Measured {
                iops: median(|pair| pair.0.iops),
                cpu_us: median(|pair| pair.0.cpu_us),
            },
            Measured {
                iops: median(|pair| pair.1.iops),
                cpu_us: median(|pair| pair.1.cpu_us),
            },
        )
    }
}

/// Runs `contender` and `peer` in pairs, in random order.
///
/// # Errors
/// As [`Contender::run`].
pub fn compare(
    contender: &mut dyn Contender,
    peer: &mut dyn Contender,
    workload: Workload,
    protocol: Protocol,
) -> anyhow::Result<Comparison> {
    let mut chance = Chance::new(u64::from(workload.depth) + 1);
    let mut comparison = Comparison {
        workload,
        peer: peer.name(),
        pairs: Vec::new(),
        noisy: 0,
    };
    contender.run(workload, protocol.warm_up)?;
    peer.run(workload, protocol.warm_up)?;
    for _ in 0..protocol.pairs {
        if !noise::wait_for_quiet(protocol.patience)? {
            comparison.noisy += 1;
        }
        let pair = if chance.once_in(2) {
            let first = contender.run(workload, protocol.run)?;
            (first, peer.run(workload, protocol.run)?)
        } else {
            let first = peer.run(workload, protocol.run)?;
            (contender.run(workload, protocol.run)?, first)
        };
        comparison.pairs.push(pair);
    }
    Ok(comparison)
}

fn quartiles(values: impl Iterator<Item = f64>) -> [f64; 3] {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    let last = values.len().saturating_sub(1);
    [1, 2, 3].map(|quarter| {
        // The nearest of them: with so few pairs an interpolated value would be invented.
        let at = (last * quarter + 2) / 4;
        values.get(at).copied().unwrap_or(f64::NAN)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quartiles_are_values_that_were_seen() {
        let of = |values: &[f64]| quartiles(values.iter().copied());
        assert_eq!(of(&[5.0, 1.0, 3.0, 2.0, 4.0]), [2.0, 3.0, 4.0]);
        assert_eq!(of(&[7.0]), [7.0, 7.0, 7.0]);
        assert!(of(&[])[1].is_nan());
    }

    #[test]
    fn a_ratio_is_taken_within_pairs_and_not_of_medians() {
        let run = |iops: f64| Measured { iops, cpu_us: 1.0 };
        let comparison = Comparison {
            workload: Workload::random_4k(false, 1),
            peer: "peer",
            // The machine became ten times faster in between.
            pairs: vec![
                (run(9.0), run(10.0)),
                (run(90.0), run(100.0)),
                (run(95.0), run(100.0)),
            ],
            noisy: 0,
        };
        assert!((comparison.iops_ratio()[1] - 0.9).abs() < 1e-9);
        assert_eq!(comparison.cpu_ratio(), Some([1.0, 1.0, 1.0]));
    }
}
