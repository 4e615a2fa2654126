//! What a network backend tells a frontend, key by key.
//!
//! Keys and their meaning: `public/io/netif.h`.

use xenbus::{Key, LiveOffer, NetworkLimits, NetworkOffer};

/// The most queues of one interface that a configuration may allow.
pub const QUEUES_MAX: u16 = 16;

/// What a backend offers, whatever the interface: a promise for the whole life of a connection
/// (FE-18). What an administrator withholds is not used either if a frontend asks for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a key of the protocol of its own"
)]
pub struct Offered {
    /// `multi-queue-max-queues`.
    pub queues: u16,
    /// `feature-sg`: frames in several pages.
    pub scatter_gather: bool,
    /// `feature-gso-tcpv4` and `-tcpv6`: packets to be cut up, which takes the two others.
    pub segmentation: bool,
    /// `feature-ipv6-csum-offload`, and no `feature-no-csum-offload`: blank checksums.
    pub checksum: bool,
    /// `feature-multicast-control` and `feature-dynamic-multicast-control`.
    pub multicast_control: bool,
    /// `feature-split-event-channels`.
    pub split_event_channels: bool,
    /// `feature-ctrl-ring`.
    pub control_ring: bool,
    /// `feature-xdp-headroom`.
    pub xdp_headroom: bool,
}

impl Offered {
    /// Everything there is, with so many queues.
    #[must_use]
    pub const fn all(queues: u16) -> Self {
        Self {
            queues,
            scatter_gather: true,
            segmentation: true,
            checksum: true,
            multicast_control: true,
            split_event_channels: true,
            control_ring: true,
            xdp_headroom: true,
        }
    }

    /// Are packets to be cut up taken and given? Nobody sends one in a single page, or with a complete
    /// checksum.
    #[must_use]
    pub const fn gso(self) -> bool {
        self.segmentation && self.scatter_gather && self.checksum
    }

    /// Which keys of a frontend are looked at.
    #[must_use]
    pub fn limits(self) -> NetworkLimits {
        NetworkLimits {
            queues: self.queues.into(),
            split: self.split_event_channels,
            control: self.control_ring,
        }
    }

    /// What is left of what a frontend says that it can take.
    #[must_use]
    pub fn agreed(self, offer: NetworkOffer) -> NetworkOffer {
        NetworkOffer {
            sg: offer.sg && self.scatter_gather,
            gso_tcpv4: offer.gso_tcpv4 && self.gso(),
            gso_tcpv6: offer.gso_tcpv6 && self.gso(),
            csum_ipv4: offer.csum_ipv4 && self.checksum,
            csum_ipv6: offer.csum_ipv6 && self.checksum,
            live: self.agreed_live(offer.live),
            ..offer
        }
    }

    /// The same of what it may change while it is served.
    #[must_use]
    pub const fn agreed_live(self, live: LiveOffer) -> LiveOffer {
        LiveOffer {
            multicast_control: live.multicast_control && self.multicast_control,
            xdp_headroom: if self.xdp_headroom {
                live.xdp_headroom
            } else {
                0
            },
        }
    }
}

/// Written together with InitWait: a network frontend looks once, and then sets up its rings.
///
/// What is 0 is written too: a device that was connected before may have had it, and an old key
/// would be an old promise.
#[must_use]
pub fn before_rings(offered: Offered) -> Vec<Key<'static>> {
    let flags = [
        ("feature-sg", offered.scatter_gather),
        ("feature-gso-tcpv4", offered.gso()),
        ("feature-gso-tcpv6", offered.gso()),
        ("feature-ipv6-csum-offload", offered.checksum),
        ("feature-no-csum-offload", !offered.checksum),
        ("feature-rx-copy", true),
        // Pages are copied, never flipped.
        ("feature-rx-flip", false),
        ("feature-multicast-control", offered.multicast_control),
        (
            "feature-dynamic-multicast-control",
            offered.multicast_control,
        ),
        ("feature-split-event-channels", offered.split_event_channels),
        // A frontend that wants another one goes to Reconfiguring.
        ("feature-xdp-headroom", offered.xdp_headroom),
        ("feature-ctrl-ring", offered.control_ring),
    ];
    let mut keys: Vec<Key<'static>> = flags
        .into_iter()
        .map(|(key, on)| (key, u8::from(on).to_string()))
        .collect();
    keys.push(("multi-queue-max-queues", offered.queues.to_string()));
    keys
}

#[cfg(test)]
mod tests {
    use xenbus::QueueOffer;

    use super::*;

    fn value(offered: Offered, key: &str) -> Option<String> {
        let keys = before_rings(offered);
        let found = keys.into_iter().find(|(name, _)| *name == key);
        found.map(|(_, value)| value)
    }

    fn on(offered: Offered, key: &str) -> bool {
        match value(offered, key).as_deref() {
            Some("1") => true,
            Some("0") => false,
            other => panic!("{key} = {other:?}"),
        }
    }

    #[test]
    fn a_frontend_is_told_what_works_and_what_does_not() {
        let all = Offered::all(4);
        assert!(on(all, "feature-rx-copy"), "without it nothing works");
        assert!(!on(all, "feature-rx-flip"));
        assert!(!on(all, "feature-no-csum-offload"));
        assert!(on(all, "feature-xdp-headroom") && on(all, "feature-ctrl-ring"));
        assert_eq!(value(all, "multi-queue-max-queues").as_deref(), Some("4"));
    }

    /// What nobody has but the best frontend.
    fn best() -> NetworkOffer {
        NetworkOffer {
            queues: Vec::<QueueOffer>::new(),
            rx_notify: true,
            sg: true,
            gso_tcpv4: true,
            gso_tcpv6: true,
            csum_ipv4: true,
            csum_ipv6: true,
            live: LiveOffer {
                multicast_control: true,
                xdp_headroom: 256,
            },
            control: None,
        }
    }

    #[test]
    fn what_is_withheld_is_told_and_not_used() {
        let all = Offered::all(1);
        assert_eq!(all.agreed(best()), best());
        let (mut sg, mut gso, mut checksum) = (all, all, all);
        sg.scatter_gather = false;
        gso.segmentation = false;
        checksum.checksum = false;
        for offered in [sg, gso, checksum] {
            assert!(!on(offered, "feature-gso-tcpv4") && !on(offered, "feature-gso-tcpv6"));
            let agreed = offered.agreed(best());
            assert!(!agreed.gso_tcpv4 && !agreed.gso_tcpv6);
        }
        assert!(!on(sg, "feature-sg") && !sg.agreed(best()).sg);
        assert!(on(gso, "feature-sg") && gso.agreed(best()).sg);
        assert!(!on(checksum, "feature-ipv6-csum-offload"));
        assert!(on(checksum, "feature-no-csum-offload"));
        let agreed = checksum.agreed(best());
        assert!(!agreed.csum_ipv4 && !agreed.csum_ipv6 && agreed.sg);
    }

    #[test]
    fn what_changes_live_is_withheld_too() {
        let offered = Offered {
            multicast_control: false,
            xdp_headroom: false,
            split_event_channels: false,
            control_ring: false,
            ..Offered::all(3)
        };
        for key in [
            "feature-multicast-control",
            "feature-dynamic-multicast-control",
            "feature-split-event-channels",
            "feature-xdp-headroom",
            "feature-ctrl-ring",
        ] {
            assert!(!on(offered, key), "{key}");
        }
        let nothing = LiveOffer {
            multicast_control: false,
            xdp_headroom: 0,
        };
        assert_eq!(offered.agreed(best()).live, nothing);
        let limits = NetworkLimits {
            queues: 3,
            split: false,
            control: false,
        };
        assert_eq!(offered.limits(), limits);
    }
}
