//! What a running daemon can be asked and told about policies, over its control socket.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io;

use broker::cli::Reach;
use broker::control::{Command, Request, Right};
use serde::{Deserialize, Serialize};

use crate::enforce::{self, Count};
use crate::filter::Reason;
use crate::ledger::Ledger;
use crate::metrics::Counters;
use crate::policy::VifPolicy;

/// Read the policies again.
pub const RELOAD: &str = "policy-reload";
/// Show what governs the interface that the argument names: [`Shown`].
pub const SHOW: &str = "policy-show";
/// Show the frames that were dropped last: an [`Ask`](crate::drops::Ask), answered by
/// [`Dropped`](crate::drops::Dropped).
pub const DROPS: &str = "policy-drops";

/// All of them.
pub const COMMANDS: &[Command] = &[
    Command {
        name: RELOAD,
        right: Right::Operator,
        changes: true,
    },
    Command {
        name: SHOW,
        right: Right::Anyone,
        changes: false,
    },
    // Frames have secrets in them.
    Command {
        name: DROPS,
        right: Right::Operator,
        changes: false,
    },
];

/// What governs an interface, and what became of its frames.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shown {
    /// Its name in this host.
    pub interface: String,
    /// Why this policy.
    pub why: String,
    /// The policy, as it is enforced.
    pub policy: VifPolicy,
    /// What the kernel has counted since it was installed, of the frames that the worker has let
    /// pass.
    pub kernel: enforce::Counters,
    /// What the worker has decided since its guest has connected; `None` if it is one of an earlier
    /// daemon, or there was none yet.
    pub worker: Option<Drops>,
}

/// What a worker has decided about frames.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Drops {
    /// Frames from the guest that were dropped, by reason.
    pub out: BTreeMap<String, u64>,
    /// Frames for the guest, likewise.
    pub into: BTreeMap<String, u64>,
    /// By the rule that decided, as an index into [`VifPolicy::rules`]: since these rules are in
    /// force.
    pub rules: BTreeMap<usize, u64>,
}

impl Drops {
    /// What is in a ledger, for a policy of so many rules.
    ///
    /// # Errors
    /// The kernel's.
    pub fn read(ledger: &Ledger, rules: usize) -> io::Result<Self> {
        let mut all = Self::default();
        let mut add = |counters: &Counters, reason: Reason| {
            let of = [
                (&mut all.out, counters.tx_denied),
                (&mut all.into, counters.rx_denied),
            ];
            for (to, denied) in of {
                let count = denied[reason.index()];
                if count > 0 {
                    let sum: &mut u64 = to.entry(reason.to_string()).or_default();
                    *sum = sum.saturating_add(count);
                }
            }
        };
        for counters in ledger.counters()? {
            Reason::ALL
                .iter()
                .for_each(|&reason| add(&counters, reason));
        }
        let rules = ledger.rules(rules)?.into_iter().enumerate();
        all.rules = rules.filter(|&(_, count)| count > 0).collect();
        Ok(all)
    }
}

/// Asks the running daemon called `name` about an interface.
///
/// # Errors
/// There is no answer, or it is no.
pub fn ask(name: &str, reach: &Reach, vif: &str) -> anyhow::Result<Shown> {
    let shown = reach.ask(name, &Request::with(SHOW, vif.into()))?;
    Ok(serde_json::from_value(shown)?)
}

/// The policy, and behind it a table of what was counted: by the worker, by the kernel.
impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "# {}: {}", self.interface, self.why)?;
        write!(f, "{}", self.policy)?;
        let (kernel, worker) = (&self.kernel, self.worker.as_ref());
        let mut rows = Vec::new();
        let ways = [
            ("out", &kernel.out, worker.map(|worker| &worker.out)),
            ("in", &kernel.into, worker.map(|worker| &worker.into)),
        ];
        for (way, kernel, worker) in ways {
            let names = kernel
                .keys()
                .chain(worker.into_iter().flat_map(BTreeMap::keys));
            for name in names.collect::<BTreeSet<_>>() {
                let counted = worker.map(|worker| worker.get(name).copied().unwrap_or(0));
                rows.push((format!("{way}, {name}"), counted, kernel.get(name)));
            }
        }
        let counted = worker.into_iter().flat_map(|worker| worker.rules.keys());
        for rule in kernel.rules.keys().chain(counted).collect::<BTreeSet<_>>() {
            let counted = worker.map(|worker| worker.rules.get(rule).copied().unwrap_or(0));
            rows.push((
                format!("rule {}", rule + 1),
                counted,
                kernel.rules.get(rule),
            ));
        }
        if !rows.is_empty() {
            write!(
                f,
                "\n# {:20} {:>12} {:>12} {:>16}",
                "frames", "worker", "kernel", "bytes there"
            )?;
        }
        for (what, worker, kernel) in rows {
            let worker = worker.map_or_else(|| "?".to_owned(), |count| count.to_string());
            let Count { packets, bytes } = kernel.copied().unwrap_or_default();
            write!(f, "\n# {what:20} {worker:>12} {packets:>12} {bytes:>16}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::Mac;

    fn shown(worker: Option<Drops>) -> String {
        let count = Count {
            packets: 3,
            bytes: 180,
        };
        let shown = Shown {
            interface: "vif7.0".into(),
            why: "no policy names it".into(),
            policy: VifPolicy::open(Mac([0; 6])),
            kernel: enforce::Counters {
                out: [("mac".to_owned(), count)].into(),
                rules: [(1, count)].into(),
                ..enforce::Counters::default()
            },
            worker,
        };
        shown.to_string()
    }

    #[test]
    fn worker_and_kernel_stand_side_by_side() {
        let worker = Drops {
            out: [("ip".to_owned(), 12)].into(),
            into: BTreeMap::new(),
            rules: [(1, 7), (9, 1)].into(),
        };
        let told = shown(Some(worker));
        let table = told.split_once("\n# frames").unwrap().1;
        assert_eq!(
            table.lines().skip(1).collect::<Vec<_>>(),
            [
                "# out, ip                        12            0                0",
                "# out, mac                        0            3              180",
                "# rule 2                          7            3              180",
                "# rule 10                         1            0                0",
            ]
        );
        let untold = shown(None);
        assert!(
            untold.ends_with("# rule 2                          ?            3              180")
        );
    }
}
