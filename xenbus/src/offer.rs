//! What frontends offer: their rings and their wishes, parsed out of nodes that guests write.

mod block;
mod network;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

pub use self::block::{BlockOffer, OfferLimits, RingOffer};
pub use self::network::{
    ControlOffer, LiveOffer, NetworkLimits, NetworkOffer, QueueOffer, XDP_HEADROOM_MAX,
};

use crate::error::StoreError;
use crate::number::{self, NotANumber};
use crate::path::BackendPath;
use crate::transaction::Transaction;

/// The most event channels a domain can have (`EVTCHN_FIFO_NR_CHANNELS`).
pub const PORT_MAX: u32 = (1 << 17) - 1;

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
