//! What a block frontend offers: its rings and its wishes, parsed out of nodes that the guest
//! writes.

mod network;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use ring_proto::GrantRef;

pub use self::network::{NetworkOffer, QueueOffer};

use crate::error::StoreError;
use crate::number::{self, NotANumber};
use crate::path::BackendPath;
use crate::store::Store;
use crate::transaction::Transaction;

/// The most event channels a domain can have (`EVTCHN_FIFO_NR_CHANNELS`).
pub const PORT_MAX: u32 = (1 << 17) - 1;
/// The longest text taken for a protocol name, in bytes.
const PROTOCOL_MAX: usize = 32;

/// What we advertised; an offer beyond it is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OfferLimits {
    /// `multi-queue-max-queues`, at least 1.
    pub queues: u32,
    /// `max-ring-page-order`: log2 of the pages of one ring.
    pub ring_page_order: u32,
}

/// A block frontend's offer. Having one tells you: the number of rings is within the limits, all
/// rings have the same power-of-two number of pages, no grant and no port is named twice, and every
/// port is in the range of ports. Whether the grants can be mapped and the ports be bound, only
/// trying will tell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FrontendOffer {
    /// The `protocol` key, if there is one: printable ASCII of at most 32 bytes, otherwise unknown
    /// to us.
    pub protocol: Option<String>,
    /// Whether the frontend keeps a pool of grants that may stay mapped (`feature-persistent`).
    pub persistent: bool,
    /// One for each queue, in order; never empty.
    pub rings: Vec<RingOffer>,
}

/// One ring.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RingOffer {
    /// Its pages, in order: 1, 2, 4 … of them.
    pub refs: Vec<GrantRef>,
    /// The frontend's event channel: 1 to [`PORT_MAX`].
    pub port: u32,
}

/// Why there is no offer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OfferError {
    /// The store did not answer: our trouble. Try again.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The guest's nodes are no offer: the device is closed.
    #[error(transparent)]
    Guest(#[from] BadOffer),
}

/// A key of the frontend that is missing or not acceptable. The text is safe to log: short and
/// printable.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("frontend's {key} {fault}")]
pub struct BadOffer {
    /// The key, relative to the frontend's directory.
    pub key: String,
    /// What is the matter with it.
    pub fault: OfferFault,
}

/// What is the matter with a key.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum OfferFault {
    /// It is not there.
    #[error("is missing")]
    Missing,
    /// It is no number, or too large.
    #[error("= {value} {why}")]
    Number {
        /// The value, escaped and cut.
        value: Clipped,
        /// Why not.
        why: NotANumber,
    },
    /// It is 0 and must not be.
    #[error("is 0")]
    Zero,
    /// The value stands in another key of this offer, too.
    #[error("= {0} is used twice")]
    Twice(u32),
    /// It is no printable text of at most 32 bytes.
    #[error("= {0} is no protocol name")]
    Text(Clipped),
}

/// A guest's value as it may be shown: escaped, at most 32 bytes of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Clipped(String);

impl Clipped {
    fn new(value: &[u8]) -> Self {
        let shown = value.get(..32).unwrap_or(value).escape_ascii();
        Self(if value.len() > 32 {
            format!("\"{shown}\"... ({} bytes)", value.len())
        } else {
            format!("\"{shown}\"")
        })
    }
}

impl fmt::Display for Clipped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Values of keys below the frontend's directory, as read.
pub type Values = BTreeMap<String, Vec<u8>>;

impl FrontendOffer {
    /// Reads the offer of the frontend that belongs to `device`, in one transaction: a half-written
    /// one is not seen.
    ///
    /// # Errors
    /// See [`OfferError`].
    pub fn read(
        store: &mut Store,
        device: &BackendPath,
        limits: OfferLimits,
    ) -> Result<Self, OfferError> {
        store.transaction(|tx| {
            let mut values = Values::new();
            let keys = Outline::KEYS.map(str::to_owned).to_vec();
            fetch(tx, device, keys, &mut values)?;
            let outline = Outline::parse(&values, limits)?;
            fetch(tx, device, outline.ring_keys(), &mut values)?;
            Ok(outline.offer(&values)?)
        })
    }

    /// Parses an offer out of values that were read already.
    ///
    /// # Errors
    /// The first key that is not acceptable.
    pub fn parse(values: &Values, limits: OfferLimits) -> Result<Self, BadOffer> {
        Outline::parse(values, limits)?.offer(values)
    }
}

/// The keys that tell which other keys there are.
struct Outline {
    protocol: Option<String>,
    persistent: bool,
    queues: u32,
    order: Option<u32>,
}

impl Outline {
    const KEYS: [&'static str; 4] = [
        "protocol",
        "feature-persistent",
        "multi-queue-num-queues",
        "ring-page-order",
    ];

    fn parse(values: &Values, limits: OfferLimits) -> Result<Self, BadOffer> {
        let queues = number(values, "multi-queue-num-queues", limits.queues)?.unwrap_or(1);
        if queues == 0 {
            return Err(bad("multi-queue-num-queues", OfferFault::Zero));
        }
        Ok(Self {
            protocol: protocol(values)?,
            persistent: number(values, "feature-persistent", 1)? == Some(1),
            queues,
            order: number(values, "ring-page-order", limits.ring_page_order)?,
        })
    }

    /// The directories of the queues: none with a single one (`blkif.h`, "Multi-queue").
    fn queue_prefixes(&self) -> Vec<String> {
        match self.queues {
            1 => vec![String::new()],
            queues => (0..queues).map(|queue| format!("queue-{queue}/")).collect(),
        }
    }

    /// The names of a ring's pages. `ring-page-order`, even when 0, means numbered names; Linux
    /// looks for nothing else, but some frontends write order 0 and the plain name.
    fn page_names(&self) -> Vec<String> {
        match self.order {
            None => vec!["ring-ref".to_owned()],
            Some(order) => (0..1_u32 << order.min(31))
                .map(|page| format!("ring-ref{page}"))
                .collect(),
        }
    }

    fn ring_keys(&self) -> Vec<String> {
        let mut names = self.page_names();
        if self.order == Some(0) {
            names.push("ring-ref".to_owned());
        }
        names.push("event-channel".to_owned());
        let below = |prefix: String| {
            names
                .iter()
                .map(move |name| format!("{prefix}{name}"))
                .collect::<Vec<_>>()
        };
        self.queue_prefixes().into_iter().flat_map(below).collect()
    }

    fn offer(self, values: &Values) -> Result<FrontendOffer, BadOffer> {
        let (mut refs_seen, mut ports_seen) = (BTreeSet::new(), BTreeSet::new());
        let mut rings = Vec::new();
        for prefix in self.queue_prefixes() {
            let mut refs = Vec::new();
            for name in self.page_names() {
                let key = self.present(values, &prefix, &name);
                refs.push(GrantRef::new(once(values, &key, u32::MAX, &mut refs_seen)?));
            }
            let key = format!("{prefix}event-channel");
            let port = once(values, &key, PORT_MAX, &mut ports_seen)?;
            if port == 0 {
                return Err(bad(&key, OfferFault::Zero));
            }
            rings.push(RingOffer { refs, port });
        }
        Ok(FrontendOffer {
            protocol: self.protocol,
            persistent: self.persistent,
            rings,
        })
    }

    fn present(&self, values: &Values, prefix: &str, name: &str) -> String {
        let (key, plain) = (format!("{prefix}{name}"), format!("{prefix}ring-ref"));
        let fall_back =
            self.order == Some(0) && !values.contains_key(&key) && values.contains_key(&plain);
        if fall_back { plain } else { key }
    }
}

/// Reads keys below the frontend's directory; those that are not there are left out.
fn fetch(
    tx: &mut Transaction<'_>,
    device: &BackendPath,
    keys: Vec<String>,
    values: &mut Values,
) -> Result<(), StoreError> {
    let paths: Vec<String> = keys.iter().map(|key| device.frontend_key(key)).collect();
    let found = tx.read_many(&paths)?;
    let present = keys.into_iter().zip(found);
    values.extend(present.filter_map(|(key, value)| Some((key, value?))));
    Ok(())
}

fn protocol(values: &Values) -> Result<Option<String>, BadOffer> {
    let Some(value) = values.get("protocol") else {
        return Ok(None);
    };
    let fine = value.len() <= PROTOCOL_MAX && value.iter().all(u8::is_ascii_graphic);
    let text = std::str::from_utf8(value).ok().filter(|_| fine);
    let text = text.ok_or_else(|| bad("protocol", OfferFault::Text(Clipped::new(value))))?;
    Ok(Some(text.to_owned()))
}

fn number(values: &Values, key: &str, limit: u32) -> Result<Option<u32>, BadOffer> {
    let Some(value) = values.get(key) else {
        return Ok(None);
    };
    let fault = |why| {
        bad(
            key,
            OfferFault::Number {
                value: Clipped::new(value),
                why,
            },
        )
    };
    number::decimal(value, limit).map(Some).map_err(fault)
}

/// A number that must be there, and nowhere else.
fn once(values: &Values, key: &str, limit: u32, seen: &mut BTreeSet<u32>) -> Result<u32, BadOffer> {
    let value = number(values, key, limit)?.ok_or_else(|| bad(key, OfferFault::Missing))?;
    if seen.insert(value) {
        Ok(value)
    } else {
        Err(bad(key, OfferFault::Twice(value)))
    }
}

fn bad(key: &str, fault: OfferFault) -> BadOffer {
    BadOffer {
        key: key.to_owned(),
        fault,
    }
}

#[cfg(test)]
mod tests;
