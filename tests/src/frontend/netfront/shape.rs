//! What a connection looks like.

use std::fmt;

use ring_proto::netif::Ip;

/// What a frontend asks for when it connects, and what it says that it can take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a key of the protocol of its own"
)]
pub struct NetShape {
    /// Pairs of rings.
    pub queues: u32,
    /// An event channel for each ring, if the backend can.
    pub split: bool,
    /// `feature-sg`.
    pub sg: bool,
    /// `feature-gso-tcpv4`.
    pub gso_v4: bool,
    /// `feature-gso-tcpv6`.
    pub gso_v6: bool,
    /// No `feature-no-csum-offload`.
    pub blank_v4: bool,
    /// `feature-ipv6-csum-offload`.
    pub blank_v6: bool,
    /// `feature-rx-notify`.
    pub rx_notify: bool,
    /// `request-multicast-control`.
    pub multicast_control: bool,
    /// `xdp-headroom`; 0 is not written.
    pub headroom: u16,
    /// A control ring, if the backend serves one.
    pub control: bool,
    /// Buffers that are posted for each queue.
    pub buffers: u32,
}

impl NetShape {
    /// What a Linux guest of today asks for.
    pub const LINUX: Self = Self {
        queues: 1,
        split: true,
        sg: true,
        gso_v4: true,
        gso_v6: true,
        blank_v4: true,
        blank_v6: true,
        rx_notify: true,
        multicast_control: false,
        headroom: 0,
        control: false,
        buffers: 256,
    };

    /// The least that a frontend can be: one event channel, one page a frame, all checksums complete.
    pub const LEAST: Self = Self {
        queues: 1,
        split: false,
        sg: false,
        gso_v4: false,
        gso_v6: false,
        blank_v4: false,
        blank_v6: false,
        rx_notify: false,
        multicast_control: false,
        headroom: 0,
        control: false,
        buffers: 256,
    };

    /// May received packets of this protocol have a blank checksum?
    #[must_use]
    pub const fn takes_blank(self, ip: Ip) -> bool {
        match ip {
            Ip::V4 => self.blank_v4,
            Ip::V6 => self.blank_v6,
        }
    }

    /// May received packets of this protocol have to be cut up? Without checksums and several pages
    /// that cannot be, whatever the keys say.
    #[must_use]
    pub const fn takes_gso(self, ip: Ip) -> bool {
        let said = match ip {
            Ip::V4 => self.gso_v4,
            Ip::V6 => self.gso_v6,
        };
        said && self.sg && self.takes_blank(ip)
    }
}

impl fmt::Display for NetShape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} queues", self.queues)?;
        for (on, name) in [
            (self.split, "split"),
            (self.sg, "sg"),
            (self.gso_v4, "gso4"),
            (self.gso_v6, "gso6"),
            (self.blank_v4, "csum4"),
            (self.blank_v6, "csum6"),
            (self.rx_notify, "rx-notify"),
            (self.multicast_control, "multicast-control"),
            (self.control, "control"),
        ] {
            if on {
                write!(f, " {name}")?;
            }
        }
        write!(f, " headroom {} buffers {}", self.headroom, self.buffers)
    }
}
