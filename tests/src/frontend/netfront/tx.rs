//! The transmit ring of an honest frontend: packets out, responses in, every one checked.

use std::collections::VecDeque;
use std::sync::Arc;

use anyhow::{Context, ensure};
use gntdev::Access;
use ring_proto::netif::{Extra, TX_RING, TxAnswer, TxSent, tx_flag};
use ring_proto::{FrontRing, GrantRef, Notify};

use super::NetMisbehaviour;
use super::frame::Cut;
use crate::frontend::buffers::{Buffers, Lent};
use crate::sim::hypervisor::{GuestDomain, GuestPages};

/// What is in a page around a packet's bytes, for a backend that takes more than it should.
const CANARY: u8 = 0xc5;

/// A packet to be sent.
#[derive(Clone, Copy, Debug)]
pub struct Packet<'a> {
    /// All of its bytes.
    pub bytes: &'a [u8],
    /// How they lie in slots; together they are as long as the packet.
    pub cuts: &'a [Cut],
    /// What is said about the checksum ([`tx_flag`]).
    pub flags: u16,
    /// Extra infos.
    pub extras: &'a [Extra],
}

/// A packet that was answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sent {
    /// Its number, as [`Tx::send`] gave it.
    pub number: u64,
    /// 0, -1 or -2.
    pub status: i16,
}

/// A slot that the backend has.
#[derive(Debug)]
enum Slot {
    /// Of an extra info.
    Extra,
    Data {
        id: u16,
        lent: Lent,
        number: u64,
        last: bool,
    },
}

/// The transmitting half of a queue.
#[derive(Debug)]
pub struct Tx {
    ring: FrontRing<Arc<GuestPages>>,
    gref: GrantRef,
    buffers: Buffers,
    /// In the order of the ring.
    pending: VecDeque<Slot>,
    free_ids: VecDeque<u16>,
    /// The status of the packet that is being answered.
    status: Option<i16>,
    sent: u64,
    responses: u64,
}

impl Tx {
    pub(super) fn new(domain: &Arc<GuestDomain>, start: u32) -> anyhow::Result<Self> {
        let pages = Arc::new(domain.allocate(1)?);
        let gref = domain.grant(pages.frame(0), Access::ReadWrite)?;
        let slots = u16::try_from(TX_RING.slots())?;
        Ok(Self {
            ring: FrontRing::init_at(pages, TX_RING, start)?,
            gref,
            buffers: Buffers::new(Arc::clone(domain)),
            pending: VecDeque::new(),
            free_ids: (0..slots).collect(),
            status: None,
            sent: 0,
            responses: 0,
        })
    }

    /// The ring's page.
    #[must_use]
    pub const fn gref(&self) -> GrantRef {
        self.gref
    }

    /// Responses taken.
    #[must_use]
    pub const fn responses(&self) -> u64 {
        self.responses
    }

    /// Slots without a response.
    #[must_use]
    pub fn open(&self) -> usize {
        self.pending.len()
    }

    /// Writes a packet into the ring; its number, or `None` if the ring has no room for it now.
    ///
    /// # Errors
    /// The guest is out of pages or grants, or the cuts are not those of the packet.
    pub fn send(&mut self, packet: &Packet<'_>) -> anyhow::Result<Option<u64>> {
        let Packet {
            bytes,
            cuts,
            flags,
            extras,
        } = *packet;
        let total: usize = cuts.iter().map(|cut| usize::from(cut.len)).sum();
        ensure!(total == bytes.len(), "{cuts:?} are not {}", bytes.len());
        let room = (self.ring.slots() - self.ring.open()) as usize;
        if cuts.len() + extras.len() > room {
            return Ok(None);
        }
        let number = self.sent;
        self.sent += 1;
        let mut rest = bytes;
        for (at, &cut) in cuts.iter().enumerate() {
            let (now, later) = rest.split_at(usize::from(cut.len));
            rest = later;
            let last = at + 1 == cuts.len();
            let more = if last { 0 } else { tx_flag::MORE_DATA };
            let (flags, size) = match at {
                0 if extras.is_empty() => (flags | more, bytes.len()),
                0 => (flags | more | tx_flag::EXTRA_INFO, bytes.len()),
                _ => (more, now.len()),
            };
            let lent = self.lend(cut, now)?;
            let id = self.free_ids.pop_front().context("no id is free")?;
            self.ring.push_request(
                &TxSent::Data {
                    gref: lent.gref,
                    offset: cut.offset,
                    flags,
                    id,
                    size: u16::try_from(size)?,
                }
                .encode(),
            )?;
            self.pending.push_back(Slot::Data {
                id,
                lent,
                number,
                last,
            });
            if at == 0 {
                self.push_extras(extras)?;
            }
        }
        Ok(Some(number))
    }

    fn push_extras(&mut self, extras: &[Extra]) -> anyhow::Result<()> {
        for (at, &extra) in extras.iter().enumerate() {
            let last = at + 1 == extras.len();
            let extra = if last { extra } else { extra.followed() };
            self.ring.push_request(&TxSent::Extra(extra).encode())?;
            self.pending.push_back(Slot::Extra);
        }
        Ok(())
    }

    /// A page with some bytes in it, and canaries around them.
    fn lend(&mut self, cut: Cut, bytes: &[u8]) -> anyhow::Result<Lent> {
        let lent = self.buffers.lend(Access::ReadOnly)?;
        let mut page = [CANARY; gntdev::PAGE_SIZE];
        let at = usize::from(cut.offset);
        let place = page.get_mut(at..at + bytes.len());
        place
            .context("a cut leaves its page")?
            .copy_from_slice(bytes);
        ensure!(lent.memory.write(0, &page), "page is short");
        Ok(lent)
    }

    /// Shows the backend what was written.
    pub(super) fn publish(&mut self) -> Notify {
        self.ring.publish()
    }

    /// Takes and checks responses until a packet is answered completely.
    ///
    /// # Errors
    /// Whatever a backend must not do.
    pub fn take(&mut self) -> Result<Option<Sent>, NetMisbehaviour> {
        while let Some(words) = self.ring.take_response::<1>()? {
            self.responses += 1;
            let answer = TxAnswer::decode(words);
            if let Some(sent) = self.answered(answer)? {
                return Ok(Some(sent));
            }
        }
        Ok(None)
    }

    fn answered(&mut self, answer: TxAnswer) -> Result<Option<Sent>, NetMisbehaviour> {
        let TxAnswer { id: said, status } = answer;
        let (id, lent, number, last) = match self.pending.pop_front() {
            Some(Slot::Extra) if status == TxAnswer::NULL => return Ok(None),
            Some(Slot::Extra) => return Err(NetMisbehaviour::NotNull { status }),
            Some(Slot::Data {
                id,
                lent,
                number,
                last,
            }) => (id, lent, number, last),
            None => return Err(NetMisbehaviour::TxOrder { said, due: None }),
        };
        if said != id {
            let due = Some(id);
            return Err(NetMisbehaviour::TxOrder { said, due });
        }
        if !(-2..=0).contains(&status) {
            return Err(NetMisbehaviour::UnknownStatus { id, status });
        }
        let before = *self.status.get_or_insert(status);
        if before != status {
            let said = status;
            return Err(NetMisbehaviour::Divided { id, said, before });
        }
        let back = self.buffers.take_back(lent);
        back.map_err(|still| NetMisbehaviour::StillMapped { id, still })?;
        self.free_ids.push_back(id);
        if last {
            self.status = None;
        }
        Ok(last.then_some(Sent { number, status }))
    }

    /// Asks for an event at the next response; `true` if there is one already.
    ///
    /// # Errors
    /// The ring is broken.
    pub fn rearm(&mut self) -> Result<bool, NetMisbehaviour> {
        Ok(self.ring.rearm()?)
    }

    /// Ends all grants, after the backend has closed. Packets without a response are given up.
    pub(super) fn retire(mut self, domain: &GuestDomain) -> anyhow::Result<()> {
        for slot in self.pending.drain(..) {
            if let Slot::Data { lent, .. } = slot {
                self.buffers.take_back(lent)?;
            }
        }
        domain.end_access(self.gref)?;
        Ok(())
    }
}
