//! What the broker tells a worker about one VIF.
//!
//! The broker has read and checked everything that came from xenstore and owns the tap; the worker
//! receives this and the open descriptors, and never looks anything up itself. Descriptors travel
//! beside the message in this order: for each queue its tap queue, its event channel device and its
//! grant device; then, if there is a control ring, its event channel device and its grant device;
//! last the board of the [ledger](crate::ledger).

use ring_proto::DomId;
use serde::{Deserialize, Serialize};

use crate::policy::VifPolicy;

/// One VIF, ready to be connected.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VifSpec {
    /// Our own domain.
    pub backend: u16,
    /// The guest.
    pub domid: u16,
    /// The number of the interface among the guest's, which is also the directory name in xenstore.
    pub handle: u32,
    /// The tap's name when it was connected.
    pub name: String,
    /// The guest's own address, as the toolstack wrote it.
    pub mac: [u8; 6],
    /// Bytes of an IP packet that the interface takes, as advertised.
    pub mtu: u16,
    /// Fewest bytes in the pieces that a packet of the guest may ask to be cut into.
    pub gso_floor: u16,
    /// One entry per queue, never empty.
    pub queues: Vec<QueueSpec>,
    /// The control ring, if the frontend has one.
    pub control: Option<ControlSpec>,
    /// What the frontend can take.
    pub frontend: FrontendFeatures,
    /// What it may do.
    pub offered: OfferedFeatures,
    /// The limit of what the guest may transmit; none means unlimited.
    pub rate: Option<RateSpec>,
    /// Packets that it may transmit in a second; 0 means any number.
    pub packet_rate: u32,
    /// What may pass.
    pub policy: VifPolicy,
}

/// Where the frontend put the rings of one queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct QueueSpec {
    /// Grant reference of the transmit ring.
    pub tx_ref: u32,
    /// Grant reference of the receive ring.
    pub rx_ref: u32,
    /// The frontend's unbound port for the transmit ring.
    pub tx_port: u32,
    /// The frontend's unbound port for the receive ring: the same if it has one for both.
    pub rx_port: u32,
}

/// Where the frontend put its control ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ControlSpec {
    /// Grant reference of the ring.
    pub ring_ref: u32,
    /// The frontend's unbound port.
    pub port: u32,
}

/// What the frontend says that it can take, or wants (`public/io/netif.h`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a key of the protocol of its own"
)]
pub struct FrontendFeatures {
    /// `feature-sg`: frames over several pages.
    pub sg: bool,
    /// `feature-gso-tcpv4`.
    pub gso_tcpv4: bool,
    /// `feature-gso-tcpv6`.
    pub gso_tcpv6: bool,
    /// No `feature-no-csum-offload`.
    pub csum_ipv4: bool,
    /// `feature-ipv6-csum-offload`.
    pub csum_ipv6: bool,
    /// `feature-rx-notify`: it tells when it has posted buffers.
    pub rx_notify: bool,
    /// `xdp-headroom`: bytes to leave free in front of each frame.
    pub xdp_headroom: u16,
    /// `request-multicast-control`: only multicast that it has asked for.
    pub multicast_control: bool,
}

/// What the frontend may do, as it was offered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OfferedFeatures {
    /// `feature-gso-tcpv4` and `-tcpv6`: transmit packets that are to be cut up.
    pub gso: bool,
    /// `feature-multicast-control`: change its multicast list.
    pub multicast_control: bool,
}

/// xenstore's `rate`: so many bytes in so many microseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RateSpec {
    /// Bytes.
    pub bytes: u64,
    /// Microseconds.
    pub interval_us: u64,
}

/// What may change while a VIF is connected.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Change {
    /// `rate`; none takes the limit away.
    Rate(Option<RateSpec>),
    /// `request-multicast-control`.
    MulticastControl(bool),
    /// `xdp-headroom`.
    XdpHeadroom(u16),
    /// What may pass.
    Policy(Box<VifPolicy>),
}

impl VifSpec {
    /// The guest as an id.
    #[must_use]
    pub const fn dom(&self) -> DomId {
        DomId::new(self.domid)
    }
}
