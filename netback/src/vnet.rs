//! What is left undone in a frame, in the tap's words (`struct virtio_net_hdr`) and in netif's.
//!
//! From a guest nothing is believed: where a checksum lies and whether a packet may be cut up is read
//! from its own headers, in private memory, and a checksum that a guest calls right is passed on as
//! one that nobody has looked at (NET-08, NET-09, NET-10).

mod pieces;

use std::fmt;
use std::num::NonZeroU16;

use ring_proto::netif::{Gso, Ip, RxOffload, TxChecksum};

pub use self::pieces::Pieces;
use crate::headers::{TCP, TCP_RST, TCP_SYN, TCP_URG, Transport};

/// Bytes of a header: `virtio_net_hdr_v1`, whose last field a tap ignores.
pub const VNET_LEN: usize = 12;

/// As many of a frame's first bytes as are looked at: Ethernet with two tags, the longest IPv4
/// header or IPv6 with some extensions, and the longest TCP header.
pub const HEAD: usize = 256;

/// A virtio header as a tap reads or writes it. Layout (native byte order): flags u8, GSO type u8,
/// header length u16, GSO size u16, checksum start u16, checksum offset u16, 2 bytes unused.
pub type Header = [u8; VNET_LEN];

/// That of a frame in which nothing is left undone, as far as is known.
pub const PLAIN: Header = [0; VNET_LEN];

/// What goes to the tap in front of a guest's frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FromGuest {
    /// The header.
    pub header: Header,
    /// Where the frame's checksum field is, and what has to stand there, if the guest did not care.
    pub patch: Option<(usize, [u8; 2])>,
}

/// What the tap left undone in a frame for the guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ToGuest {
    /// The guest can be told.
    Offload(RxOffload),
    /// To be cut up here: behind a VLAN tag, no guest can be told.
    Cut(Gso),
    /// A checksum that netif has no words for: to be completed here, from `start` to the end of the
    /// frame, and put at `start + offset`.
    Complete {
        /// Where the sum starts.
        start: u16,
        /// Where it goes, counted from there.
        offset: u16,
        /// It is the one that a frontend looks at, so that the frame is known to be right then.
        outermost: bool,
    },
}

/// Why a guest's frame is not sent. The guest's fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Untrue {
    /// A blank checksum in something that is not complete TCP or UDP, or a fragment.
    NoChecksum,
    /// To be cut up, but not the TCP that was named.
    NotThatTcp(Ip),
    /// To be cut up, though its TCP flags say that it cannot be.
    NotStream(u8),
    /// To be cut up, but the frame goes on for so many bytes behind the IP packet.
    Trailer(usize),
    /// To be cut up into pieces that the interface would not take.
    LongPieces(usize),
    /// The IP header promises more bytes than there are, or too few for the headers that it has.
    Short,
}

/// Why a tap's frame is not given to a guest: to be cut up in no way that a frontend can be told.
/// This host's fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnknownGso(u8);

/// Fewest bytes that a guest may have in each piece, unless the configuration says otherwise.
///
/// It is what bounds the pieces of a packet, too: 64 KiB make 256. A tighter bound would cost honest
/// guests whole packets, which they then send again, one piece each time-out. They cut by bytes:
/// Linux fills 64 KiB whatever the MSS is (its own bound, `GSO_MAX_SEGS`, is 65535, and netfront sets
/// none), and Windows asks for two pieces at least and any number at most. An MSS of 1448 makes 46
/// pieces, but one of 536, of a peer or a path that knows no more than IPv4's least, 123, and with
/// IP options or a tunnel some more. An MSS below 256 is met on networks of sensors only, whose
/// windows are a segment or two: nothing is cut up for them.
pub const GSO_FLOOR: u16 = 256;

/// The lowest floor that can be configured: Linux's `TCP_MIN_MSS`, the least that an honest stack
/// cuts a stream into. A packet may then have 745 pieces.
pub const LEAST_GSO_FLOOR: u16 = 88;

/// How many packets a frame of the tap is on a wire, which may be to be cut up.
#[must_use]
pub fn packets(header: &Header, len: usize) -> u64 {
    let [_, kind, _, _, low, high, ..] = *header;
    let size = usize::from(u16::from_le_bytes([low, high]));
    if kind == GSO_NONE || size == 0 {
        return 1;
    }
    len.div_ceil(size) as u64
}

/// What to tell the tap about a guest's frame of `len` bytes that starts with `head`. If it is to be
/// cut up, no piece is longer than `max_frame` bytes with all its headers: for network cards a long
/// piece is as bad as a long frame.
///
/// # Errors
/// [`Untrue`]: its headers are not those of what the guest says it is.
pub fn from_guest(
    head: &[u8],
    len: usize,
    max_frame: u32,
    checksum: TxChecksum,
    gso: Option<Gso>,
) -> Result<FromGuest, Untrue> {
    if gso.is_none() && checksum != TxChecksum::Blank {
        let header = [0; VNET_LEN];
        return Ok(FromGuest {
            header,
            patch: None,
        });
    }
    let found = Transport::parse(head).filter(|found| !found.fragment);
    let found = found.ok_or(Untrue::NoChecksum)?;
    let offset = found.checksum_offset().ok_or(Untrue::NoChecksum)?;
    let field = found.l4 + usize::from(offset);
    if field + 2 > head.len() {
        return Err(Untrue::NoChecksum);
    }
    if found.end > len || found.end < field + 2 {
        return Err(Untrue::Short);
    }
    let start = u16::try_from(found.l4).map_err(|_far| Untrue::NoChecksum)?;
    let mut header = Fields {
        flags: NEEDS_CSUM,
        start,
        offset,
        ..Fields::default()
    };
    let mut patch = None;
    if let Some(gso) = gso {
        header.cut(&found, (head, len), max_frame, gso)?;
        if checksum != TxChecksum::Blank {
            // Some frontends forget to say that the checksum is blank; then it may hold anything.
            let payload = u32::try_from(found.end - found.l4).map_err(|_long| Untrue::Short)?;
            let sum = found.pseudo_sum(head, payload).ok_or(Untrue::NoChecksum)?;
            patch = Some((field, sum.to_be_bytes()));
        }
    }
    Ok(FromGuest {
        header: header.encode(),
        patch,
    })
}

/// What the tap says about a frame that starts with `head`.
///
/// # Errors
/// [`UnknownGso`]: to be cut up in a way that was not asked for.
pub fn to_guest(header: &Header, head: &[u8]) -> Result<ToGuest, UnknownGso> {
    let header = Fields::decode(header);
    match header.kind & !GSO_ECN {
        GSO_TCPV4 => return header.uncut(Ip::V4, head),
        GSO_TCPV6 => return header.uncut(Ip::V6, head),
        GSO_NONE => {}
        unknown => return Err(UnknownGso(unknown)),
    }
    if header.flags & NEEDS_CSUM == 0 {
        let valid = header.flags & DATA_VALID != 0;
        return Ok(ToGuest::Offload(if valid {
            RxOffload::Validated
        } else {
            RxOffload::Plain
        }));
    }
    // Frontends find the checksum by themselves, where they expect it: only there may it be blank.
    let found = Transport::parse(head).filter(|found| {
        !found.fragment
            && found.checksum_offset() == Some(header.offset)
            && found.l4 == usize::from(header.start)
    });
    Ok(match found {
        Some(found) if !found.is_tagged() => ToGuest::Offload(RxOffload::Blank(found.ip)),
        found => ToGuest::Complete {
            start: header.start,
            offset: header.offset,
            outermost: found.is_some(),
        },
    })
}

#[derive(Clone, Copy, Debug, Default)]
struct Fields {
    flags: u8,
    kind: u8,
    headers: u16,
    size: u16,
    start: u16,
    offset: u16,
}

impl Fields {
    /// Has the packet cut up, if it is the TCP that the guest says it is.
    fn cut(
        &mut self,
        found: &Transport,
        (head, len): (&[u8], usize),
        max_frame: u32,
        gso: Gso,
    ) -> Result<(), Untrue> {
        let other = Untrue::NotThatTcp(gso.ip);
        let tcp = found.tcp_header(head).ok_or(other)?;
        if found.ip != gso.ip || found.protocol != TCP {
            return Err(other);
        }
        // Each piece would start or end a connection, or have the urgent byte in another place: no
        // stack has such cut up by others (Linux `tcp_write_xmit` sends them one by one).
        let flags = found.tcp_flags(head).ok_or(other)?;
        if flags & (TCP_SYN | TCP_RST | TCP_URG) != 0 {
            return Err(Untrue::NotStream(flags));
        }
        let headers = found.l4 + tcp;
        let payload = found.end.checked_sub(headers).ok_or(Untrue::Short)?;
        // The kernel cuts up all that there is, and would put the rest into the last piece.
        if found.end < len {
            return Err(Untrue::Trailer(len - found.end));
        }
        let size = usize::from(gso.size.get());
        let longest = headers + payload.min(size);
        if longest > max_frame as usize {
            return Err(Untrue::LongPieces(longest));
        }
        // What fits one piece is no packet to be cut up, and the kernel says so to the log.
        if payload > size {
            self.kind = match gso.ip {
                Ip::V4 => GSO_TCPV4,
                Ip::V6 => GSO_TCPV6,
            };
            self.headers = u16::try_from(headers).map_err(|_long| other)?;
            self.size = gso.size.get();
        }
        Ok(())
    }

    /// A packet that the tap has left whole: it is TCP as a frontend will look for it.
    fn uncut(&self, ip: Ip, head: &[u8]) -> Result<ToGuest, UnknownGso> {
        let unknown = UnknownGso(self.kind);
        let size = NonZeroU16::new(self.size).ok_or(unknown)?;
        let found = Transport::parse(head).ok_or(unknown)?;
        if found.ip != ip || found.protocol != TCP || found.fragment {
            return Err(unknown);
        }
        let gso = Gso { ip, size };
        Ok(if found.is_tagged() {
            ToGuest::Cut(gso)
        } else {
            ToGuest::Offload(RxOffload::Gso(gso))
        })
    }

    fn encode(self) -> Header {
        let mut header = [self.flags, self.kind, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        let words = [self.headers, self.size, self.start, self.offset];
        for (place, word) in header[2..10].chunks_exact_mut(2).zip(words) {
            place.copy_from_slice(&word.to_ne_bytes());
        }
        header
    }

    const fn decode(header: &Header) -> Self {
        let [flags, kind, a, b, c, d, e, f, g, h, _, _] = *header;
        Self {
            flags,
            kind,
            headers: u16::from_ne_bytes([a, b]),
            size: u16::from_ne_bytes([c, d]),
            start: u16::from_ne_bytes([e, f]),
            offset: u16::from_ne_bytes([g, h]),
        }
    }
}

impl fmt::Display for Untrue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::NoChecksum => f.write_str("a blank checksum in what is not whole TCP or UDP"),
            Self::NotThatTcp(ip) => write!(f, "to be cut up, but not TCP over IP{ip:?}"),
            Self::NotStream(flags) => {
                write!(
                    f,
                    "to be cut up, but with TCP flags {flags:#04x}: SYN, RST and URG cannot be"
                )
            }
            Self::Trailer(bytes) => {
                write!(
                    f,
                    "to be cut up, but {bytes} bytes are not of the IP packet"
                )
            }
            Self::LongPieces(longest) => {
                write!(
                    f,
                    "to be cut into pieces of {longest} bytes, more than the MTU allows"
                )
            }
            Self::Short => f.write_str("the IP header's length is not that of the packet"),
        }
    }
}

impl std::error::Error for Untrue {}

impl fmt::Display for UnknownGso {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "GSO type {} of the tap was not asked for, or not for such a packet",
            self.0
        )
    }
}

impl std::error::Error for UnknownGso {}

// `linux/virtio_net.h`.
const NEEDS_CSUM: u8 = 1;
const DATA_VALID: u8 = 2;
const GSO_NONE: u8 = 0;
const GSO_TCPV4: u8 = 1;
const GSO_TCPV6: u8 = 4;
const GSO_ECN: u8 = 0x80;

#[cfg(test)]
mod tests;
