//! What a network frontend writes to xenstore, and what it reads there.

use anyhow::{Context, ensure};
use evtchn::RemotePort;
use ring_proto::GrantRef;
use xenbus::Store;

use super::NetShape;
use crate::frontend::keys::under_queue;

/// Where a queue is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueueKeys {
    /// The page of its transmit ring.
    pub tx: GrantRef,
    /// The page of its receive ring.
    pub rx: GrantRef,
    /// Its event channels: one for both rings, or that of the transmit ring and that of the other.
    pub ports: Vec<RemotePort>,
}

/// The keys of an offer, in the order in which Linux writes them (`xen-netfront.c`,
/// `talk_to_netback` and `write_queue_xenstore_keys`).
#[must_use]
pub fn offer(shape: &NetShape, queues: &[QueueKeys]) -> Vec<(String, String)> {
    let mut keys = Vec::new();
    if queues.len() > 1 {
        let count = queues.len().to_string();
        keys.push(("multi-queue-num-queues".into(), count));
    }
    for (number, queue) in queues.iter().enumerate() {
        let under = under_queue(number, queues.len());
        keys.push((format!("{under}tx-ring-ref"), queue.tx.to_string()));
        keys.push((format!("{under}rx-ring-ref"), queue.rx.to_string()));
        match *queue.ports {
            [tx, rx] => {
                keys.push((format!("{under}event-channel-tx"), tx.0.to_string()));
                keys.push((format!("{under}event-channel-rx"), rx.0.to_string()));
            }
            ref one => keys.extend(
                one.iter()
                    .map(|port| (format!("{under}event-channel"), port.0.to_string())),
            ),
        }
    }
    let flag = |on: bool| u8::from(on).to_string();
    keys.push(("request-rx-copy".into(), flag(true)));
    keys.push(("feature-rx-notify".into(), flag(shape.rx_notify)));
    keys.push(("feature-sg".into(), flag(shape.sg)));
    keys.push(("feature-gso-tcpv4".into(), flag(shape.gso_v4)));
    keys.push(("feature-gso-tcpv6".into(), flag(shape.gso_v6)));
    keys.push(("feature-ipv6-csum-offload".into(), flag(shape.blank_v6)));
    if !shape.blank_v4 {
        keys.push(("feature-no-csum-offload".into(), flag(true)));
    }
    if shape.multicast_control {
        keys.push(("request-multicast-control".into(), flag(true)));
    }
    if shape.headroom > 0 {
        keys.push(("xdp-headroom".into(), shape.headroom.to_string()));
    }
    keys
}

/// What a backend says it can do before a frontend decides (`InitWait`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a key of the protocol of its own"
)]
pub struct Backend {
    /// `feature-sg`: several slots a packet.
    pub sg: bool,
    /// `feature-gso-tcpv4`.
    pub gso_v4: bool,
    /// `feature-gso-tcpv6`.
    pub gso_v6: bool,
    /// `feature-ipv6-csum-offload`.
    pub blank_v6: bool,
    /// `feature-split-event-channels`.
    pub split: bool,
    /// `feature-multicast-control`.
    pub multicast_control: bool,
    /// `feature-dynamic-multicast-control`.
    pub dynamic_multicast_control: bool,
    /// `feature-xdp-headroom`.
    pub headroom: bool,
    /// `feature-ctrl-ring`.
    pub control: bool,
    /// `multi-queue-max-queues`.
    pub queues: u32,
}

impl Backend {
    /// Reads it, with the defaults of the header, and refuses what Linux frontends refuse (FE-19).
    ///
    /// # Errors
    /// A value is no number, or the backend does not copy.
    pub fn read(store: &mut Store, backend: &str) -> anyhow::Result<Self> {
        let mut number = |key: &str| -> anyhow::Result<Option<u32>> {
            let path = format!("{backend}/{key}");
            let Some(value) = store.read(&path)? else {
                return Ok(None);
            };
            let text = String::from_utf8_lossy(&value).into_owned();
            let number = text.parse();
            number
                .with_context(|| format!("{path} = {text:?} is no number"))
                .map(Some)
        };
        let mut flag = |key: &str| Ok::<_, anyhow::Error>(number(key)? == Some(1));
        ensure!(flag("feature-rx-copy")?, "FE-19: feature-rx-copy is not 1");
        Ok(Self {
            sg: flag("feature-sg")?,
            gso_v4: flag("feature-gso-tcpv4")?,
            gso_v6: flag("feature-gso-tcpv6")?,
            blank_v6: flag("feature-ipv6-csum-offload")?,
            split: flag("feature-split-event-channels")?,
            multicast_control: flag("feature-multicast-control")?,
            dynamic_multicast_control: flag("feature-dynamic-multicast-control")?,
            headroom: flag("feature-xdp-headroom")?,
            control: flag("feature-ctrl-ring")?,
            queues: number("multi-queue-max-queues")?.unwrap_or(1),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn queue(tx: u32, ports: &[u32]) -> QueueKeys {
        QueueKeys {
            tx: GrantRef::new(tx),
            rx: GrantRef::new(tx + 1),
            ports: ports.iter().copied().map(RemotePort).collect(),
        }
    }

    fn text(shape: &NetShape, queues: &[QueueKeys]) -> String {
        let keys = offer(shape, queues);
        let lines: Vec<String> = keys.iter().map(|(k, v)| format!("{k}={v}")).collect();
        lines.join(" ")
    }

    #[test]
    fn one_queue_has_no_directory() {
        assert_eq!(
            text(&NetShape::LINUX, &[queue(8, &[3, 4])]),
            "tx-ring-ref=8 rx-ring-ref=9 event-channel-tx=3 event-channel-rx=4 request-rx-copy=1 \
             feature-rx-notify=1 feature-sg=1 feature-gso-tcpv4=1 feature-gso-tcpv6=1 \
             feature-ipv6-csum-offload=1"
        );
    }

    #[test]
    fn several_queues_have_directories_and_the_least_says_no() {
        let keys = text(&NetShape::LEAST, &[queue(8, &[3]), queue(10, &[4])]);
        assert!(keys.starts_with("multi-queue-num-queues=2 queue-0/tx-ring-ref=8"));
        assert!(keys.contains("queue-1/event-channel=4"), "{keys}");
        assert!(keys.contains("feature-no-csum-offload=1"), "{keys}");
    }
}
