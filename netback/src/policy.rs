//! What one interface may send and receive: everything that a name stood for is resolved.
//!
//! An administrator writes policies; the broker picks the one that governs an interface, fills in
//! what the toolstack says about the guest, and gets an [`VifPolicy`]. Two enforce it, each on its
//! own: the worker, which drops early, and the kernel, whose rules the broker installs before the
//! link comes up, and which stay whatever becomes of the worker.
//!
//! *Out* is what the guest transmits, *in* what it receives.

mod address;
pub mod language;
pub mod network;
mod rule;

use serde::{Deserialize, Serialize};

pub(crate) use address::outermost;
pub use address::{BadMac, BadPrefix, Mac, Prefix, Remotes};
pub use rule::{Action, Direction, PortRange, Protocol, Rule};

/// The policy of one interface.
///
/// Having one tells you that it makes sense in itself: for instance, stateful rules come with
/// [`mac_guard`](Self::mac_guard).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(clippy::struct_excessive_bools, reason = "each is a guard of its own")]
pub struct VifPolicy {
    /// What the administrator calls it; `open` or `locked` if none was picked.
    pub name: String,
    /// The guest's own address.
    pub mac: Mac,
    /// Out: the Ethernet source is [`mac`](Self::mac), or the frame is dropped. The bridge learns
    /// nothing from the port.
    pub mac_guard: bool,
    /// Out: whose addresses may stand in IP, ARP and ND headers; `None` checks none of them. An empty
    /// list of a family lets none of it leave.
    pub addresses: Option<Addresses>,
    /// Out: no router advertisements, redirects, or what else only routers say (ICMPv6 134, 137, 146,
    /// 147, 151 to 153).
    pub ra_guard: bool,
    /// What DHCP may be spoken.
    pub dhcp: Dhcp,
    /// In: DHCP only from these; empty: from anyone.
    pub dhcp_servers: Vec<std::net::IpAddr>,
    /// Out: only IPv4, ARP and IPv6 (and RARP, if [`rarp`](Self::rarp)); no 802.3 length fields.
    pub ip_only: bool,
    /// Out: frames to link-local groups (01:80:c2:00:00:00 to :0f) and to 01:00:0c:cc:cc:cc pass.
    pub bpdu: bool,
    /// Out: RARP announcements of the guest's own address pass.
    pub rarp: bool,
    /// VLAN tags.
    pub vlan: Vlan,
    /// No frames between two interfaces that are isolated, on the same bridge.
    pub isolated: bool,
    /// What of the host itself the guest may talk to; `None`: all of it.
    pub host: Option<Vec<HostService>>,
    /// Limits of what the guest transmits.
    pub limit_out: Limit,
    /// Limits of what it receives.
    pub limit_in: Limit,
    /// Out: broadcast and multicast frames a second; `None`: any number.
    pub storm: Option<u32>,
    /// In: unknown multicast is flooded to the port.
    pub multicast_flood: bool,
    /// The rules, both directions, in order: the first that matches decides.
    pub rules: Vec<Rule>,
    /// What becomes of a frame out that no rule matches.
    pub default_out: Action,
    /// What becomes of a frame in that no rule matches.
    pub default_in: Action,
    /// Flows that stateful rules may have opened at a time.
    pub flows: u32,
}

/// The addresses of a guest.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Addresses {
    /// IPv4 and IPv6, mixed; normalised: no host bits, no duplicates, none inside another.
    pub own: Vec<Prefix>,
    /// IPv6: any address of `fe80::/64`, not only the one that follows from the MAC (EUI-64) or those
    /// in [`own`](Self::own).
    pub any_link_local: bool,
}

/// What DHCP a guest may speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Dhcp {
    /// Out: 68 to 67 and 546 to 547, ten a second, with the guest's own hardware address (`chaddr`, if
    /// [`VifPolicy::mac_guard`]); nothing from 67 or 547.
    Client,
    /// Out: all of it.
    Server,
    /// Out: none of it.
    Off,
    /// It is not looked at.
    Any,
}

/// What VLAN tags a guest may use.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Vlan {
    /// Tags are not looked at.
    Any,
    /// Out: no tag at all.
    Off,
    /// Out: no tag; the bridge port is an untagged member of this VLAN.
    Access(u16),
    /// Out: only these tags, and no second one; without a tag only if there is a native VLAN.
    Trunk {
        /// Sorted, without duplicates.
        tags: Vec<u16>,
        /// The VLAN of frames without a tag.
        native: Option<u16>,
    },
}

/// A service of the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum HostService {
    /// UDP 67, and 547.
    Dhcp,
    /// UDP and TCP 53.
    Dns,
    /// ICMP and ICMPv6 echo requests.
    Ping,
    /// TCP 80.
    Http,
}

/// A limit in one direction. All zero: none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Limit {
    /// Bytes a second; 0: any number.
    pub bytes: u64,
    /// Packets a second; 0: any number.
    pub packets: u32,
    /// Bytes that may pass at once; 0: what Linux allows (128 KiB, or what passes in the interval).
    pub burst: u64,
}

impl Addresses {
    /// These; what is inside another of them goes without saying.
    #[must_use]
    pub fn new(own: Vec<Prefix>, any_link_local: bool) -> Self {
        Self {
            own: outermost(own),
            any_link_local,
        }
    }
}

impl VifPolicy {
    /// Nothing is checked: what governs an interface that nobody has said anything about.
    #[must_use]
    pub fn open(mac: Mac) -> Self {
        Self {
            name: "open".to_owned(),
            mac,
            mac_guard: false,
            addresses: None,
            ra_guard: false,
            dhcp: Dhcp::Any,
            dhcp_servers: Vec::new(),
            ip_only: false,
            bpdu: true,
            rarp: true,
            vlan: Vlan::Any,
            isolated: false,
            host: None,
            limit_out: Limit::default(),
            limit_in: Limit::default(),
            storm: None,
            multicast_flood: true,
            rules: Vec::new(),
            default_out: Action::Accept,
            default_in: Action::Accept,
            flows: FLOWS,
        }
    }

    /// One guest's interface among those of others: it may use its own addresses, as a client.
    #[must_use]
    pub fn locked(mac: Mac, own: Vec<Prefix>) -> Self {
        Self {
            name: "locked".to_owned(),
            mac_guard: true,
            addresses: Some(Addresses::new(own, false)),
            ra_guard: true,
            dhcp: Dhcp::Client,
            ip_only: true,
            bpdu: false,
            rarp: false,
            vlan: Vlan::Off,
            storm: Some(STORM),
            ..Self::open(mac)
        }
    }

    /// Is nothing checked, and nothing limited?
    #[must_use]
    pub fn is_open(&self) -> bool {
        let name = self.name.clone();
        *self
            == Self {
                name,
                ..Self::open(self.mac)
            }
    }

    /// Does the kernel have to follow flows?
    #[must_use]
    pub fn is_stateful(&self) -> bool {
        self.rules.iter().any(|rule| rule.stateful)
    }
}

/// Flows of one interface, unless a policy says otherwise.
pub const FLOWS: u32 = 16_384;
/// Broadcast and multicast frames a second from a locked interface, unless a policy says otherwise.
pub const STORM: u32 = 200;
