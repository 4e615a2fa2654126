//! The guard of DHCP (NET-17).

use std::net::{IpAddr, Ipv4Addr};
use std::time::Instant;

use super::Reason;
use super::meter::Meter;
use super::packet::Packet;
use crate::policy::{self, Mac, VifPolicy};

/// What DHCP a guest may speak, and hear.
#[derive(Debug)]
pub(super) struct Dhcp {
    may: policy::Dhcp,
    /// The hardware address that a client must give, if one must.
    mac: Option<Mac>,
    meter: Meter,
    /// From whom it may come; empty: anyone.
    servers: Vec<IpAddr>,
}

impl Dhcp {
    pub(super) fn new(policy: &VifPolicy, now: Instant) -> Self {
        Self {
            may: policy.dhcp,
            mac: policy.mac_guard.then_some(policy.mac),
            meter: Meter::new(10, 20, now),
            servers: policy.dhcp_servers.clone(),
        }
    }

    /// Is nothing of it kept from leaving?
    pub(super) const fn is_idle_out(&self) -> bool {
        matches!(self.may, policy::Dhcp::Any | policy::Dhcp::Server)
    }

    /// Is nothing of it kept from the guest?
    pub(super) const fn is_idle_in(&self) -> bool {
        self.servers.is_empty()
    }

    pub(super) fn judge_out(
        &self,
        packet: &Packet<'_>,
        now: &impl Fn() -> Instant,
    ) -> Result<(), Reason> {
        let Some((from, to)) = packet.udp() else {
            return Ok(());
        };
        match self.may {
            policy::Dhcp::Client if is_server(from) => Err(Reason::Dhcp),
            policy::Dhcp::Client if is_asking(packet) => self.judge_client(packet, now),
            policy::Dhcp::Off if is_server(from) || is_server(to) => Err(Reason::Dhcp),
            _ => Ok(()),
        }
    }

    fn judge_client(&self, packet: &Packet<'_>, now: &impl Fn() -> Instant) -> Result<(), Reason> {
        let at = packet.found.l4 + UDP_HEADER + CHADDR;
        let stands = match self.mac {
            Some(mac) if packet.source.is_ipv4() => packet.head.get(at..at + 6) == Some(&mac.0),
            _ => true,
        };
        if !stands {
            return Err(Reason::Dhcp);
        }
        if self.meter.admits(now) {
            Ok(())
        } else {
            Err(Reason::DhcpRate)
        }
    }

    pub(super) fn judge_in(&self, packet: &Packet<'_>) -> Result<(), Reason> {
        let from_server = packet.udp().is_some_and(|(from, _)| is_server(from));
        let known = !from_server || self.is_idle_in() || self.servers.contains(&packet.source);
        known.then_some(()).ok_or(Reason::Dhcp)
    }

    /// May a client that has no address yet send it from none?
    pub(super) fn excuses(&self, packet: &Packet<'_>) -> bool {
        self.may == policy::Dhcp::Client
            && packet.source == IpAddr::V4(Ipv4Addr::UNSPECIFIED)
            && packet.destination == IpAddr::V4(Ipv4Addr::BROADCAST)
            && is_asking(packet)
    }

    /// Is it what the guard has let out, so that no rule is asked?
    pub(super) fn has_let_out(&self, packet: &Packet<'_>) -> bool {
        match self.may {
            policy::Dhcp::Client => is_asking(packet),
            policy::Dhcp::Server => is_asking(packet) || is_served(packet),
            policy::Dhcp::Off | policy::Dhcp::Any => false,
        }
    }

    /// Is it the answer to what the guard has let out?
    pub(super) fn has_asked_for(&self, packet: &Packet<'_>) -> bool {
        self.may == policy::Dhcp::Client && is_answer(packet)
    }
}

/// From a client to a server.
fn is_asking(packet: &Packet<'_>) -> bool {
    match packet.source {
        IpAddr::V4(_) => packet.udp() == Some((CLIENT, SERVER)),
        IpAddr::V6(_) => packet.udp() == Some((CLIENT6, SERVER6)),
    }
}

/// From a server to a client.
fn is_answer(packet: &Packet<'_>) -> bool {
    match packet.source {
        IpAddr::V4(_) => packet.udp() == Some((SERVER, CLIENT)),
        IpAddr::V6(_) => packet.udp() == Some((SERVER6, CLIENT6)),
    }
}

/// From a server, to a client or a relay.
fn is_served(packet: &Packet<'_>) -> bool {
    let server = match packet.source {
        IpAddr::V4(_) => SERVER,
        IpAddr::V6(_) => SERVER6,
    };
    packet.udp().is_some_and(|(from, _)| from == server)
}

/// A server's port, of either family in either of them: nothing else uses it.
const fn is_server(port: u16) -> bool {
    matches!(port, SERVER | SERVER6)
}

const SERVER: u16 = 67;
const CLIENT: u16 = 68;
const SERVER6: u16 = 547;
const CLIENT6: u16 = 546;

const UDP_HEADER: usize = 8;
/// Where the client's hardware address is in a DHCP message (RFC 2131).
const CHADDR: usize = 28;
