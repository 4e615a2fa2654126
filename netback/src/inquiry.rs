//! What a running daemon can be asked and told about policies, over its control socket.

use std::fmt;

use broker::cli::Reach;
use broker::control::{Command, Request, Right};
use serde::{Deserialize, Serialize};

use crate::enforce::{Count, Counters};
use crate::policy::VifPolicy;

/// Read the policies again.
pub const RELOAD: &str = "policy-reload";
/// Show what governs the interface that the argument names: [`Shown`].
pub const SHOW: &str = "policy-show";

/// All of them.
pub const COMMANDS: &[Command] = &[
    Command {
        name: RELOAD,
        right: Right::Operator,
    },
    Command {
        name: SHOW,
        right: Right::Anyone,
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
    /// What the kernel has counted since it was installed. What the worker has dropped before is not
    /// among it.
    pub counters: Counters,
}

/// Asks the running daemon called `name` about an interface.
///
/// # Errors
/// There is no answer, or it is no.
pub fn ask(name: &str, reach: &Reach, vif: &str) -> anyhow::Result<Shown> {
    let shown = reach.ask(name, &Request::with(SHOW, vif.into()))?;
    Ok(serde_json::from_value(shown)?)
}

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "# {}: {}", self.interface, self.why)?;
        write!(f, "{}", self.policy)?;
        let counters = &self.counters;
        let named = |direction: &'static str| {
            move |(name, count): (&String, &Count)| (format!("{direction}, {name}"), *count)
        };
        let out = counters.out.iter().map(named("out"));
        let into = counters.into.iter().map(named("in"));
        let rules = counters.rules.iter();
        let rules = rules.map(|(index, count)| (format!("rule {}", index + 1), *count));
        let mut counted = out.chain(into).chain(rules);
        counted.try_for_each(|(what, count)| {
            let Count { packets, bytes } = count;
            write!(f, "\n# {what}: {packets} frames, {bytes} bytes")
        })
    }
}
