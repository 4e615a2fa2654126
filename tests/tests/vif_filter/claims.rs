//! Are the frames what their names say? Asked of one who has nothing to do with the filter.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use etherparse::{EtherType, LaxNetSlice, LaxSlicedPacket, NetSlice, SlicedPacket, TransportSlice};
use pv_tests::spoof::{Expect, Site, Spoof, matrix};

/// Who has sent it, as its IP header says.
fn source(frame: &[u8]) -> Option<IpAddr> {
    let (packet, _) = LaxSlicedPacket::from_ethernet(frame)
        .ok()?
        .net
        .map(|net| (net, ()))?;
    match packet {
        LaxNetSlice::Ipv4(ip) => Some(ip.header().source_addr().into()),
        LaxNetSlice::Ipv6(ip) => Some(ip.header().source_addr().into()),
        LaxNetSlice::Arp(arp) => {
            let bytes: [u8; 4] = arp.sender_protocol_addr().try_into().ok()?;
            Some(Ipv4Addr::from(bytes).into())
        }
    }
}

/// Does a frame name the guest as its sender, or nobody?
pub(crate) fn is_own(site: &Site, frame: &[u8]) -> bool {
    let own = [
        site.own.v4.into(),
        site.own.v6.into(),
        site.own.link_local().into(),
    ];
    source(frame).is_some_and(|source: IpAddr| source.is_unspecified() || own.contains(&source))
}

fn all(wanted: impl Fn(Expect) -> bool) -> (Site, Vec<Spoof>) {
    let site = Site::example();
    let all = matrix(&site).into_iter();
    (site, all.filter(|one| wanted(one.expect)).collect())
}

#[test]
fn what_passes_is_whole_and_the_guests_own() {
    let (site, frames) = all(|expect| expect == Expect::Pass);
    for Spoof { name, frame, .. } in frames {
        let packet = SlicedPacket::from_ethernet(&frame);
        let packet = packet.unwrap_or_else(|error| panic!("{name}: {error}"));
        assert!(packet.net.is_some(), "{name}");
        assert_eq!(frame[6..12], site.own.mac, "{name}");
        assert!(is_own(&site, &frame), "{name}");
        let nobody = source(&frame).unwrap().is_unspecified();
        assert!(
            !nobody || name.contains("nobody") || is_about_itself(&name),
            "{name}"
        );
    }
}

/// What is said by who has no address yet.
fn is_about_itself(name: &str) -> bool {
    name.contains("probe") || name.contains("DHCP")
}

#[test]
fn what_is_from_another_station_is() {
    let (site, frames) = all(|expect| expect == Expect::Drop("mac"));
    for Spoof { name, frame, .. } in frames {
        assert_ne!(frame[6..12], site.own.mac, "{name}");
    }
}

#[test]
fn what_has_another_source_does_or_hides_what_it_is() {
    let (site, frames) = all(|expect| expect == Expect::Drop("ip"));
    for Spoof { name, frame, .. } in frames {
        let hides = name.contains("extension header") || name.contains("mobility");
        let own = [
            IpAddr::from(site.own.v4),
            site.own.v6.into(),
            site.own.link_local().into(),
        ];
        let source = source(&frame).unwrap();
        assert!(hides || !own.contains(&source), "{name}: {source}");
    }
}

#[test]
fn what_names_a_protocol_has_it() {
    let (_, frames) = all(|expect| expect == Expect::Pass);
    let mut seen = 0;
    for Spoof { name, frame, .. } in frames {
        let packet = SlicedPacket::from_ethernet(&frame).unwrap();
        let kind = packet.ether_payload().map(|payload| payload.ether_type);
        let right = match name.as_str() {
            name if name.starts_with("IPv4 with TCP") => {
                matches!(packet.transport, Some(TransportSlice::Tcp(_)))
            }
            name if name.starts_with("TCP behind") => {
                let v6 = matches!(packet.net, Some(NetSlice::Ipv6(_)));
                v6 && matches!(packet.transport, Some(TransportSlice::Tcp(_)))
            }
            name if name.starts_with("IPv6 with UDP") => {
                matches!(packet.transport, Some(TransportSlice::Udp(_)))
            }
            name if name.contains("advertisement") && !name.contains("fragment") => {
                matches!(packet.transport, Some(TransportSlice::Icmpv6(_)))
            }
            name if name.contains("ARP") => kind == Some(EtherType::ARP),
            name if name.starts_with("IPv4") => kind == Some(EtherType::IPV4),
            name if name.starts_with("IPv6") => kind == Some(EtherType::IPV6),
            _ => continue,
        };
        assert!(right, "{name}: {packet:?}");
        seen += 1;
    }
    assert!(seen > 40, "{seen}");
}

/// The checksums of ICMPv6 and of IPv4 headers are right: no receiver drops the frames for them.
#[test]
fn what_passes_has_right_checksums() {
    let (_, frames) = all(|expect| expect == Expect::Pass);
    let mut seen = 0;
    for Spoof { name, frame, .. } in frames {
        let packet = SlicedPacket::from_ethernet(&frame).unwrap();
        match (&packet.net, &packet.transport) {
            (Some(NetSlice::Ipv4(ip)), _) => {
                let header = ip.header().to_header();
                assert_eq!(
                    header.calc_header_checksum(),
                    header.header_checksum,
                    "{name}"
                );
                seen += 1;
            }
            (Some(NetSlice::Ipv6(ip)), Some(TransportSlice::Icmpv6(icmp))) => {
                let (from, to) = (ip.header().source(), ip.header().destination());
                assert!(icmp.is_checksum_valid(from, to), "{name}");
                seen += 1;
            }
            _ => {}
        }
    }
    assert!(seen > 40, "{seen}");
}

#[test]
fn a_source_is_found_behind_a_tag() {
    let site = Site::example();
    let tagged = matrix(&site)
        .into_iter()
        .find(|one| one.name.starts_with("a tag 8100"));
    let source = source(&tagged.unwrap().frame);
    assert_eq!(source, Some(site.own.v4.into()));
    assert_ne!(source, Some(Ipv6Addr::UNSPECIFIED.into()));
}
