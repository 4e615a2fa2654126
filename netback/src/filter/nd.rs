//! The guards of ICMPv6: router advertisements and neighbour discovery (NET-18).

use std::net::IpAddr;
use std::time::Instant;

use super::Reason;
use super::meter::Meter;
use super::packet::Packet;
use super::sources::Sources;
use crate::policy::Mac;

/// Is it what only routers say? Advertisements, redirects, mobile prefixes, and what multicast
/// routers and mobility anchors announce.
pub(super) const fn is_of_routers(icmp6: u8) -> bool {
    matches!(icmp6, ADVERTISE_ROUTER | REDIRECT | 146 | 147 | 151..=153)
}

/// Is it neighbour discovery, or about who hears which group? It carries no flows.
pub(super) const fn is_of_the_link(icmp6: u8) -> bool {
    matches!(icmp6, 130..=137 | REPORT_GROUPS)
}

/// Is it from one who has no address yet, and may say it all the same? Of neighbour solicitations,
/// only those are left that [`Nd::judge`] has let pass.
pub(super) const fn is_said_by_none(icmp6: u8) -> bool {
    matches!(
        icmp6,
        REPORT_GROUP | SOLICIT_ROUTER | SOLICIT | REPORT_GROUPS
    )
}

/// What a guest may say about who has which IPv6 address.
#[derive(Debug)]
pub(super) struct Nd {
    mac: Mac,
    meter: Meter,
}

impl Nd {
    pub(super) fn new(mac: Mac, now: Instant) -> Self {
        let meter = Meter::new(50, 100, now);
        Self { mac, meter }
    }

    pub(super) fn judge(
        &self,
        packet: &Packet<'_>,
        own: &Sources,
        now: &impl Fn() -> Instant,
    ) -> Result<(), Reason> {
        let fixed = match packet.icmp6 {
            Some(SOLICIT_ROUTER) => 8,
            Some(SOLICIT | ADVERTISE) => 24,
            _ => return Ok(()),
        };
        if !(is_of_this_link(packet) && self.is_true(packet, fixed, own)) {
            return Err(Reason::Nd);
        }
        if self.meter.admits(now) {
            Ok(())
        } else {
            Err(Reason::NdRate)
        }
    }

    /// `fixed`: bytes of the message without its options.
    fn is_true(&self, packet: &Packet<'_>, fixed: usize, own: &Sources) -> bool {
        let start = packet.found.l4;
        // All of it: what the packet has and the frame has not cannot be judged.
        let message = packet.head.get(start..packet.found.end);
        let Some((fixed, options)) = message.and_then(|message| message.split_at_checked(fixed))
        else {
            return false;
        };
        let target = fixed.get(8..).and_then(<[u8]>::first_chunk::<16>);
        let target = || target.is_some_and(|bytes| own.has_v6((*bytes).into()));
        let unspecified = packet.source.is_unspecified();
        let entitled = match packet.icmp6 {
            Some(ADVERTISE) => target(),
            // Who asks whether an address is taken wants to have it.
            Some(SOLICIT) => !unspecified || target(),
            _ => unspecified || own.has(packet.source),
        };
        entitled && self.are_options_true(options)
    }

    /// One, two or none, each of 8 bytes: the link-layer address of the guest, or a nonce.
    fn are_options_true(&self, options: &[u8]) -> bool {
        let (options, rest) = options.as_chunks::<8>();
        let is_true = |option: &[u8; 8]| match *option {
            [SOURCE_ADDRESS | TARGET_ADDRESS, 1, ref address @ ..] => *address == self.mac.0,
            [NONCE, 1, ..] => true,
            _ => false,
        };
        rest.is_empty() && options.len() <= 2 && options.iter().all(is_true)
    }
}

/// No router has passed it on, and nothing is in front of it.
fn is_of_this_link(packet: &Packet<'_>) -> bool {
    let found = &packet.found;
    let byte = |at: usize| packet.head.get(at).copied();
    found.l4 == found.l3 + IPV6_HEADER
        && byte(found.l3 + 7) == Some(255)
        && byte(found.l4 + 1) == Some(0)
        && matches!(packet.source, IpAddr::V6(_))
}

const IPV6_HEADER: usize = 40;

const REPORT_GROUP: u8 = 131;
const SOLICIT_ROUTER: u8 = 133;
const ADVERTISE_ROUTER: u8 = 134;
const SOLICIT: u8 = 135;
const ADVERTISE: u8 = 136;
const REDIRECT: u8 = 137;
const REPORT_GROUPS: u8 = 143;

const SOURCE_ADDRESS: u8 = 1;
const TARGET_ADDRESS: u8 = 2;
const NONCE: u8 = 14;
