//! The rules of one direction: the first that matches decides (NET-24: as they stand, from the first
//! frame on).
//!
//! Not by trying one after the other. For each thing that rules ask about (protocol, the other end's
//! address, ports), what there may be is cut into stretches between which no rule differs, and each
//! stretch knows the set of rules that it satisfies. A packet lies in one stretch of each; the rules
//! that match are those in all of these sets, and the first is their lowest bit.

mod compile;
mod sets;
mod steps;

use std::net::IpAddr;
use std::time::Instant;

use self::sets::Sets;
use self::steps::Steps;
use super::meter::Meter;
use super::packet::Packet;
use super::{Reason, Verdict};
use crate::policy::{Action, Direction, VifPolicy};

/// The rules of a direction.
#[derive(Debug)]
pub(super) struct Rules {
    rules: Vec<Judge>,
    default: Verdict,
    direction: Direction,
    sets: Sets,
    /// The set of each protocol over IPv4, then over IPv6.
    protocols: Vec<usize>,
    remote_v4: Steps<u32>,
    remote_v6: Steps<u128>,
    ports: Steps<u16>,
    source_ports: Steps<u16>,
    /// The set of what has no ports.
    portless: usize,
}

/// What a rule says about a packet that it matches.
#[derive(Debug)]
struct Judge {
    verdict: Verdict,
    /// It matches no more than so many.
    meter: Option<Meter>,
}

impl Rules {
    /// Those of a policy.
    pub(super) fn new(policy: &VifPolicy, direction: Direction, now: Instant) -> Self {
        let default = match direction {
            Direction::Out => policy.default_out,
            Direction::In => policy.default_in,
        };
        let of_kernel = policy.is_stateful();
        let default = if of_kernel { Action::Accept } else { default };
        let own = policy.rules.iter().enumerate();
        let own: Vec<_> = own
            .filter(|(_, rule)| rule.direction == direction && !of_kernel)
            .collect();
        let judges = own.iter().map(|&(place, rule)| Judge {
            verdict: verdict(rule.action, Reason::Rule, Some(place)),
            meter: rule.limit.map(|limit| Meter::new(limit, limit, now)),
        });
        let judges = judges.collect();
        let rules: Vec<_> = own.iter().map(|&(_, rule)| rule).collect();
        let default = verdict(default, Reason::Default, None);
        compile::compile(&rules, judges, default, direction)
    }

    /// Does every packet pass, and no one counts them?
    pub(super) const fn is_idle(&self) -> bool {
        self.rules.is_empty() && self.default.passes()
    }

    /// Judges a packet.
    pub(super) fn judge(&self, packet: &Packet<'_>, now: &impl Fn() -> Instant) -> Verdict {
        if self.rules.is_empty() {
            return self.default;
        }
        let remote = match self.direction {
            Direction::Out => packet.destination,
            Direction::In => packet.source,
        };
        let (family, remote) = match remote {
            IpAddr::V4(address) => (0, self.remote_v4.at(address.into())),
            IpAddr::V6(address) => (PROTOCOLS, self.remote_v6.at(address.into())),
        };
        let protocol = family + usize::from(packet.found.protocol);
        let protocol = self.protocols.get(protocol).copied().unwrap_or_default();
        let (source, port) = match packet.ports {
            Some((source, port)) => (self.source_ports.at(source), self.ports.at(port)),
            None => (self.portless, self.portless),
        };
        let matching = self.sets.common([protocol, remote, source, port]);
        for judge in matching.filter_map(|rule| self.rules.get(rule)) {
            if judge.meter.as_ref().is_none_or(|meter| meter.admits(now)) {
                return judge.verdict;
            }
        }
        self.default
    }
}

/// What an action means here. Who is rejected is told only where rules follow flows, and those are
/// the kernel's.
const fn verdict(action: Action, reason: Reason, place: Option<usize>) -> Verdict {
    match action {
        Action::Accept => Verdict::Pass(place),
        Action::Drop | Action::Reject => Verdict::Drop(reason, place),
    }
}

/// How many protocols of IP there are.
const PROTOCOLS: usize = 256;

#[cfg(test)]
mod tests;
