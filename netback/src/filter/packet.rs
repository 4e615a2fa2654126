//! What an IP packet says of itself, as far as a policy cares.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ring_proto::netif::Ip;

use super::frame::Frame;
use crate::headers::{TCP, Transport, UDP, Unread, u16_at};

/// An IP packet.
///
/// Having one tells you that its headers are complete, up to the ports or the ICMP type, unless it is
/// a later fragment; and that they lie in the packet, as its length says.
#[derive(Clone, Copy, Debug)]
pub(super) struct Packet<'a> {
    /// Where its headers are.
    pub(super) found: Transport,
    /// Who sends it.
    pub(super) source: IpAddr,
    /// To whom.
    pub(super) destination: IpAddr,
    /// Source and destination ports of TCP and UDP.
    pub(super) ports: Option<(u16, u16)>,
    /// The type of ICMPv6.
    pub(super) icmp6: Option<u8>,
    /// The first bytes of the frame, no more than the packet has.
    pub(super) head: &'a [u8],
}

impl<'a> Packet<'a> {
    /// The packet in a frame; `None` if there is none.
    pub(super) fn parse(frame: &Frame<'a>) -> Option<Result<Self, Unread>> {
        let found = Transport::behind(frame.head, frame.l3, frame.kind)?;
        Some(found.and_then(|found| Self::of(frame.head, found).ok_or(Unread::Broken)))
    }

    fn of(head: &'a [u8], found: Transport) -> Option<Self> {
        let head = head.get(..found.end).unwrap_or(head);
        if found.l4 > head.len() {
            return None;
        }
        let (source, destination) = addresses(&found, head)?;
        let mut ports = None;
        let mut icmp6 = None;
        match (found.ip, found.protocol) {
            _ if found.later => {}
            (_, TCP | UDP) => ports = Some((u16_at(head, found.l4)?, u16_at(head, found.l4 + 2)?)),
            (Ip::V4, ICMP) => {
                head.get(found.l4)?;
            }
            (Ip::V6, ICMP6) => icmp6 = Some(*head.get(found.l4)?),
            _ => {}
        }
        Some(Self {
            found,
            source,
            destination,
            ports,
            icmp6,
            head,
        })
    }

    /// The ports, if it is UDP.
    pub(super) fn udp(&self) -> Option<(u16, u16)> {
        self.ports.filter(|_| self.found.protocol == UDP)
    }
}

fn addresses(found: &Transport, head: &[u8]) -> Option<(IpAddr, IpAddr)> {
    let bytes = found.addresses(head)?;
    Some(match found.ip {
        Ip::V4 => {
            let (from, to) = bytes.split_first_chunk::<4>()?;
            let to = to.first_chunk::<4>()?;
            (Ipv4Addr::from(*from).into(), Ipv4Addr::from(*to).into())
        }
        Ip::V6 => {
            let (from, to) = bytes.split_first_chunk::<16>()?;
            let to = to.first_chunk::<16>()?;
            (Ipv6Addr::from(*from).into(), Ipv6Addr::from(*to).into())
        }
    })
}

/// ICMP's number among the protocols of IPv4.
pub(super) const ICMP: u8 = 1;
/// ICMPv6's number among those of IPv6.
pub(super) const ICMP6: u8 = 58;
