//! What a block frontend offers.
//!
//! Keys and their meaning: `public/io/blkif.h`.

use std::collections::BTreeSet;

use ring_proto::GrantRef;

use super::{
    BadOffer, Clipped, OfferError, OfferFault, PORT_MAX, Values, bad, fetch, number, once,
};
use crate::path::BackendPath;
use crate::store::Store;

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
pub struct BlockOffer {
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

impl BlockOffer {
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

    fn offer(self, values: &Values) -> Result<BlockOffer, BadOffer> {
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
        Ok(BlockOffer {
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

fn protocol(values: &Values) -> Result<Option<String>, BadOffer> {
    let Some(value) = values.get("protocol") else {
        return Ok(None);
    };
    let fine = value.len() <= PROTOCOL_MAX && value.iter().all(u8::is_ascii_graphic);
    let text = std::str::from_utf8(value).ok().filter(|_| fine);
    let text = text.ok_or_else(|| bad("protocol", OfferFault::Text(Clipped::new(value))))?;
    Ok(Some(text.to_owned()))
}

#[cfg(test)]
mod tests;
