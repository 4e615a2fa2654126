//! All guards of one interface, in their order: the first that a frame does not pass decides.

use std::time::Instant;

use super::Reason;
use super::arp::Arp;
use super::dhcp::Dhcp;
use super::frame::Frame;
use super::link::Link;
use super::meter::Meter;
use super::nd::{self, Nd};
use super::packet::{ICMP6, Packet};
use super::sources::Sources;
use crate::headers::Unread;
use crate::multicast::is_group;
use crate::policy::VifPolicy;

/// The guards.
#[derive(Debug)]
pub(super) struct Guards {
    link: Link,
    dhcp: Dhcp,
    ra: bool,
    addresses: Option<AddressGuards>,
    storm: Option<Meter>,
}

/// Those that know the guest's addresses.
#[derive(Debug)]
struct AddressGuards {
    own: Sources,
    arp: Arp,
    nd: Nd,
}

/// What a frame holds behind its Ethernet header.
pub(super) type Content<'a> = Option<Result<Packet<'a>, Unread>>;

impl Guards {
    pub(super) fn new(policy: &VifPolicy, now: Instant) -> Self {
        let addresses = policy.addresses.as_ref().map(|addresses| AddressGuards {
            own: Sources::new(addresses, policy.mac),
            arp: Arp::new(policy, now),
            nd: Nd::new(policy.mac, now),
        });
        Self {
            link: Link::new(policy),
            dhcp: Dhcp::new(policy, now),
            ra: policy.ra_guard,
            addresses,
            storm: policy
                .storm
                .map(|rate| Meter::new(rate, rate.saturating_mul(2), now)),
        }
    }

    /// Does any frame pass on its way out?
    pub(super) fn is_idle_out(&self) -> bool {
        self.link.is_idle() && !self.reads_ip() && self.storm.is_none()
    }

    /// Does any frame pass on its way in?
    pub(super) const fn is_idle_in(&self) -> bool {
        self.dhcp.is_idle_in()
    }

    /// Do they have to know what is behind a VLAN tag?
    pub(super) fn read_tags(&self) -> bool {
        self.link.looks_at_types() || self.reads_ip()
    }

    /// Do they look into packets of the family, on their way out?
    pub(super) const fn read(&self, is_v6: bool) -> bool {
        self.addresses.is_some() || !self.dhcp.is_idle_out() || is_v6 && self.ra
    }

    const fn reads_ip(&self) -> bool {
        self.read(true)
    }

    /// What DHCP passes.
    pub(super) const fn dhcp(&self) -> &Dhcp {
        &self.dhcp
    }

    pub(super) fn judge_out(
        &self,
        frame: &Frame<'_>,
        content: &Content<'_>,
        now: &impl Fn() -> Instant,
    ) -> Result<(), Reason> {
        let arp = match &self.addresses {
            Some(guards) => guards.arp.read(frame)?,
            None => None,
        };
        match content {
            Some(Err(Unread::Broken)) => return Err(Reason::Malformed),
            Some(Err(Unread::TooMany)) if self.addresses.is_none() => {
                return Err(Reason::Malformed);
            }
            _ => {}
        }
        self.link.judge(frame)?;
        if let (Some(guards), Some(message)) = (&self.addresses, arp) {
            guards.arp.judge(frame.kind, &message, &guards.own, now)?;
        }
        match content {
            Some(Ok(packet)) => self.judge_packet(packet, now)?,
            Some(Err(_)) => return Err(Reason::Ip),
            None => {}
        }
        match &self.storm {
            Some(meter) if is_group(frame.to) && !meter.admits(now) => Err(Reason::Storm),
            _ => Ok(()),
        }
    }

    fn judge_packet(&self, packet: &Packet<'_>, now: &impl Fn() -> Instant) -> Result<(), Reason> {
        self.dhcp.judge_out(packet, now)?;
        if self.ra && packet.icmp6.is_some_and(nd::is_of_routers) {
            return Err(Reason::Ra);
        }
        let Some(guards) = &self.addresses else {
            return Ok(());
        };
        guards.nd.judge(packet, &guards.own, now)?;
        let stands = if packet.source.is_ipv4() {
            guards.own.has(packet.source) || self.dhcp.excuses(packet)
        } else {
            guards.own.has(packet.source) || is_from_none(packet)
        };
        let shown = packet.source.is_ipv4() || !hides(packet.found.protocol);
        let known = stands && shown && !guards.own.lacks_family_of(packet.source);
        known.then_some(()).ok_or(Reason::Ip)
    }
}

/// From `::`, which only who has no address yet may say.
fn is_from_none(packet: &Packet<'_>) -> bool {
    let said = packet.icmp6.is_some_and(nd::is_said_by_none);
    packet.source.is_unspecified() && packet.found.protocol == ICMP6 && said
}

/// An extension header of IPv6 (RFC 7045) behind which nobody here looks: mobility, HIP, Shim6, and
/// those for experiments.
const fn hides(protocol: u8) -> bool {
    matches!(protocol, 135 | 139 | 140 | 253 | 254)
}
