//! From the rules of a policy to stretches and sets.

use super::sets::Collector;
use super::steps::{Span, Steps};
use super::{Judge, PROTOCOLS, Rules};
use crate::filter::Verdict;
use crate::filter::packet::{ICMP, ICMP6};
use crate::filter::sources::{Range, range};
use crate::headers::{TCP, UDP};
use crate::policy::{Direction, PortRange, Protocol, Rule};

/// Makes `rules` ready, of which each has a judge.
pub(super) fn compile(
    rules: &[&Rule],
    judges: Vec<Judge>,
    default: Verdict,
    direction: Direction,
) -> Rules {
    let mut sets = Collector::new(rules.len());
    let protocols = [false, true].into_iter().flat_map(|is_v6| {
        let numbers = 0..=u8::MAX;
        numbers.map(move |number| (is_v6, number))
    });
    let protocols: Vec<_> = protocols
        .map(|(is_v6, number)| {
            let set = sets.of(rules, |rule| speaks(rule.protocol, is_v6, number));
            sets.keep(&set)
        })
        .collect();
    debug_assert_eq!(protocols.len(), 2 * PROTOCOLS);
    let (v4, v6) = remotes(rules);
    let anyone = sets.of(rules, |rule| rule.remote.is_empty());
    let remote_v4 = Steps::new(&anyone, &v4, &mut sets);
    let remote_v6 = Steps::new(&anyone, &v6, &mut sets);
    let ports = spans_of(rules, |rule| &rule.ports, &mut sets);
    let source_ports = spans_of(rules, |rule| &rule.source_ports, &mut sets);
    let portless = sets.of(rules, |rule| {
        rule.ports.is_empty() && rule.source_ports.is_empty()
    });
    let portless = sets.keep(&portless);
    Rules {
        rules: judges,
        default,
        direction,
        sets: sets.finish(),
        protocols,
        remote_v4,
        remote_v6,
        ports,
        source_ports,
        portless,
    }
}

/// Does a rule's protocol include that one?
fn speaks(protocol: Protocol, is_v6: bool, number: u8) -> bool {
    match protocol {
        Protocol::Any => true,
        Protocol::Tcp => number == TCP,
        Protocol::Udp => number == UDP,
        Protocol::Icmp => number == ICMP && !is_v6,
        Protocol::Icmp6 => number == ICMP6 && is_v6,
        Protocol::Number(own) => number == own,
    }
}

/// Where ports that rules name start and end.
fn spans_of(
    rules: &[&Rule],
    of: impl Fn(&Rule) -> &Vec<PortRange>,
    sets: &mut Collector,
) -> Steps<u16> {
    let any = sets.of(rules, |rule| of(rule).is_empty());
    let spans = rules.iter().enumerate().flat_map(|(number, rule)| {
        let ranges = of(rule).iter().filter(|range| range.first <= range.last);
        ranges.map(move |range| Span {
            rule: number,
            first: range.first,
            end: range.last.checked_add(1),
        })
    });
    let spans: Vec<_> = spans.collect();
    Steps::new(&any, &spans, sets)
}

/// The other ends of rules that name some, by family.
fn remotes(rules: &[&Rule]) -> (Vec<Span<u32>>, Vec<Span<u128>>) {
    let (mut v4, mut v6) = (Vec::new(), Vec::new());
    for (rule, remote) in rules.iter().map(|rule| &rule.remote).enumerate() {
        for prefix in remote {
            match range(prefix) {
                Range::V4((first, last)) => v4.push(Span {
                    rule,
                    first,
                    end: last.checked_add(1),
                }),
                Range::V6((first, last)) => v6.push(Span {
                    rule,
                    first,
                    end: last.checked_add(1),
                }),
            }
        }
    }
    (v4, v6)
}
