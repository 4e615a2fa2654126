//! From the guest to the tap.
//!
//! Everything is looked at in private memory: the fragments of a packet are copied there, and what is
//! parsed there is what is sent (NET-03).

use std::ops::Range;
use std::sync::Arc;
use std::time::Instant;

use gntdev::{CopyDirection, CopySegment, Gntdev, GrantError, LocalPages, Mapping};
use ring_proto::netif::{Gso, Receipt, TxChecksum, TxPacket, TxRing, TxStatus, Verdict};
use ring_proto::{DomId, Notify};

use super::layout::{Layout, Run, overwrite, read_head};
use super::outbox::{Outbox, Outgoing};
use super::{Clock, Means, QueueFault};
use crate::filter::Reason;
use crate::policy::Direction;
use crate::samples::Glimpse;
use crate::vif::Vif;
use crate::vnet::{self, VNET_LEN};

/// The transmitting half of a queue.
#[derive(Debug)]
pub(super) struct Tx {
    ring: TxRing<Mapping>,
    grants: Arc<Gntdev>,
    dom: DomId,
    vif: Arc<Vif>,
    /// Packets of this sweep, in their order.
    parcels: Vec<Parcel>,
    layout: Layout,
    outbox: Outbox,
    copies: Vec<CopySegment>,
    /// Packets that the last sweep has taken, good and bad.
    taken: u32,
    /// Nothing is taken before: the guest has used up its rate.
    held_until: Option<Instant>,
}

/// A packet on its way through private memory.
#[derive(Debug)]
struct Parcel {
    receipt: Receipt,
    /// Where it lies.
    runs: Range<usize>,
    len: u16,
    checksum: TxChecksum,
    gso: Option<Gso>,
    /// Which copies brought it.
    copies: Range<usize>,
}

/// Why a packet is not sent.
#[derive(Debug)]
enum Refusal {
    /// It is not what was said about it, or could not be had.
    Untrue(String),
    /// The policy does not let it out.
    Denied(Reason),
}

impl From<GrantError> for Refusal {
    fn from(error: GrantError) -> Self {
        Self::Untrue(error.to_string())
    }
}

impl Parcel {
    /// Gives a packet its place, and notes what is to be copied there.
    fn place(
        receipt: Receipt,
        packet: &TxPacket<'_>,
        layout: &mut Layout,
        copies: &mut Vec<CopySegment>,
    ) -> Self {
        let first_copy = copies.len();
        let runs = layout.place(packet.fragments, |fragment, at| {
            let (gref, offset, len) = (fragment.gref(), fragment.offset(), fragment.len());
            let from_guest = CopyDirection::FromGuest;
            copies.push(CopySegment::new(gref, offset, at, len, from_guest));
        });
        Self {
            receipt,
            runs,
            len: packet.len,
            checksum: packet.checksum,
            gso: packet.gso,
            copies: first_copy..copies.len(),
        }
    }
}

impl Tx {
    pub(super) fn new(ring: TxRing<Mapping>, grants: Arc<Gntdev>, vif: Arc<Vif>) -> Self {
        Self {
            ring,
            grants,
            dom: vif.dom(),
            vif,
            parcels: Vec::new(),
            layout: Layout::default(),
            outbox: Outbox::new(),
            copies: Vec::new(),
            taken: 0,
            held_until: None,
        }
    }

    /// Takes what the ring holds, as far as memory and rate go, and sends it; true if there may be
    /// more right now.
    pub(super) fn sweep(&mut self, means: &mut Means<'_>) -> Result<bool, QueueFault> {
        let taken = self.take(means);
        // What was taken before a fault is sent and answered all the same.
        if !self.copies.is_empty() {
            self.grants.copy(self.dom, means.pages, &mut self.copies)?;
        }
        let mut parcels = std::mem::take(&mut self.parcels);
        for parcel in parcels.drain(..) {
            match self.judge(&parcel, means) {
                Ok(()) => self.outbox.put(Outgoing {
                    receipt: parcel.receipt,
                    runs: parcel.runs,
                    len: parcel.len,
                }),
                Err(Refusal::Untrue(why)) => {
                    tracing::debug!(why, "packet refused");
                    means.counters.tx_refused += 1;
                    self.ring.settle(parcel.receipt, TxStatus::Error);
                }
                Err(Refusal::Denied(reason)) => {
                    means.counters.tx_denied[reason.index()] += 1;
                    self.ring.settle(parcel.receipt, TxStatus::Dropped);
                }
            }
        }
        self.parcels = parcels;
        self.copies.clear();
        let ring = &mut self.ring;
        self.outbox
            .send(means.tap, means.pages, &self.layout, |sent, is_taken| {
                means.counters.count_sent(sent.len, is_taken);
                let status = if is_taken {
                    TxStatus::Okay
                } else {
                    TxStatus::Dropped
                };
                ring.settle(sent.receipt, status);
            });
        self.layout.clear();
        taken
    }

    fn take(&mut self, means: &mut Means<'_>) -> Result<bool, QueueFault> {
        self.taken = 0;
        if self.is_held(means.clock) {
            return Ok(false);
        }
        self.held_until = None;
        let mut slots = 0;
        while self.layout.has_room(means.pages) {
            // As many as the ring has: a guest that refills it waits until others had their turn.
            if slots >= SLOTS {
                return Ok(true);
            }
            let Some((receipt, verdict)) = self.ring.take()? else {
                return Ok(false);
            };
            slots += usize::from(receipt.slots());
            self.taken += 1;
            let (settled, bytes, gso) = match verdict {
                Verdict::Packet(packet) => {
                    let (bytes, gso) = (packet.len, packet.gso);
                    let (layout, copies) = (&mut self.layout, &mut self.copies);
                    self.parcels
                        .push(Parcel::place(receipt, &packet, layout, copies));
                    (None, bytes, gso)
                }
                Verdict::Multicast(edit) if self.vif.edit_multicast(edit) => {
                    (Some((receipt, TxStatus::Okay)), 0, None)
                }
                Verdict::Multicast(_) => (Some((receipt, TxStatus::Error)), 0, None),
                Verdict::Bad(bad) => {
                    tracing::debug!(%bad, "packet refused");
                    means.counters.tx_refused += 1;
                    (Some((receipt, TxStatus::Error)), 0, None)
                }
            };
            if let Some((receipt, status)) = settled {
                self.ring.settle(receipt, status);
            }
            // What is refused costs us as much as what is sent (NET-11).
            self.held_until = self.vif.charge_tx(bytes, gso);
            if self.held_until.is_some() {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Makes a packet that was copied ready to be sent.
    fn judge(&self, parcel: &Parcel, means: &mut Means<'_>) -> Result<(), Refusal> {
        let copies = self.copies.get(parcel.copies.clone()).unwrap_or_default();
        if let Some(failed) = copies.iter().find(|copy| !copy.status.is_okay()) {
            let why = format!("a page of it could not be copied: {}", failed.status);
            return Err(Refusal::Untrue(why));
        }
        let runs = self.layout.runs(parcel.runs.clone());
        let is_plain = parcel.gso.is_none() && parcel.checksum != TxChecksum::Blank;
        let passes = means.filter.is_idle(Direction::Out);
        if is_plain && passes {
            return Ok(overwrite(means.pages, runs, 0, &vnet::PLAIN)?);
        }
        let mut head = [0; VNET_LEN + vnet::HEAD];
        let seen = read_head(means.pages, runs, &mut head)?;
        let head = head.get(VNET_LEN..seen).unwrap_or_default();
        if !passes {
            let (filter, clock) = (means.filter, means.clock);
            let verdict = filter.out(head, || clock.now());
            let seen = Glimpse {
                direction: Direction::Out,
                head,
                len: parcel.len.into(),
            };
            let noted = self
                .vif
                .note(filter, verdict, seen, means.page, || clock.now());
            noted.map_err(Refusal::Denied)?;
        }
        if is_plain {
            return Ok(overwrite(means.pages, runs, 0, &vnet::PLAIN)?);
        }
        self.finish(parcel, runs, head, means.pages)
    }

    /// Writes what is known about a packet that starts with `head` in front of it.
    fn finish(
        &self,
        parcel: &Parcel,
        runs: &[Run],
        head: &[u8],
        pages: &LocalPages,
    ) -> Result<(), Refusal> {
        let (len, max) = (usize::from(parcel.len), self.vif.max_frame());
        let frame = vnet::from_guest(head, len, max, parcel.checksum, parcel.gso)
            .map_err(|untrue| Refusal::Untrue(untrue.to_string()))?;
        if let Some((field, value)) = frame.patch {
            overwrite(pages, runs, VNET_LEN + field, &value)?;
        }
        Ok(overwrite(pages, runs, 0, &frame.header)?)
    }

    /// Shows the guest its answers.
    pub(super) fn publish(&mut self) -> Notify {
        self.ring.publish()
    }

    /// Asks to be woken for the next slot; true if some wait already and may be taken.
    pub(super) fn rearm(&mut self, clock: &Clock) -> Result<bool, QueueFault> {
        if self.is_held(clock) {
            return Ok(false);
        }
        Ok(self.ring.rearm()?)
    }

    fn is_held(&self, clock: &Clock) -> bool {
        self.held_until.is_some_and(|until| until > clock.now())
    }

    /// Do slots wait that nobody has looked at, and that may be taken?
    pub(super) fn is_waited_for(&mut self, clock: &Clock) -> Result<bool, QueueFault> {
        Ok(!self.is_held(clock) && self.ring.waiting(1)? > 0)
    }

    /// Packets that the last sweep has taken.
    pub(super) const fn taken(&self) -> u32 {
        self.taken
    }

    /// Rates have changed: the next packet tells whether the guest is held back.
    pub(super) const fn release(&mut self) {
        self.held_until = None;
    }

    /// When the guest may transmit again.
    pub(super) const fn held_until(&self) -> Option<Instant> {
        self.held_until
    }
}

/// Slots that are taken in one sweep.
const SLOTS: usize = 256;
