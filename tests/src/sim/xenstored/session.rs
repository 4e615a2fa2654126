//! What belongs to one connection.

use std::collections::BTreeMap;

use ring_proto::DomId;
use xenbus::wire::{Message, Op, PAYLOAD_MAX};

use super::access;
use super::transaction::Transaction;

/// The most that is kept for a client that does not read.
const OUTBOX_MAX: usize = 16 << 20;

/// A registered watch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Watch {
    /// Absolute, or special.
    pub(super) path: String,
    pub(super) token: Vec<u8>,
    /// Registered with a relative path, and told so.
    pub(super) relative: bool,
}

/// One client, without its socket.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) domain: DomId,
    pub(super) watches: Vec<Watch>,
    pub(super) transactions: BTreeMap<u32, Transaction>,
    pub(super) last_transaction: u32,
    pub(super) outbox: Vec<u8>,
    /// Has sent orders for the simulation itself: spared by its faults.
    pub(super) controls: bool,
    /// To be hung up on.
    pub(super) doomed: bool,
}

impl Session {
    pub(super) fn new(domain: DomId) -> Self {
        Self {
            domain,
            watches: vec![],
            transactions: BTreeMap::new(),
            last_transaction: 0,
            outbox: vec![],
            controls: false,
            doomed: false,
        }
    }

    pub(super) fn send(&mut self, message: &Message) {
        let sent = message.encode(PAYLOAD_MAX, &mut self.outbox);
        self.doomed |= sent.is_err() || self.outbox.len() > OUTBOX_MAX;
    }

    /// Tells of a change at `path` that `watch` covers.
    pub(super) fn tell(&mut self, watch: &Watch, path: &str) {
        let home = access::home(self.domain);
        let shown = if watch.relative {
            path.strip_prefix(&home).unwrap_or(path)
        } else {
            path
        };
        let payload = [shown.as_bytes(), b"\0", &watch.token, b"\0"].concat();
        self.send(&Message {
            op: Op::WatchEvent,
            request: 0,
            transaction: 0,
            payload,
        });
    }
}
