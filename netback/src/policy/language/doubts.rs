//! What rules say that is probably not what was meant.

use super::rules::Placed;
use super::source::{Source, Warning};
use crate::policy::{Action, Direction, PortRange, Prefix, Protocol, Rule, VifPolicy};

/// Doubts about rules, whose policy is `policy`.
pub(super) fn of_rules(source: &Source, rules: &[Placed], policy: &VifPolicy) -> Vec<Warning> {
    let mut warnings = Vec::new();
    for (at, later) in rules.iter().enumerate() {
        let earlier = rules.iter().take(at);
        let mut covering = earlier.filter(|earlier| covers(&earlier.rule, &later.rule));
        if let Some(first) = covering.next() {
            let line = source.origin(&first.span).line;
            let what = format!("this rule is never reached: the one of line {line} decides first");
            warnings.push(source.warning(&later.span, &what));
        }
    }
    if let Some(last) = rules.last().filter(|_| lacks_answers(policy)) {
        warnings.push(source.warning(&last.span, ANSWERS));
    }
    warnings
}

const ANSWERS: &str = "what default-out lets out gets no answers, since default-in does not accept: \
                       end the rules with { direction = \"out\", action = \"accept\", stateful = \
                       true }, or write default-out = \"drop\"";

/// Does the first rule take all that the second one could?
fn covers(first: &Rule, second: &Rule) -> bool {
    first.direction == second.direction
        && first.limit.is_none()
        && (first.protocol == Protocol::Any || first.protocol == second.protocol)
        && ports_cover(&first.ports, &second.ports)
        && ports_cover(&first.source_ports, &second.source_ports)
        && remote_covers(&first.remote, &second.remote, second.protocol)
}

fn ports_cover(first: &[PortRange], second: &[PortRange]) -> bool {
    let inside = |port: &PortRange| {
        first
            .iter()
            .any(|outer| outer.first <= port.first && port.last <= outer.last)
    };
    first.is_empty() || (!second.is_empty() && second.iter().all(inside))
}

fn remote_covers(first: &[Prefix], second: &[Prefix], protocol: Protocol) -> bool {
    let inside = |prefix: &Prefix| first.iter().any(|outer| outer.covers(prefix));
    let everywhere = |v4: bool| first.iter().any(|p| p.is_v4() == v4 && p.bits() == 0);
    match (first, second, protocol) {
        ([], _, _) => true,
        (_, [], Protocol::Icmp) => everywhere(true),
        (_, [], Protocol::Icmp6) => everywhere(false),
        (_, [], _) => everywhere(true) && everywhere(false),
        _ => second.iter().all(inside),
    }
}

/// Connections that the guest opens are let out without being followed, and what comes back is
/// dropped.
fn lacks_answers(policy: &VifPolicy) -> bool {
    let lets_all = |rule: &Rule| {
        rule.action == Action::Accept
            && rule.protocol == Protocol::Any
            && rule.remote.is_empty()
            && rule.limit.is_none()
    };
    let answered = policy.rules.iter().any(|rule| match rule.direction {
        Direction::Out => rule.stateful && lets_all(rule),
        Direction::In => lets_all(rule),
    });
    policy.default_out == Action::Accept && policy.default_in != Action::Accept && !answered
}
