//! The headers of a frame, read from a private copy of its first bytes.
//!
//! Nothing here trusts a length: what does not lie in the bytes that were given is not there.

use ring_proto::netif::Ip;

/// The transport of an IP packet, as its headers say.
///
/// Having one tells you that the frame is Ethernet with at most two VLAN tags, that an IPv4 or IPv6
/// header is complete, and at most [`EXTENSIONS`] extension headers; not that the transport's own
/// header is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transport {
    /// Which IP.
    pub ip: Ip,
    /// Where the IP header starts in the frame.
    pub l3: usize,
    /// The protocol number, 6 for TCP and 17 for UDP.
    pub protocol: u8,
    /// Where the transport's header starts in the frame.
    pub l4: usize,
    /// Where the IP packet ends, as its header says, in the frame.
    pub end: usize,
    /// A piece of a fragmented packet.
    pub fragment: bool,
    /// A piece that is not the first: at [`l4`](Self::l4) is no header.
    pub later: bool,
}

/// Why the headers of an IP packet cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unread {
    /// They do not lie in the bytes that were given, or are not what the frame's type says.
    Broken,
    /// There are more than [`EXTENSIONS`] extension headers.
    TooMany,
}

/// What an authentication header (AH) of IPv6 is taken for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Authenticated {
    /// A transport like others: what it protects is not to be changed.
    Closed,
    /// An extension header.
    Walked,
}

/// TCP's protocol number.
pub const TCP: u8 = 6;
/// UDP's protocol number.
pub const UDP: u8 = 17;

/// TCP's flag of a connection's first segment.
pub const TCP_SYN: u8 = 2;
/// TCP's flag of a segment that says that there is no such connection.
pub const TCP_RST: u8 = 4;
/// TCP's flag of a segment that points at an urgent byte.
pub const TCP_URG: u8 = 32;

/// Extension headers that are walked before a packet is taken for nonsense.
pub const EXTENSIONS: usize = 8;

impl Transport {
    /// Reads the headers in `head`, the first bytes of a frame; `None` if it is no IP packet, or
    /// there are not enough bytes to tell.
    #[must_use]
    pub fn parse(head: &[u8]) -> Option<Self> {
        let mut l3 = 14;
        let mut kind = u16_at(head, 12)?;
        for _ in 0..2 {
            if kind != VLAN && kind != QINQ {
                break;
            }
            kind = u16_at(head, l3 + 2)?;
            l3 += 4;
        }
        match kind {
            IPV4 => Self::ipv4(head, l3),
            IPV6 => Self::ipv6(head, l3, Authenticated::Closed).ok(),
            _ => None,
        }
    }

    /// Reads the headers of what is of type `kind` and starts at `l3`; `None` if that is no IP.
    ///
    /// For who looks for what a packet is, and not for what may be changed in it: an authentication
    /// header (AH) of IPv6 is walked like the other extension headers.
    #[must_use]
    pub fn behind(head: &[u8], l3: usize, kind: u16) -> Option<Result<Self, Unread>> {
        match kind {
            IPV4 => Some(Self::ipv4(head, l3).ok_or(Unread::Broken)),
            IPV6 => Some(Self::ipv6(head, l3, Authenticated::Walked)),
            _ => None,
        }
    }

    fn ipv4(head: &[u8], l3: usize) -> Option<Self> {
        let first = *head.get(l3)?;
        let words = usize::from(first & 15);
        let l4 = l3 + 4 * words;
        let complete = first >> 4 == 4 && words >= 5 && l4 <= head.len();
        complete.then_some(())?;
        let piece = u16_at(head, l3 + 6)?;
        Some(Self {
            ip: Ip::V4,
            l3,
            protocol: *head.get(l3 + 9)?,
            l4,
            end: l3 + usize::from(u16_at(head, l3 + 2)?),
            // More fragments, or not the first one.
            fragment: piece & 0x3fff != 0,
            later: piece & 0x1fff != 0,
        })
    }

    fn ipv6(head: &[u8], l3: usize, ah: Authenticated) -> Result<Self, Unread> {
        let byte = |at: usize| head.get(at).copied().ok_or(Unread::Broken);
        let word = |at: usize| u16_at(head, at).ok_or(Unread::Broken);
        if byte(l3)? >> 4 != 6 || l3 + 40 > head.len() {
            return Err(Unread::Broken);
        }
        let mut found = Self {
            ip: Ip::V6,
            l3,
            protocol: byte(l3 + 6)?,
            l4: l3 + 40,
            end: l3 + 40 + usize::from(word(l3 + 4)?),
            fragment: false,
            later: false,
        };
        for seen in 0..=EXTENSIONS {
            let len = match found.protocol {
                HOP_BY_HOP | ROUTING | DESTINATION => 8 + 8 * usize::from(byte(found.l4 + 1)?),
                AUTHENTICATION if ah == Authenticated::Walked => {
                    8 + 4 * usize::from(byte(found.l4 + 1)?)
                }
                FRAGMENT => {
                    let piece = word(found.l4 + 2)?;
                    found.fragment |= piece & 0xfff9 != 0;
                    found.later |= piece & 0xfff8 != 0;
                    8
                }
                _ => return Ok(found),
            };
            if seen == EXTENSIONS {
                break;
            }
            found.protocol = byte(found.l4)?;
            found.l4 += len;
            if found.later {
                // What follows is the middle of something.
                return Ok(found);
            }
        }
        Err(Unread::TooMany)
    }

    /// Is there a VLAN tag in front of the IP packet?
    #[must_use]
    pub const fn is_tagged(&self) -> bool {
        self.l3 != 14
    }

    /// Where the checksum is in the transport's header; `None` unless it is TCP or UDP.
    #[must_use]
    pub const fn checksum_offset(&self) -> Option<u16> {
        match self.protocol {
            TCP => Some(16),
            UDP => Some(6),
            _ => None,
        }
    }

    /// Bytes of the TCP header in `head`; `None` if it is not TCP, not complete, or nonsense.
    #[must_use]
    pub fn tcp_header(&self, head: &[u8]) -> Option<usize> {
        let words = usize::from(*head.get(self.l4 + 12)? >> 4);
        let complete = self.protocol == TCP && words >= 5 && self.l4 + 4 * words <= head.len();
        complete.then_some(4 * words)
    }

    /// TCP's flags, but for the newest (`AE`); `None` if they are not in `head`.
    #[must_use]
    pub fn tcp_flags(&self, head: &[u8]) -> Option<u8> {
        head.get(self.l4 + 13).copied()
    }

    /// The addresses of source and destination, 8 or 32 bytes.
    #[must_use]
    pub fn addresses<'a>(&self, head: &'a [u8]) -> Option<&'a [u8]> {
        match self.ip {
            Ip::V4 => head.get(self.l3 + 12..self.l3 + 20),
            Ip::V6 => head.get(self.l3 + 8..self.l3 + 40),
        }
    }

    /// The ones' complement sum over the pseudo header of `len` bytes of transport, not inverted:
    /// what a blank checksum field holds.
    #[must_use]
    pub fn pseudo_sum(&self, head: &[u8], len: u32) -> Option<u16> {
        let [a, b, c, d] = len.to_be_bytes();
        let sum = sum(0, self.addresses(head)?) + sum(0, &[a, b, c, d, 0, self.protocol]);
        Some(fold(sum))
    }
}

/// Adds bytes, as big-endian words of two, to a sum. An odd last byte is padded.
#[must_use]
pub fn sum(start: u64, bytes: &[u8]) -> u64 {
    bytes.chunks(2).fold(start, |sum, pair| {
        let high = u64::from(pair.first().copied().unwrap_or_default()) << 8;
        sum + high + u64::from(pair.get(1).copied().unwrap_or_default())
    })
}

/// A sum as a ones' complement number of 16 bits.
#[must_use]
pub const fn fold(mut sum: u64) -> u16 {
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    let [.., high, low] = sum.to_be_bytes();
    u16::from_be_bytes([high, low])
}

/// Two bytes at `at`, as the network has them; `None` if they are not there.
#[must_use]
pub fn u16_at(head: &[u8], at: usize) -> Option<u16> {
    let bytes = head.get(at..at + 2)?;
    Some(u16::from_be_bytes([*bytes.first()?, *bytes.get(1)?]))
}

/// IPv4's EtherType.
pub const IPV4: u16 = 0x0800;
/// IPv6's EtherType.
pub const IPV6: u16 = 0x86dd;
const VLAN: u16 = 0x8100;
const QINQ: u16 = 0x88a8;

const HOP_BY_HOP: u8 = 0;
const ROUTING: u8 = 43;
const FRAGMENT: u8 = 44;
const AUTHENTICATION: u8 = 51;
const DESTINATION: u8 = 60;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn any_bytes_are_read_without_harm(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = Transport::parse(&bytes);
        }

        #[test]
        fn what_is_found_lies_in_the_bytes(
            mut bytes in prop::collection::vec(any::<u8>(), 14..300),
            kind in prop::sample::select(vec![IPV4, IPV6, VLAN, QINQ]),
            first in prop::sample::select(vec![0x45, 0x46, 0x4f, 0x60, 0x65]),
        ) {
            bytes[12..14].copy_from_slice(&kind.to_be_bytes());
            if let Some(byte) = bytes.get_mut(14) {
                *byte = first;
            }
            if let Some(found) = Transport::parse(&bytes) {
                prop_assert!(found.l3 < bytes.len());
                if let Some(len) = found.tcp_header(&bytes) {
                    prop_assert!(found.l4 + len <= bytes.len());
                }
                let _ = found.pseudo_sum(&bytes, 40);
            }
        }
    }

    fn ipv6(next: u8, rest: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0; 14 + 40];
        bytes[12..14].copy_from_slice(&IPV6.to_be_bytes());
        bytes[14] = 0x60;
        bytes[18..20].copy_from_slice(&u16::try_from(rest.len()).unwrap().to_be_bytes());
        bytes[20] = next;
        bytes.extend(rest);
        bytes
    }

    #[test]
    fn net_18_extension_headers_are_walked_so_far_and_no_further() {
        let plain = Transport::parse(&ipv6(TCP, &[0; 20])).unwrap();
        assert_eq!((plain.l4, plain.protocol, plain.end), (54, TCP, 74));
        let hop = [&[TCP, 0, 0, 0, 0, 0, 0, 0][..], &[0; 20]].concat();
        let hop = Transport::parse(&ipv6(HOP_BY_HOP, &hop)).unwrap();
        assert_eq!((hop.l4, hop.protocol), (62, TCP));
        let endless = [DESTINATION, 0, 0, 0, 0, 0, 0, 0].repeat(9);
        assert_eq!(Transport::parse(&ipv6(DESTINATION, &endless)), None);
        let atomic = [&[UDP, 0, 0, 0, 1, 2, 3, 4][..], &[0; 8]].concat();
        assert!(!Transport::parse(&ipv6(FRAGMENT, &atomic)).unwrap().fragment);
        let first = [&[UDP, 0, 0, 1, 1, 2, 3, 4][..], &[0; 8]].concat();
        assert!(Transport::parse(&ipv6(FRAGMENT, &first)).unwrap().fragment);
    }

    #[test]
    fn net_18_an_authentication_header_is_walked_by_who_changes_nothing() {
        let guarded = [&[TCP, 2][..], &[0; 14], &[0; 20]].concat();
        let guarded = ipv6(AUTHENTICATION, &guarded);
        let closed = Transport::parse(&guarded).unwrap();
        assert_eq!((closed.protocol, closed.l4), (AUTHENTICATION, 54));
        let open = Transport::behind(&guarded, 14, IPV6).unwrap().unwrap();
        assert_eq!((open.protocol, open.l4), (TCP, 70));
        let endless = ipv6(DESTINATION, &[DESTINATION, 0, 0, 0, 0, 0, 0, 0].repeat(9));
        let long = Transport::behind(&endless, 14, IPV6);
        assert_eq!(long, Some(Err(Unread::TooMany)));
        let mut ninth = [DESTINATION, 0, 0, 0, 0, 0, 0, 0].repeat(8);
        ninth[56] = FRAGMENT;
        ninth.extend([UDP, 0, 0, 8, 0, 0, 0, 1]);
        let ninth = ipv6(DESTINATION, &ninth);
        let long_and_later = Transport::behind(&ninth, 14, IPV6);
        assert_eq!(long_and_later, Some(Err(Unread::TooMany)));
        let cut = Transport::behind(&guarded[..55], 14, IPV6);
        assert_eq!(cut, Some(Err(Unread::Broken)));
        assert_eq!(Transport::behind(&guarded, 14, 0x0806), None);
    }

    #[test]
    fn net_18_what_follows_in_a_later_fragment_is_no_header() {
        let later = [&[DESTINATION, 0, 0, 8, 1, 2, 3, 4][..], &[0xff; 8]].concat();
        let later = Transport::parse(&ipv6(FRAGMENT, &later)).unwrap();
        assert!(later.later && later.fragment);
        assert_eq!((later.protocol, later.l4), (DESTINATION, 62));
    }

    #[test]
    fn a_sum_is_that_of_rfc_1071() {
        let words = [0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7];
        assert_eq!(fold(sum(0, &words)), 0xddf2);
        assert_eq!(fold(sum(0, &[0xab])), 0xab00);
    }
}
