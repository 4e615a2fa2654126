//! The control ring of an honest frontend, as a Windows guest uses it: one message at a time.

use std::sync::Arc;
use std::time::Instant;

use anyhow::ensure;
use gntdev::{Access, PAGE_SIZE};
use ring_proto::netif::{CONTROL_RING, ControlAnswer, ControlSent, control_type};
use ring_proto::{FrontRing, GrantRef, Notify};

use super::NetMisbehaviour;
use crate::frontend::buffers::Buffers;
use crate::frontend::walk::PATIENCE;
use crate::sim::hypervisor::{GuestDomain, GuestPages, GuestPort};

/// A control ring and its event channel.
#[derive(Debug)]
pub struct Control {
    ring: FrontRing<Arc<GuestPages>>,
    gref: GrantRef,
    port: GuestPort,
    buffers: Buffers,
    next_id: u16,
}

impl Control {
    /// Sets up the ring, whose indices start at `start`, its grant and its event channel.
    ///
    /// # Errors
    /// The guest is out of pages, grants or ports.
    pub fn new(domain: &Arc<GuestDomain>, start: u32) -> anyhow::Result<Self> {
        let pages = Arc::new(domain.allocate(1)?);
        let gref = domain.grant(pages.frame(0), Access::ReadWrite)?;
        Ok(Self {
            ring: FrontRing::init_at(pages, CONTROL_RING, start)?,
            gref,
            port: domain.alloc_port()?,
            buffers: Buffers::new(Arc::clone(domain)),
            next_id: 0xfffe,
        })
    }

    /// The keys that say where it is.
    #[must_use]
    pub fn keys(&self) -> Vec<(String, String)> {
        vec![
            ("ctrl-ring-ref".into(), self.gref.to_string()),
            ("event-channel-ctrl".into(), self.port.port().0.to_string()),
        ]
    }

    /// Sends a message, and waits for its answer.
    ///
    /// # Errors
    /// There is none within ten seconds, or it is to something else, or has a status that does not
    /// exist.
    pub fn ask(&mut self, kind: u16, data: [u32; 3]) -> anyhow::Result<ControlAnswer> {
        let id = self.next_id;
        self.next_id = id.wrapping_add(1);
        let sent = ControlSent { id, kind, data };
        self.ring.push_request(&sent.encode())?;
        if self.ring.publish() == Notify::Needed {
            self.port.notify()?;
        }
        let answer = self.answer()?;
        ensure!(
            (answer.id, answer.kind) == (id, kind) && answer.status <= 3,
            "{answer:?} to {sent:?}"
        );
        Ok(answer)
    }

    fn answer(&mut self) -> anyhow::Result<ControlAnswer> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some([head, status, data, rest]) = self.ring.take_response::<4>()? {
                if rest != 0 {
                    let what = "the last word of a control response";
                    return Err(NetMisbehaviour::Padding { what, found: rest }.into());
                }
                return Ok(ControlAnswer::decode([head, status, data]));
            }
            if !self.ring.rearm()? {
                let left = deadline.saturating_duration_since(Instant::now());
                ensure!(!left.is_zero(), "no answer within {PATIENCE:?}");
                self.port.wait(left)?;
            }
        }
    }

    /// As [`ask`](Self::ask), for what must be done; what was asked for.
    ///
    /// # Errors
    /// It is refused.
    pub fn order(&mut self, kind: u16, data: [u32; 3]) -> anyhow::Result<u32> {
        let answer = self.ask(kind, data)?;
        ensure!(answer.status == 0, "{answer:?} to {data:?}");
        Ok(answer.data)
    }

    /// Sets an algorithm: 0 is none, 1 Toeplitz.
    ///
    /// # Errors
    /// It is refused.
    pub fn algorithm(&mut self, number: u32) -> anyhow::Result<()> {
        let kind = control_type::SET_HASH_ALGORITHM;
        self.order(kind, [number, 0, 0]).map(drop)
    }

    /// Sets the kinds of hash that are wanted.
    ///
    /// # Errors
    /// They are refused.
    pub fn kinds(&mut self, bits: u32) -> anyhow::Result<()> {
        let kind = control_type::SET_HASH_FLAGS;
        self.order(kind, [bits, 0, 0]).map(drop)
    }

    /// Sets the key.
    ///
    /// # Errors
    /// It is refused, or its page is still in use afterwards.
    pub fn key(&mut self, key: &[u8]) -> anyhow::Result<()> {
        let len = u32::try_from(key.len())?;
        self.page(control_type::SET_HASH_KEY, key, [len, 0])
    }

    /// Sets the whole table of queues.
    ///
    /// # Errors
    /// It is refused, or its page is still in use afterwards.
    pub fn table(&mut self, queues: &[u32]) -> anyhow::Result<()> {
        let len = u32::try_from(queues.len())?;
        self.order(control_type::SET_HASH_MAPPING_SIZE, [len, 0, 0])?;
        match queues {
            [] => Ok(()),
            queues => self.entries(0, queues),
        }
    }

    /// Sets some entries of the table, from `offset` on.
    ///
    /// # Errors
    /// They are refused, or their page is still in use afterwards.
    pub fn entries(&mut self, offset: u32, queues: &[u32]) -> anyhow::Result<()> {
        let count = u32::try_from(queues.len())?;
        let bytes: Vec<u8> = queues
            .iter()
            .flat_map(|queue| queue.to_le_bytes())
            .collect();
        self.page(control_type::SET_HASH_MAPPING, &bytes, [count, offset])
    }

    /// Sends a message about bytes at the start of a page; the rest of the page is something else.
    fn page(&mut self, kind: u16, bytes: &[u8], [a, b]: [u32; 2]) -> anyhow::Result<()> {
        let lent = self.buffers.lend(Access::ReadOnly)?;
        let mut page = [0xff; PAGE_SIZE];
        page[..bytes.len()].copy_from_slice(bytes);
        ensure!(lent.memory.write(0, &page), "a page is short");
        let done = self.order(kind, [lent.gref.raw(), a, b]);
        self.buffers.take_back(lent)?;
        done.map(drop)
    }

    /// Ends its grant, after the backend has closed.
    ///
    /// # Errors
    /// The backend has the ring mapped still.
    pub(super) fn retire(self, domain: &GuestDomain) -> anyhow::Result<()> {
        Ok(domain.end_access(self.gref)?)
    }
}
