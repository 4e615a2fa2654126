//! What a block frontend writes to xenstore, and what it reads there.

use anyhow::{Context, ensure};
use evtchn::RemotePort;
use ring_proto::GrantRef;
use xenbus::Store;

use super::Shape;

/// Where a ring is.
#[derive(Clone, Debug)]
pub struct RingKeys {
    /// Its pages.
    pub refs: Vec<GrantRef>,
    /// Its event channel.
    pub port: RemotePort,
}

/// Where the keys of a queue are: in a folder of its own, if there are several.
pub(super) fn under_queue(number: usize, queues: usize) -> String {
    if queues > 1 {
        format!("queue-{number}/")
    } else {
        String::new()
    }
}

/// The keys of an offer, in the order in which Linux writes them (`xen-blkfront.c`, `talk_to_blkback`
/// and `write_per_ring_nodes`).
#[must_use]
pub fn offer(shape: &Shape, rings: &[RingKeys]) -> Vec<(String, String)> {
    let mut keys = Vec::new();
    if let Some(order) = shape.order {
        keys.push(("ring-page-order".into(), order.to_string()));
    }
    if rings.len() > 1 {
        let count = rings.len().to_string();
        keys.push(("multi-queue-num-queues".into(), count));
    }
    for (number, ring) in rings.iter().enumerate() {
        let under = under_queue(number, rings.len());
        for (page, gref) in ring.refs.iter().enumerate() {
            let name = match shape.order {
                Some(_) => format!("{under}ring-ref{page}"),
                None => format!("{under}ring-ref"),
            };
            keys.push((name, gref.to_string()));
        }
        keys.push((format!("{under}event-channel"), ring.port.0.to_string()));
    }
    if let Some(protocol) = shape.protocol.key() {
        keys.push(("protocol".into(), protocol.into()));
    }
    let persistent = u8::from(shape.persistent).to_string();
    keys.push(("feature-persistent".into(), persistent));
    keys
}

/// How the disk discards, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Discard {
    /// `discard-granularity`.
    pub granularity: u64,
    /// `discard-alignment`.
    pub alignment: u64,
    /// `discard-secure`.
    pub secure: bool,
}

/// What a backend says about a disk once it is connected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Disk {
    /// Size in units of 512 bytes, whatever the sector size.
    pub sectors: u64,
    /// Logical block size in bytes.
    pub sector_size: u64,
    /// Physical block size in bytes.
    pub physical_sector_size: u64,
    /// Bits: 1 CD-ROM, 2 removable, 4 read-only.
    pub info: u64,
    /// Flushes are carried out.
    pub flush: bool,
    /// Barriers are carried out.
    pub barrier: bool,
    /// Discards are carried out.
    pub discard: Option<Discard>,
    /// The backend keeps grants mapped if we reuse them.
    pub persistent: bool,
    /// Most segments of an indirect request; 0: none at all.
    pub max_indirect_segments: u16,
}

impl Disk {
    /// Reads it from the backend's directory with the defaults of the header, and refuses what Linux
    /// and Windows frontends refuse (FE-19).
    ///
    /// # Errors
    /// A required key is missing, or a value makes no sense.
    pub fn read(store: &mut Store, backend: &str) -> anyhow::Result<Self> {
        let mut number = |key: &str| number(store, backend, key);
        let sector_size = number("sector-size")?.context("sector-size is missing")?;
        let discard = match number("feature-discard")? {
            Some(1) => Some(Discard {
                granularity: number("discard-granularity")?.unwrap_or(sector_size),
                alignment: number("discard-alignment")?.unwrap_or(0),
                secure: number("discard-secure")? == Some(1),
            }),
            _ => None,
        };
        let indirect = number("feature-max-indirect-segments")?.unwrap_or(0);
        let disk = Self {
            sectors: number("sectors")?.context("sectors is missing")?,
            sector_size,
            physical_sector_size: number("physical-sector-size")?.unwrap_or(sector_size),
            info: number("info")?.context("info is missing")?,
            flush: number("feature-flush-cache")? == Some(1),
            barrier: number("feature-barrier")? == Some(1),
            discard,
            persistent: number("feature-persistent")? == Some(1),
            max_indirect_segments: u16::try_from(indirect).unwrap_or(u16::MAX),
        };
        let power = |bytes: u64| bytes >= 512 && bytes.is_power_of_two();
        ensure!(
            power(sector_size) && power(disk.physical_sector_size),
            "FE-19: {disk:?}"
        );
        ensure!(
            disk.sectors > 0 && disk.sectors.is_multiple_of(sector_size / 512),
            "FE-19: {disk:?}"
        );
        Ok(disk)
    }

    /// The guest must not write.
    #[must_use]
    pub const fn read_only(&self) -> bool {
        self.info & 4 != 0
    }
}

/// What a backend says it can do before a frontend decides (`InitWait`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// `max-ring-page-order`.
    pub order: u64,
    /// `multi-queue-max-queues`.
    pub queues: u64,
}

impl Limits {
    /// Reads them, with the defaults of the header.
    ///
    /// # Errors
    /// The store is lost, or a value is no number.
    pub fn read(store: &mut Store, backend: &str) -> anyhow::Result<Self> {
        Ok(Self {
            order: number(store, backend, "max-ring-page-order")?.unwrap_or(0),
            queues: number(store, backend, "multi-queue-max-queues")?.unwrap_or(1),
        })
    }
}

fn number(store: &mut Store, backend: &str, key: &str) -> anyhow::Result<Option<u64>> {
    let path = format!("{backend}/{key}");
    let Some(value) = store.read(&path)? else {
        return Ok(None);
    };
    let text = String::from_utf8_lossy(&value).into_owned();
    let number = text.parse();
    number
        .with_context(|| format!("{path} = {text:?} is no number"))
        .map(Some)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ring(refs: &[u32], port: u32) -> RingKeys {
        RingKeys {
            refs: refs.iter().copied().map(GrantRef::new).collect(),
            port: RemotePort(port),
        }
    }

    fn text(keys: &[(String, String)]) -> String {
        let lines: Vec<String> = keys.iter().map(|(k, v)| format!("{k}={v}")).collect();
        lines.join(" ")
    }

    #[test]
    fn one_page_is_written_as_old_frontends_do() {
        assert_eq!(
            text(&offer(&Shape::LINUX, &[ring(&[8], 3)])),
            "ring-ref=8 event-channel=3 protocol=x86_64-abi feature-persistent=1"
        );
    }

    #[test]
    fn a_page_order_of_zero_makes_the_reference_numbered() {
        let shape = Shape {
            order: Some(0),
            ..Shape::LINUX
        };
        assert!(text(&offer(&shape, &[ring(&[8], 3)])).contains("ring-ref0=8"));
    }

    #[test]
    fn several_queues_have_directories() {
        let shape = Shape {
            order: Some(1),
            queues: 2,
            ..Shape::LINUX
        };
        let keys = text(&offer(&shape, &[ring(&[8, 9], 3), ring(&[10, 11], 4)]));
        assert!(keys.contains("multi-queue-num-queues=2"), "{keys}");
        assert!(
            keys.contains("queue-1/ring-ref1=11 queue-1/event-channel=4"),
            "{keys}"
        );
    }
}
