//! How a frame goes to a guest: how many of its buffers it takes, and what is said about it.

use std::fmt;

use super::{Gso, Hash, Ip, MAX_RX_FRAME, MIN_FRAME, PAGE, rx_flag};

/// What a frontend has agreed to receive. Its own fault if that is not what it can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RxFeatures {
    /// `feature-sg`: frames in more than one buffer.
    pub sg: bool,
    /// Unless `feature-no-csum-offload`: IPv4 packets whose TCP or UDP checksum is blank.
    pub blank_v4: bool,
    /// `feature-ipv6-csum-offload`: the same for IPv6.
    pub blank_v6: bool,
    /// `feature-gso-tcpv4`.
    pub gso_v4: bool,
    /// `feature-gso-tcpv6`.
    pub gso_v6: bool,
    /// Whether it has chosen a hash algorithm over the control ring.
    pub hash: bool,
    /// `xdp-headroom`.
    pub headroom: Headroom,
}

/// Bytes that a frontend wants free in front of each frame, for its XDP program.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Headroom(u16);

impl Headroom {
    /// None.
    pub const NONE: Self = Self(0);

    /// Most that can be asked for. Half a page, so that any frame with 1500 bytes of payload still
    /// fits one; Linux frontends want 256.
    pub const MAX: u32 = PAGE / 2;

    /// So many bytes; `None` if that is too much.
    #[must_use]
    pub fn new(bytes: u32) -> Option<Self> {
        let fits = bytes <= Self::MAX;
        u16::try_from(bytes).ok().filter(|_| fits).map(Self)
    }

    /// The number of bytes.
    #[must_use]
    pub const fn bytes(self) -> u16 {
        self.0
    }
}

/// What is known about a frame for a guest.
///
/// A packet to be cut up without a blank checksum cannot be said: Windows frontends take it for a
/// reason to stop the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RxOffload {
    /// Nothing: the guest checks the checksum.
    Plain,
    /// This host, not some guest, has found the checksum right (NET-10).
    Validated,
    /// The checksum is of the pseudo header only, and nothing on the way can have damaged the data.
    Blank(Ip),
    /// As blank, and one packet stands for several.
    Gso(Gso),
}

/// A frame that a guest can be given, and how.
///
/// Having one tells you that it is between an Ethernet header and [`MAX_RX_FRAME`] long, that the
/// frontend has agreed to all that it needs, and that it takes at most 17 buffers and 3 extra infos:
/// Linux frontends drop frames in more than 18 buffers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RxPlan {
    pub(super) len: u32,
    pub(super) headroom: Headroom,
    pub(super) gso: Option<Gso>,
    pub(super) hash: Option<Hash>,
    /// Of the first response, but for [`rx_flag::MORE_DATA`].
    pub(super) flags: u16,
    pub(super) extras: u32,
}

impl RxFeatures {
    /// Decides how a frame of `len` bytes is given to the guest. The hash is left out if the
    /// frontend has not asked for one.
    ///
    /// # Errors
    /// [`RxRefusal`]: the frame must not be given to this guest. The fault of who made it although
    /// the frontend had not agreed, on this host (NET-14).
    #[inline]
    pub fn plan(
        &self,
        len: u32,
        offload: RxOffload,
        hash: Option<Hash>,
    ) -> Result<RxPlan, RxRefusal> {
        if !(MIN_FRAME..=MAX_RX_FRAME).contains(&len) {
            return Err(RxRefusal::Length(len));
        }
        let blank = rx_flag::CSUM_BLANK | rx_flag::DATA_VALIDATED;
        let (gso, needs, checksum) = match offload {
            RxOffload::Plain => (None, None, 0),
            RxOffload::Validated => (None, None, rx_flag::DATA_VALIDATED),
            RxOffload::Blank(ip) => (None, Some(ip), blank),
            RxOffload::Gso(gso) if !self.gso(gso.ip) => return Err(RxRefusal::Gso(gso.ip)),
            RxOffload::Gso(gso) => (Some(gso), Some(gso.ip), blank),
        };
        if let Some(ip) = needs.filter(|ip| !self.blank(*ip)) {
            return Err(RxRefusal::Blank(ip));
        }
        let hash = hash.filter(|_| self.hash);
        let headroom = self.headroom;
        let extras =
            u32::from(gso.is_some()) + u32::from(hash.is_some()) + u32::from(headroom.0 > 0);
        let info = if extras > 0 { rx_flag::EXTRA_INFO } else { 0 };
        let plan = RxPlan {
            len,
            headroom,
            gso,
            hash,
            flags: checksum | info,
            extras,
        };
        if !self.sg && plan.buffers() > 1 {
            let room = PAGE - u32::from(self.headroom.0);
            return Err(RxRefusal::NotScattered { len, room });
        }
        Ok(plan)
    }

    /// The most requests that a frame can take on a link with this MTU: what has to wait in the ring
    /// before the next frame is fetched, however long it turns out to be (XSA-392).
    #[must_use]
    pub fn most_requests(&self, mtu: u32) -> u32 {
        let gso = self.gso(Ip::V4) || self.gso(Ip::V6);
        let longest = match (self.sg, gso) {
            (false, _) => MIN_FRAME,
            (true, true) => MAX_RX_FRAME,
            (true, false) => mtu.saturating_add(HEADERS).min(MAX_RX_FRAME),
        };
        let extras = u32::from(gso) + u32::from(self.hash) + u32::from(self.headroom.0 > 0);
        buffers(longest, self.headroom) + extras
    }

    const fn gso(&self, ip: Ip) -> bool {
        match ip {
            Ip::V4 => self.gso_v4,
            Ip::V6 => self.gso_v6,
        }
    }

    const fn blank(&self, ip: Ip) -> bool {
        match ip {
            Ip::V4 => self.blank_v4,
            Ip::V6 => self.blank_v6,
        }
    }
}

impl RxPlan {
    /// Requests that the frame takes: a buffer for each page of data, and one for each extra info,
    /// whose buffer stays empty.
    #[inline]
    #[must_use]
    pub const fn requests(&self) -> u32 {
        self.buffers() + self.extras
    }

    /// Buffers that get data, 1 to 17.
    #[inline]
    #[must_use]
    pub const fn buffers(&self) -> u32 {
        buffers(self.len, self.headroom)
    }
}

/// A frame that a guest must not be given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RxRefusal {
    /// No frame has this length.
    Length(u32),
    /// It needs several buffers, and the frontend takes one.
    NotScattered {
        /// Its bytes.
        len: u32,
        /// Bytes that one buffer has room for.
        room: u32,
    },
    /// Its checksum is blank, and the frontend wants it complete.
    Blank(Ip),
    /// It stands for several packets, and the frontend wants them one by one.
    Gso(Ip),
}

impl fmt::Display for RxRefusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Length(len) => {
                write!(f, "{len} bytes, a frame has {MIN_FRAME} to {MAX_RX_FRAME}")
            }
            Self::NotScattered { len, room } => {
                write!(
                    f,
                    "{len} bytes, and one buffer of {room} is all the frontend takes"
                )
            }
            Self::Blank(ip) => write!(f, "{ip} packet without checksum, which the frontend wants"),
            Self::Gso(ip) => write!(
                f,
                "{ip} packet to be cut up, which the frontend does not do"
            ),
        }
    }
}

impl std::error::Error for RxRefusal {}

/// Buffers for `len` bytes. The headroom is in the first one only: that is the one an XDP program is
/// run on, and the one whose offset Linux frontends take from the extra info.
const fn buffers(len: u32, headroom: Headroom) -> u32 {
    (len + headroom.0 as u32).div_ceil(PAGE)
}

/// What a frame has besides what its MTU counts: an Ethernet header and a VLAN tag.
const HEADERS: u32 = 18;
