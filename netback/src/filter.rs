//! What one interface may send and receive, judged frame by frame: the worker's half of a
//! [policy](crate::policy).
//!
//! It judges the private copy of a frame's first bytes, before anyone else sees the frame. The kernel
//! judges all of it again: what is said here drops early, and keeps the kernel from frames that it
//! has no use for. Both go by the same order of checks; the first that a frame does not pass is the
//! [`Reason`].
//!
//! ```text
//! frame       Ethernet header, one VLAN tag
//! packet      IP headers, as far as they lie in the first bytes     malformed
//! guards ─► link      source, link-local groups, types, tags        mac, l2, vlan
//!           arp                                                     arp, arp-rate
//!           dhcp                                                    dhcp, dhcp-rate
//!           nd        router advertisements, neighbour discovery    ra, nd, nd-rate
//!           sources   whose addresses                               ip
//!           meter     broadcast and multicast, so many a second     storm
//! rules       first match                                           rule, default
//! ```
//!
//! All queues of an interface share one filter. Judging takes no locks and no memory, and asks for
//! the time only where a limit depends on it.

mod arp;
mod dhcp;
mod frame;
mod guards;
mod link;
mod meter;
mod nd;
mod packet;
mod reason;
mod rules;
mod seen;
mod sources;

use std::time::Instant;

pub use reason::Reason;
pub use seen::Seen;

use crate::headers::{IPV4, IPV6, Unread};
use crate::policy::{Direction, VifPolicy};
use crate::vnet;
use frame::Frame;
use guards::{Content, Guards};
use packet::Packet;
use rules::Rules;

/// As many of a frame's first bytes as are looked at: more than Ethernet with a tag, the longest IPv4
/// header and DHCP up to the client's address (120), and than IPv6 with eight extension headers of
/// the usual size. What is to be judged and lies behind is [`Reason::Malformed`].
pub const HEAD: usize = vnet::HEAD;

/// The policy of one interface, made ready for judging.
#[derive(Debug)]
pub struct Filter {
    guards: Guards,
    out: Rules,
    incoming: Rules,
    /// Which rules are logged.
    logged: Vec<bool>,
    idle: (bool, bool),
}

/// What becomes of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It passes here, by this of the policy's rules, if by one. The kernel may drop it all the same.
    Pass(Option<usize>),
    /// It is dropped, and by which of the policy's rules, if by one.
    Drop(Reason, Option<usize>),
}

impl Verdict {
    /// Does the frame pass?
    #[must_use]
    pub const fn passes(self) -> bool {
        matches!(self, Self::Pass(_))
    }

    /// The rule of the policy that decides, if it is one.
    #[must_use]
    pub const fn rule(self) -> Option<usize> {
        match self {
            Self::Pass(rule) | Self::Drop(_, rule) => rule,
        }
    }
}

impl From<Reason> for Verdict {
    fn from(reason: Reason) -> Self {
        Self::Drop(reason, None)
    }
}

impl Filter {
    /// What a policy says. Limits begin at `now`, with all that may pass at once.
    ///
    /// Stateful rules are the kernel's, and so are all rules beside them: only guards are left here.
    #[must_use]
    pub fn new(policy: &VifPolicy, now: Instant) -> Self {
        let guards = Guards::new(policy, now);
        let out = Rules::new(policy, Direction::Out, now);
        let incoming = Rules::new(policy, Direction::In, now);
        let idle_out = guards.is_idle_out() && out.is_idle();
        let idle_in = guards.is_idle_in() && incoming.is_idle();
        Self {
            guards,
            out,
            incoming,
            logged: policy.rules.iter().map(|rule| rule.log).collect(),
            idle: (idle_out, idle_in),
        }
    }

    /// Does every frame pass, so that none needs to be shown?
    #[must_use]
    pub const fn is_idle(&self, direction: Direction) -> bool {
        match direction {
            Direction::Out => self.idle.0,
            Direction::In => self.idle.1,
        }
    }

    /// Judges a frame from the guest that starts with `head`: [`HEAD`] bytes of it, or all.
    #[must_use]
    pub fn out(&self, head: &[u8], now: impl Fn() -> Instant) -> Verdict {
        if self.idle.0 {
            return Verdict::Pass(None);
        }
        let judged = !self.out.is_idle();
        let tags = judged || self.guards.read_tags();
        let Some(frame) = Frame::parse(head, tags) else {
            return Reason::Malformed.into();
        };
        let reads = match frame.kind {
            IPV4 => judged || self.guards.read(false),
            IPV6 => judged || self.guards.read(true),
            _ => false,
        };
        let content: Content<'_> = reads.then(|| Packet::parse(&frame)).flatten();
        if let Err(reason) = self.guards.judge_out(&frame, &content, &now) {
            return reason.into();
        }
        match content {
            Some(Ok(packet)) if judged && !self.is_free_out(&packet) => {
                self.out.judge(&packet, &now)
            }
            _ => Verdict::Pass(None),
        }
    }

    /// Judges a frame for the guest that starts with `head`: [`HEAD`] bytes of it, or all.
    #[must_use]
    pub fn incoming(&self, head: &[u8], now: impl Fn() -> Instant) -> Verdict {
        if self.idle.1 {
            return Verdict::Pass(None);
        }
        let Some(frame) = Frame::parse(head, true) else {
            return Reason::Malformed.into();
        };
        let packet = match Packet::parse(&frame) {
            None => return Verdict::Pass(None),
            Some(Err(Unread::Broken | Unread::TooMany)) => return Reason::Malformed.into(),
            Some(Ok(packet)) => packet,
        };
        if let Err(reason) = self.guards.dhcp().judge_in(&packet) {
            return reason.into();
        }
        if self.incoming.is_idle() || self.is_free_in(&packet) {
            return Verdict::Pass(None);
        }
        self.incoming.judge(&packet, &now)
    }

    /// How many rules the policy has.
    #[must_use]
    pub const fn rules(&self) -> usize {
        self.logged.len()
    }

    /// Is a sample of what this rule decides about to be logged?
    #[must_use]
    pub fn logs(&self, rule: usize) -> bool {
        self.logged.get(rule).is_some_and(|&logged| logged)
    }

    /// Is no rule asked about it, because the guards have judged it?
    fn is_free_out(&self, packet: &Packet<'_>) -> bool {
        packet.icmp6.is_some_and(nd::is_of_the_link) || self.guards.dhcp().has_let_out(packet)
    }

    fn is_free_in(&self, packet: &Packet<'_>) -> bool {
        packet.icmp6.is_some_and(nd::is_of_the_link) || self.guards.dhcp().has_asked_for(packet)
    }
}

#[cfg(test)]
mod tests;
