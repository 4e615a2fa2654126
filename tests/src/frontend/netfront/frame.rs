//! Frames: numbered ones that nobody else sends, TCP segments, what a checksum is, and how frames
//! are cut into slots. Nothing here is the backend's: it is what its headers are judged by.

use std::net::IpAddr;

use ring_proto::netif::Ip;

use crate::frontend::Chance;

/// Bytes of an Ethernet header.
pub const ETHERNET: usize = 14;

/// EtherTypes for experiments.
const EXPERIMENT: [u8; 2] = [0x88, 0xb5];
const FILLER: [u8; 2] = [0x88, 0xb6];

/// Bytes of the shortest numbered frame.
pub const SHORTEST: usize = ETHERNET + 8;

/// Where a slot's bytes lie in its page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cut {
    /// Where they start.
    pub offset: u16,
    /// How many there are.
    pub len: u16,
}

impl Cut {
    /// As few slots as there can be.
    #[must_use]
    pub fn pages(len: usize) -> Vec<Self> {
        let starts = (0..len).step_by(gntdev::PAGE_SIZE);
        starts
            .map(|from| Self::at(0, (len - from).min(gntdev::PAGE_SIZE)))
            .collect()
    }

    /// Some slots, at most `most` of them if `len` bytes fit so few, anywhere in their pages.
    #[must_use]
    pub fn scattered(len: usize, most: usize, chance: &mut Chance) -> Vec<Self> {
        let mut pieces = Self::pages(len);
        while pieces.len() < most && !chance.once_in(4) {
            let at = chance.below(pieces.len());
            let whole = pieces[at].len;
            if whole < 2 {
                continue;
            }
            let first = 1 + chance.below(usize::from(whole) - 1);
            pieces[at] = Self::at(0, first);
            pieces.insert(at + 1, Self::at(0, usize::from(whole) - first));
        }
        for piece in &mut pieces {
            let free = gntdev::PAGE_SIZE - usize::from(piece.len);
            *piece = Self::at(chance.below(free + 1), piece.len.into());
        }
        pieces
    }

    /// `len` bytes at `offset`; both are at most a page.
    #[must_use]
    pub fn at(offset: usize, len: usize) -> Self {
        let short = |number: usize| u16::try_from(number).unwrap_or(u16::MAX);
        Self {
            offset: short(offset),
            len: short(len),
        }
    }
}

/// A frame whose every byte follows from its number and length, at least [`SHORTEST`] bytes.
#[must_use]
pub fn numbered(to: [u8; 6], from: [u8; 6], number: u64, len: usize) -> Vec<u8> {
    let mut frame = vec![0; len.max(SHORTEST)];
    let head = [&to[..], &from, &EXPERIMENT, &number.to_be_bytes()].concat();
    frame[..SHORTEST].copy_from_slice(&head);
    let mut chance = Chance::new(number ^ len as u64);
    for piece in frame[SHORTEST..].chunks_mut(8) {
        let len = piece.len();
        piece.copy_from_slice(&chance.any().to_be_bytes()[..len]);
    }
    frame
}

/// A frame that nobody counts.
#[must_use]
pub fn filler(to: [u8; 6], from: [u8; 6], len: usize) -> Vec<u8> {
    let mut frame = vec![0; len.max(ETHERNET)];
    frame[..ETHERNET].copy_from_slice(&[&to[..], &from, &FILLER].concat());
    frame
}

/// Is it such a frame?
#[must_use]
pub fn is_filler(frame: &[u8]) -> bool {
    frame.get(12..ETHERNET) == Some(&FILLER)
}

/// The number of a numbered frame; `None` for others.
#[must_use]
pub fn number_of(frame: &[u8]) -> Option<u64> {
    let number = frame.get(ETHERNET..SHORTEST)?.try_into().ok()?;
    (frame.get(12..ETHERNET)? == EXPERIMENT).then_some(u64::from_be_bytes(number))
}

/// A TCP segment in its Ethernet frame.
#[derive(Clone, Copy, Debug)]
pub struct Segment<'a> {
    /// Ethernet: to, from.
    pub stations: ([u8; 6], [u8; 6]),
    /// IP: from, to. Both of the same version.
    pub addresses: (IpAddr, IpAddr),
    /// TCP: from, to.
    pub ports: (u16, u16),
    /// Sequence number.
    pub seq: u32,
    /// Acknowledged.
    pub ack: u32,
    /// TCP's flags.
    pub flags: u8,
    /// TCP options, a multiple of 4 bytes.
    pub options: &'a [u8],
    /// What it carries.
    pub payload: &'a [u8],
}

/// TCP flags.
pub mod tcp_flag {
    /// The sender has finished.
    pub const FIN: u8 = 1;
    /// First of a connection.
    pub const SYN: u8 = 2;
    /// There is no such connection.
    pub const RST: u8 = 4;
    /// Acknowledges.
    pub const ACK: u8 = 16;
    /// Points at an urgent byte.
    pub const URG: u8 = 32;
}

/// Bytes of a TCP or IPv4 header without options.
const HEADER: usize = 20;

/// The number of TCP among IP's protocols, and of UDP.
const TCP: u8 = 6;
const UDP: u8 = 17;

impl Segment<'_> {
    /// Which protocol it goes over.
    #[must_use]
    pub const fn ip(&self) -> Ip {
        match self.addresses.0 {
            IpAddr::V4(_) => Ip::V4,
            IpAddr::V6(_) => Ip::V6,
        }
    }

    /// Where its TCP header starts in the frame.
    #[must_use]
    pub const fn start(&self) -> usize {
        ETHERNET
            + match self.ip() {
                Ip::V4 => HEADER,
                Ip::V6 => 40,
            }
    }

    /// Bytes in front of what it carries.
    #[must_use]
    pub const fn headers(&self) -> usize {
        self.start() + HEADER + self.options.len()
    }

    /// The frame, with a checksum that is complete, or of the pseudo header only.
    #[must_use]
    pub fn frame(&self, sum: Sum) -> Vec<u8> {
        let mut tcp = Vec::with_capacity(HEADER + self.options.len() + self.payload.len());
        tcp.extend(self.ports.0.to_be_bytes());
        tcp.extend(self.ports.1.to_be_bytes());
        tcp.extend(self.seq.to_be_bytes());
        tcp.extend(self.ack.to_be_bytes());
        let words = u8::try_from((HEADER + self.options.len()) / 4).unwrap_or(0);
        tcp.extend([words << 4, self.flags, 0xff, 0xff, 0, 0, 0, 0]);
        tcp.extend(self.options);
        tcp.extend(self.payload);
        let pseudo = pseudo_header(&octets(self.addresses), TCP, tcp.len());
        let checksum = match sum {
            Sum::Blank => fold(add(0, &pseudo)),
            Sum::Whole => !fold(add(add(0, &pseudo), &tcp)),
            Sum::Wrong => !fold(add(add(0, &pseudo), &tcp)) ^ 0x5555,
        };
        tcp[16..18].copy_from_slice(&checksum.to_be_bytes());
        [self.in_front(tcp.len()), tcp].concat()
    }

    /// Ethernet and IP headers.
    fn in_front(&self, payload: usize) -> Vec<u8> {
        let (to, from) = self.stations;
        let mut frame = [to, from].concat();
        let addresses = octets(self.addresses);
        match self.ip() {
            Ip::V4 => {
                let total = u16::try_from(HEADER + payload).unwrap_or(u16::MAX);
                let [high, low] = total.to_be_bytes();
                let mut header = vec![0x45, 0, high, low, 0, 1, 0x40, 0, 64, TCP, 0, 0];
                header.extend(addresses);
                let checksum = !fold(add(0, &header));
                header[10..12].copy_from_slice(&checksum.to_be_bytes());
                frame.extend([8, 0]);
                frame.extend(header);
            }
            Ip::V6 => {
                let [high, low] = u16::try_from(payload).unwrap_or(u16::MAX).to_be_bytes();
                frame.extend([0x86, 0xdd, 0x60, 0, 0, 0, high, low, TCP, 64]);
                frame.extend(addresses);
            }
        }
        frame
    }
}

/// What the checksum of a TCP or UDP packet is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sum {
    /// Right.
    Whole,
    /// That of the pseudo header only, for who adds the rest.
    Blank,
    /// Neither.
    Wrong,
}

impl Sum {
    /// Of a frame that is TCP or UDP over IP, without VLAN tag, in one piece and without IPv6
    /// extensions; `None` for others, and for UDP that has none.
    #[must_use]
    pub fn of(frame: &[u8]) -> Option<(Ip, Self)> {
        let parts = Parts::of(frame)?;
        let field = match parts.protocol {
            TCP => 16,
            UDP => 6,
            _ => return None,
        };
        let found = u16::from_be_bytes(parts.packet.get(field..field + 2)?.try_into().ok()?);
        if parts.protocol == UDP && found == 0 {
            return None;
        }
        let pseudo = add(0, &parts.pseudo_header());
        let sum = if fold(add(pseudo, parts.packet)) == 0xffff {
            Self::Whole
        } else if found == fold(pseudo) {
            Self::Blank
        } else {
            Self::Wrong
        };
        Some((parts.ip, sum))
    }
}

/// An IP packet, taken apart.
#[derive(Clone, Copy, Debug)]
pub struct Parts<'a> {
    /// Its version.
    pub ip: Ip,
    /// What is in it.
    pub protocol: u8,
    addresses: &'a [u8],
    /// Without its IP header, and without what the frame has behind it.
    pub packet: &'a [u8],
}

impl<'a> Parts<'a> {
    /// Those of a frame that is an IP packet in one piece.
    #[must_use]
    pub fn of(frame: &'a [u8]) -> Option<Self> {
        let packet = frame.get(ETHERNET..)?;
        let word = |at: usize| -> Option<usize> {
            let bytes = packet.get(at..at + 2)?.try_into().ok()?;
            Some(u16::from_be_bytes(bytes).into())
        };
        match frame.get(12..ETHERNET)? {
            [8, 0] => {
                let header = usize::from(packet.first()? & 15) * 4;
                // No more fragments, and this is no later one.
                (word(6)? & 0x3fff == 0).then_some(Self {
                    ip: Ip::V4,
                    protocol: *packet.get(9)?,
                    addresses: packet.get(12..20)?,
                    packet: packet.get(header..word(2)?)?,
                })
            }
            [0x86, 0xdd] => Some(Self {
                ip: Ip::V6,
                protocol: *packet.get(6)?,
                addresses: packet.get(8..40)?,
                packet: packet.get(40..40 + word(4)?)?,
            }),
            _ => None,
        }
    }

    /// The TCP header's fields that matter: ports, sequence number, acknowledged, flags, payload.
    #[must_use]
    pub fn tcp(&self) -> Option<Tcp<'a>> {
        let (header, _) = self.packet.split_first_chunk::<HEADER>()?;
        let [a, b, c, d, s0, s1, s2, s3, a0, a1, a2, a3, words, flags, ..] = *header;
        let payload = self.packet.get(usize::from(words >> 4) * 4..)?;
        (self.protocol == TCP).then_some(Tcp {
            ports: (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d])),
            seq: u32::from_be_bytes([s0, s1, s2, s3]),
            ack: u32::from_be_bytes([a0, a1, a2, a3]),
            flags,
            payload,
        })
    }

    fn pseudo_header(&self) -> Vec<u8> {
        pseudo_header(self.addresses, self.protocol, self.packet.len())
    }
}

/// What a TCP segment says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tcp<'a> {
    /// From, to.
    pub ports: (u16, u16),
    /// Sequence number.
    pub seq: u32,
    /// Acknowledged.
    pub ack: u32,
    /// Flags.
    pub flags: u8,
    /// What it carries.
    pub payload: &'a [u8],
}

fn octets(addresses: (IpAddr, IpAddr)) -> Vec<u8> {
    let octets = |address| match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    };
    [octets(addresses.0), octets(addresses.1)].concat()
}

/// What a transport's checksum includes of the IP header: both addresses, a length, a protocol.
pub(crate) fn pseudo_header(addresses: &[u8], protocol: u8, len: usize) -> Vec<u8> {
    let len = u32::try_from(len).unwrap_or(0).to_be_bytes();
    // IPv4's has a shorter length field, which adds up to the same.
    [addresses, &len, &[0, 0, 0, protocol]].concat()
}

/// The Internet checksum's sum, not folded.
pub(crate) fn add(sum: u64, bytes: &[u8]) -> u64 {
    bytes.chunks(2).fold(sum, |sum, pair| {
        let low = pair.get(1).copied().unwrap_or(0);
        sum + u64::from(u16::from_be_bytes([pair[0], low]))
    })
}

/// A sum as a ones' complement number of 16 bits.
pub(crate) fn fold(mut sum: u64) -> u16 {
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    u16::try_from(sum).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TO: [u8; 6] = [0, 0x16, 0x3e, 0, 0, 1];
    const FROM: [u8; 6] = [0xfe, 0xff, 0xff, 0xff, 0xff, 0xff];

    #[test]
    fn numbered_frames_are_told_apart() {
        let frame = numbered(TO, FROM, 77, 100);
        assert_eq!((frame.len(), number_of(&frame)), (100, Some(77)));
        assert_eq!(numbered(TO, FROM, 77, 100), frame);
        let other = numbered(TO, FROM, 78, 100);
        assert_ne!(frame[SHORTEST..], other[SHORTEST..]);
        assert_eq!(number_of(&[0; 60]), None);
    }

    #[test]
    fn cuts_add_up_and_stay_in_their_pages() {
        let mut chance = Chance::new(3);
        for len in [22, 60, 1514, 4096, 4097, 9014, 65_535] {
            for most in [1, 2, 18] {
                let cuts = Cut::scattered(len, most, &mut chance);
                assert!(cuts.len() <= most.max(len.div_ceil(4096)));
                assert_eq!(
                    cuts.iter().map(|cut| usize::from(cut.len)).sum::<usize>(),
                    len
                );
                assert!(
                    cuts.iter()
                        .all(|cut| cut.len > 0 && cut.offset + cut.len <= 4096)
                );
            }
        }
    }

    /// The example of RFC 1071, section 3, and what the wire's other end must find.
    #[test]
    fn checksums_are_those_of_the_book() {
        let example = [0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7];
        assert_eq!(fold(add(0, &example)), 0xddf2);
        for version in [("192.0.2.2", "192.0.2.1"), ("2001:db8::2", "2001:db8::1")] {
            let segment = Segment {
                stations: (TO, FROM),
                addresses: (version.0.parse().unwrap(), version.1.parse().unwrap()),
                ports: (1000, 80),
                seq: 7,
                ack: 9,
                flags: tcp_flag::ACK,
                options: &[],
                payload: b"odd",
            };
            for sum in [Sum::Whole, Sum::Blank, Sum::Wrong] {
                let frame = segment.frame(sum);
                assert_eq!(Sum::of(&frame), Some((segment.ip(), sum)));
                let parts = Parts::of(&frame).unwrap();
                let tcp = parts.tcp().unwrap();
                assert_eq!(
                    (tcp.ports, tcp.seq, tcp.payload),
                    ((1000, 80), 7, &b"odd"[..])
                );
            }
            assert_eq!(segment.frame(Sum::Whole).len(), segment.headers() + 3);
        }
    }
}
