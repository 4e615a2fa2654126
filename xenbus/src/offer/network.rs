//! What a network frontend offers: its rings, and what it can take.
//!
//! Keys and their meaning: `public/io/netif.h`; defaults as in Linux's
//! `drivers/net/xen-netback/xenbus.c`.

use std::collections::BTreeSet;

use ring_proto::GrantRef;

use super::{BadOffer, OfferError, OfferFault, PORT_MAX, Values, bad, fetch, number, once};
use crate::path::BackendPath;
use crate::store::Store;

/// A network frontend's offer. Having one tells you: there are as many queues as it says and no more
/// than were offered, no ring page is named twice, no port is named for two purposes but the two
/// rings of one queue, and received frames are to be copied, not flipped.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a key of the protocol of its own"
)]
pub struct NetworkOffer {
    /// One for each queue, in order; never empty.
    pub queues: Vec<QueueOffer>,
    /// `feature-rx-notify`: it tells when it has posted buffers.
    pub rx_notify: bool,
    /// `feature-sg`: frames in more than one buffer.
    pub sg: bool,
    /// `feature-gso-tcpv4`.
    pub gso_tcpv4: bool,
    /// `feature-gso-tcpv6`.
    pub gso_tcpv6: bool,
    /// No `feature-no-csum-offload`: blank checksums in IPv4.
    pub csum_ipv4: bool,
    /// `feature-ipv6-csum-offload`: the same in IPv6.
    pub csum_ipv6: bool,
    /// What may change while the device is served.
    pub live: LiveOffer,
    /// `ctrl-ring-ref` and `event-channel-ctrl`: the control ring.
    pub control: Option<ControlOffer>,
}

/// What this backend has advertised, as far as it decides which keys are looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NetworkLimits {
    /// `multi-queue-max-queues`.
    pub queues: u32,
    /// `feature-split-event-channels`; without it, only `event-channel` is a key.
    pub split: bool,
    /// `feature-ctrl-ring`; without it, where one would be is not looked at.
    pub control: bool,
}

/// What a frontend may change while its device is served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LiveOffer {
    /// `request-multicast-control`: only multicast that it asks for.
    pub multicast_control: bool,
    /// `xdp-headroom`: bytes to leave free in front of each frame, at most [`XDP_HEADROOM_MAX`].
    pub xdp_headroom: u16,
}

/// The control ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ControlOffer {
    /// Its page.
    pub ring_ref: GrantRef,
    /// Its event channel: 1 to [`PORT_MAX`].
    pub port: u32,
}

/// The most that a frontend can ask for as [`LiveOffer::xdp_headroom`]: half a page, so that a
/// frame of usual size still fits one. Linux allows more, and its frontend asks for 256.
pub const XDP_HEADROOM_MAX: u16 = 2048;

/// The rings of one queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueueOffer {
    /// The page of the transmit ring.
    pub tx_ref: GrantRef,
    /// The page of the receive ring.
    pub rx_ref: GrantRef,
    /// The event channel of the transmit ring: 1 to [`PORT_MAX`].
    pub tx_port: u32,
    /// That of the receive ring: the same if there is one for both.
    pub rx_port: u32,
}

const KEYS: [&str; 12] = [
    "request-rx-copy",
    "multi-queue-num-queues",
    "feature-rx-notify",
    "feature-sg",
    "feature-gso-tcpv4",
    "feature-gso-tcpv6",
    "feature-no-csum-offload",
    "feature-ipv6-csum-offload",
    LiveOffer::MULTICAST_CONTROL,
    LiveOffer::XDP_HEADROOM,
    "ctrl-ring-ref",
    "event-channel-ctrl",
];

const QUEUE_KEYS: [&str; 5] = [
    "tx-ring-ref",
    "rx-ring-ref",
    "event-channel",
    "event-channel-tx",
    "event-channel-rx",
];

impl NetworkOffer {
    /// Reads the offer of the frontend that belongs to `device`, in one transaction: a half-written
    /// one is not seen.
    ///
    /// # Errors
    /// See [`OfferError`].
    pub fn read(
        store: &mut Store,
        device: &BackendPath,
        limits: NetworkLimits,
    ) -> Result<Self, OfferError> {
        store.transaction(|tx| {
            let mut values = Values::new();
            fetch(tx, device, KEYS.map(str::to_owned).to_vec(), &mut values)?;
            let count = count(&values, limits.queues)?;
            let keys = prefixes(count)
                .into_iter()
                .flat_map(|prefix| QUEUE_KEYS.map(|key| format!("{prefix}{key}")));
            fetch(tx, device, keys.collect(), &mut values)?;
            Ok(Self::parse(&values, limits)?)
        })
    }

    /// Parses an offer out of values that were read already.
    ///
    /// # Errors
    /// The first key that is not acceptable.
    pub fn parse(values: &Values, limits: NetworkLimits) -> Result<Self, BadOffer> {
        // Page flipping went long ago, and this is how a frontend says that it knows.
        if !flag(values, "request-rx-copy")? {
            return Err(bad("request-rx-copy", OfferFault::Zero));
        }
        let (mut refs, mut ports) = (BTreeSet::new(), BTreeSet::new());
        let queues = prefixes(count(values, limits.queues)?)
            .iter()
            .map(|prefix| QueueOffer::parse(values, prefix, limits.split, &mut refs, &mut ports))
            .collect::<Result<_, _>>()?;
        let control = if limits.control {
            ControlOffer::parse(values, &mut refs, &mut ports)?
        } else {
            None
        };
        Ok(Self {
            queues,
            rx_notify: flag(values, "feature-rx-notify")?,
            sg: flag(values, "feature-sg")?,
            gso_tcpv4: flag(values, "feature-gso-tcpv4")?,
            gso_tcpv6: flag(values, "feature-gso-tcpv6")?,
            csum_ipv4: !flag(values, "feature-no-csum-offload")?,
            csum_ipv6: flag(values, "feature-ipv6-csum-offload")?,
            live: LiveOffer::parse(values)?,
            control,
        })
    }
}

impl LiveOffer {
    /// The key of [`LiveOffer::multicast_control`].
    pub const MULTICAST_CONTROL: &str = "request-multicast-control";
    /// The key of [`LiveOffer::xdp_headroom`].
    pub const XDP_HEADROOM: &str = "xdp-headroom";

    /// Reads it, in one transaction.
    ///
    /// # Errors
    /// See [`OfferError`].
    pub fn read(store: &mut Store, device: &BackendPath) -> Result<Self, OfferError> {
        store.transaction(|tx| {
            let mut values = Values::new();
            let keys = [Self::MULTICAST_CONTROL, Self::XDP_HEADROOM];
            fetch(tx, device, keys.map(str::to_owned).to_vec(), &mut values)?;
            Ok(Self::parse(&values)?)
        })
    }

    /// Parses it out of values that were read already.
    ///
    /// # Errors
    /// The first key that is not acceptable.
    pub fn parse(values: &Values) -> Result<Self, BadOffer> {
        let headroom = number(values, Self::XDP_HEADROOM, XDP_HEADROOM_MAX.into())?;
        let headroom = headroom.and_then(|bytes| u16::try_from(bytes).ok());
        Ok(Self {
            multicast_control: flag(values, Self::MULTICAST_CONTROL)?,
            xdp_headroom: headroom.unwrap_or(0),
        })
    }
}

impl ControlOffer {
    /// As for Linux, it is the ring that says whether there is one.
    fn parse(
        values: &Values,
        refs: &mut BTreeSet<u32>,
        ports: &mut BTreeSet<u32>,
    ) -> Result<Option<Self>, BadOffer> {
        if !values.contains_key("ctrl-ring-ref") {
            return Ok(None);
        }
        Ok(Some(Self {
            ring_ref: GrantRef::new(once(values, "ctrl-ring-ref", u32::MAX, refs)?),
            port: port(values, "event-channel-ctrl", ports)?,
        }))
    }
}

impl QueueOffer {
    fn parse(
        values: &Values,
        prefix: &str,
        split: bool,
        refs: &mut BTreeSet<u32>,
        ports: &mut BTreeSet<u32>,
    ) -> Result<Self, BadOffer> {
        let key = |name: &str| format!("{prefix}{name}");
        let mut page = |name| once(values, &key(name), u32::MAX, refs).map(GrantRef::new);
        let (tx_ref, rx_ref) = (page("tx-ring-ref")?, page("rx-ring-ref")?);
        let mut port = |name: &str| port(values, &key(name), ports);
        // Linux looks for the two first, and takes one for both if they are not there.
        let (tx_port, rx_port) = if split && values.contains_key(&key("event-channel-tx")) {
            (port("event-channel-tx")?, port("event-channel-rx")?)
        } else {
            let both = port("event-channel")?;
            (both, both)
        };
        Ok(Self {
            tx_ref,
            rx_ref,
            tx_port,
            rx_port,
        })
    }
}

fn count(values: &Values, most: u32) -> Result<u32, BadOffer> {
    let key = "multi-queue-num-queues";
    match number(values, key, most)?.unwrap_or(1) {
        0 => Err(bad(key, OfferFault::Zero)),
        count => Ok(count),
    }
}

/// The directories of the queues: none with a single one.
fn prefixes(queues: u32) -> Vec<String> {
    match queues {
        1 => vec![String::new()],
        queues => (0..queues).map(|queue| format!("queue-{queue}/")).collect(),
    }
}

/// A port that is named nowhere else.
fn port(values: &Values, key: &str, ports: &mut BTreeSet<u32>) -> Result<u32, BadOffer> {
    match once(values, key, PORT_MAX, ports)? {
        0 => Err(bad(key, OfferFault::Zero)),
        port => Ok(port),
    }
}

/// Any number but 0 is yes, as for Linux.
fn flag(values: &Values, key: &str) -> Result<bool, BadOffer> {
    Ok(number(values, key, u32::MAX)?.is_some_and(|value| value != 0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(keys: &[(&str, &str)]) -> Values {
        keys.iter()
            .map(|(key, value)| ((*key).to_owned(), value.as_bytes().to_vec()))
            .collect()
    }

    const PLAIN: [(&str, &str); 4] = [
        ("request-rx-copy", "1"),
        ("tx-ring-ref", "8"),
        ("rx-ring-ref", "9"),
        ("event-channel", "15"),
    ];

    const ALL: NetworkLimits = NetworkLimits {
        queues: 4,
        split: true,
        control: true,
    };

    fn with(more: &[(&str, &str)]) -> Result<NetworkOffer, BadOffer> {
        NetworkOffer::parse(&values(&[&PLAIN[..], more].concat()), ALL)
    }

    #[test]
    fn the_least_that_a_frontend_can_say() {
        let offer = with(&[]).unwrap();
        let queue = QueueOffer {
            tx_ref: GrantRef::new(8),
            rx_ref: GrantRef::new(9),
            tx_port: 15,
            rx_port: 15,
        };
        assert_eq!(offer.queues, [queue]);
        assert!(!offer.sg && !offer.rx_notify && !offer.csum_ipv6);
        assert!(offer.csum_ipv4, "offload is the rule for IPv4");
        let split = with(&[("event-channel-tx", "3"), ("event-channel-rx", "4")]).unwrap();
        assert_eq!((split.queues[0].tx_port, split.queues[0].rx_port), (3, 4));
    }

    #[test]
    fn what_linux_says_with_two_queues() {
        let offer = values(&[
            ("request-rx-copy", "1"),
            ("multi-queue-num-queues", "2"),
            ("queue-0/tx-ring-ref", "8"),
            ("queue-0/rx-ring-ref", "768"),
            ("queue-0/event-channel-tx", "21"),
            ("queue-0/event-channel-rx", "22"),
            ("queue-1/tx-ring-ref", "769"),
            ("queue-1/rx-ring-ref", "770"),
            ("queue-1/event-channel-tx", "23"),
            ("queue-1/event-channel-rx", "24"),
            ("feature-rx-notify", "1"),
            ("feature-sg", "1"),
            ("feature-gso-tcpv4", "1"),
            ("feature-gso-tcpv6", "1"),
            ("feature-ipv6-csum-offload", "1"),
        ]);
        let offer = NetworkOffer::parse(&offer, ALL).unwrap();
        assert_eq!(offer.queues.len(), 2);
        assert_eq!(offer.queues[1].rx_ref, GrantRef::new(770));
        assert!(offer.sg && offer.gso_tcpv4 && offer.gso_tcpv6 && offer.rx_notify);
        assert!(!offer.live.multicast_control);
    }

    #[test]
    fn what_is_there_for_some_frontends_only() {
        let plain = with(&[]).unwrap();
        assert_eq!((plain.live.xdp_headroom, plain.control), (0, None));
        let full = with(&[
            ("xdp-headroom", "256"),
            ("ctrl-ring-ref", "10"),
            ("event-channel-ctrl", "16"),
        ]);
        let full = full.unwrap();
        assert_eq!(full.live.xdp_headroom, 256);
        let control = ControlOffer {
            ring_ref: GrantRef::new(10),
            port: 16,
        };
        assert_eq!(full.control, Some(control));
        // As for Linux, a port alone is none.
        assert_eq!(with(&[("event-channel-ctrl", "16")]).unwrap().control, None);
        for (more, key) in [
            (&[("xdp-headroom", "2049")][..], "xdp-headroom"),
            (&[("xdp-headroom", "-1")], "xdp-headroom"),
            (&[("ctrl-ring-ref", "10")], "event-channel-ctrl"),
            (&[("ctrl-ring-ref", "8")], "ctrl-ring-ref"),
            (
                &[("ctrl-ring-ref", "10"), ("event-channel-ctrl", "15")],
                "event-channel-ctrl",
            ),
        ] {
            assert_eq!(with(more).unwrap_err().key, key, "{more:?}");
        }
    }

    #[test]
    fn what_was_not_advertised_is_not_looked_at() {
        let parse = |limits, more: &[(&str, &str)]| {
            NetworkOffer::parse(&values(&[&PLAIN[..], more].concat()), limits)
        };
        let more = [
            ("event-channel-tx", "3"),
            ("event-channel-rx", "4"),
            ("ctrl-ring-ref", "nonsense"),
        ];
        let neither = NetworkLimits {
            split: false,
            control: false,
            ..ALL
        };
        let offer = parse(neither, &more).unwrap();
        assert_eq!((offer.queues[0].tx_port, offer.queues[0].rx_port), (15, 15));
        assert_eq!(offer.control, None);
        assert_eq!(parse(ALL, &more).unwrap_err().key, "ctrl-ring-ref");
    }

    #[test]
    fn con_04_what_makes_no_sense_is_named() {
        let flipping = values(&[("request-rx-copy", "0")]);
        let bad = NetworkOffer::parse(&flipping, ALL).unwrap_err();
        assert_eq!(bad.key, "request-rx-copy");
        for (more, key) in [
            (("rx-ring-ref", "8"), "rx-ring-ref"),
            (("event-channel", "0"), "event-channel"),
            (("event-channel-tx", "3"), "event-channel-rx"),
            (("multi-queue-num-queues", "5"), "multi-queue-num-queues"),
            (("multi-queue-num-queues", "0"), "multi-queue-num-queues"),
            (("feature-sg", "yes"), "feature-sg"),
            (("tx-ring-ref", "-1"), "tx-ring-ref"),
        ] {
            assert_eq!(with(&[more]).unwrap_err().key, key, "{more:?}");
        }
    }
}
