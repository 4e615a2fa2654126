//! From the guest to the tap.
//!
//! Everything is looked at in private memory: the fragments of a packet are copied side by side, and
//! what is parsed there is what is sent (NET-03). A frame starts behind room for its virtio header.

use std::ops::Range;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Instant;

use gntdev::{CopyDirection, CopySegment, Gntdev, LocalPages, Mapping};
use ring_proto::netif::{Fragment, Gso, Receipt, TxChecksum, TxRing, TxStatus, Verdict};
use ring_proto::{DomId, Notify};
use rustix::io::Errno;

use super::{Clock, QueueFault, sys};
use crate::metrics::Counters;
use crate::tap::TapQueue;
use crate::vif::Vif;
use crate::vnet::{self, FromGuest, VNET_LEN};

/// The transmitting half of a queue.
#[derive(Debug)]
pub(super) struct Tx {
    ring: TxRing<Mapping>,
    grants: Arc<Gntdev>,
    dom: DomId,
    vif: Arc<Vif>,
    pages: LocalPages,
    /// Packets of this sweep, in their order.
    parcels: Vec<Parcel>,
    copies: Vec<CopySegment>,
    /// Nothing is taken before: the guest has used up its rate.
    held_until: Option<Instant>,
}

/// A packet on its way through private memory.
#[derive(Debug)]
struct Parcel {
    receipt: Receipt,
    /// Where the frame starts; its virtio header is in front of it.
    at: usize,
    len: u16,
    checksum: TxChecksum,
    gso: Option<Gso>,
    /// Which copies brought it.
    copies: Range<usize>,
}

impl Tx {
    pub(super) fn new(
        ring: TxRing<Mapping>,
        grants: Arc<Gntdev>,
        vif: Arc<Vif>,
    ) -> Result<Self, gntdev::GrantError> {
        Ok(Self {
            ring,
            grants,
            dom: vif.dom(),
            vif,
            pages: LocalPages::new(PAGES)?,
            parcels: Vec::new(),
            copies: Vec::new(),
            held_until: None,
        })
    }

    /// Takes what the ring holds, as far as memory and rate go, and sends it; true if there may be
    /// more right now.
    pub(super) fn sweep(
        &mut self,
        tap: &TapQueue,
        counters: &mut Counters,
        clock: &Clock,
    ) -> Result<bool, QueueFault> {
        let taken = self.take(counters, clock);
        // What was taken before a fault is sent and answered all the same.
        if !self.copies.is_empty() {
            self.grants.copy(self.dom, &self.pages, &mut self.copies)?;
        }
        let mut parcels = std::mem::take(&mut self.parcels);
        for parcel in parcels.drain(..) {
            let status = self.send(&parcel, tap, counters);
            self.ring.settle(parcel.receipt, status);
        }
        self.parcels = parcels;
        self.copies.clear();
        taken
    }

    fn take(&mut self, counters: &mut Counters, clock: &Clock) -> Result<bool, QueueFault> {
        if self.held_until.is_some_and(|until| until > clock.now()) {
            return Ok(false);
        }
        self.held_until = None;
        let mut fill = 0;
        let mut slots = 0;
        while fill + ROOM <= self.pages.len() {
            // As many as the ring has: a guest that refills it waits until others had their turn.
            if slots >= SLOTS {
                return Ok(true);
            }
            let Some((receipt, verdict)) = self.ring.take()? else {
                return Ok(false);
            };
            slots += usize::from(receipt.slots());
            let packet = match verdict {
                Verdict::Packet(packet) => packet,
                Verdict::Multicast(edit) => {
                    let done = self.vif.edit_multicast(edit);
                    let status = if done {
                        TxStatus::Okay
                    } else {
                        TxStatus::Error
                    };
                    self.ring.settle(receipt, status);
                    continue;
                }
                Verdict::Bad(bad) => {
                    tracing::debug!(%bad, "packet refused");
                    counters.tx_refused += 1;
                    self.ring.settle(receipt, TxStatus::Error);
                    continue;
                }
            };
            let at = place(fill, packet.fragments);
            let first_copy = self.copies.len();
            stage(&mut self.copies, packet.fragments, at);
            let parcel = Parcel {
                receipt,
                at,
                len: packet.len,
                checksum: packet.checksum,
                gso: packet.gso,
                copies: first_copy..self.copies.len(),
            };
            fill = at + usize::from(packet.len);
            self.held_until = self.vif.charge_tx(packet.len);
            self.parcels.push(parcel);
            if self.held_until.is_some() {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Sends a packet that was copied, and says what the guest is told.
    fn send(&self, parcel: &Parcel, tap: &TapQueue, counters: &mut Counters) -> TxStatus {
        let mut copies = self
            .copies
            .get(parcel.copies.clone())
            .unwrap_or_default()
            .iter();
        if let Some(failed) = copies.find(|copy| !copy.status.is_okay()) {
            tracing::debug!(status = %failed.status, "the frontend's page could not be copied");
            counters.tx_refused += 1;
            return TxStatus::Error;
        }
        let len = usize::from(parcel.len);
        let mut head = [0; vnet::HEAD];
        let seen = len.min(head.len());
        let parsed = head
            .get_mut(..seen)
            .and_then(|head| self.pages.read(parcel.at, head).ok().map(|()| &*head))
            .map(|head| {
                let max = self.vif.max_frame();
                vnet::from_guest(head, len, max, parcel.checksum, parcel.gso)
            });
        let frame = match parsed {
            Some(Ok(frame)) => frame,
            Some(Err(why)) => {
                tracing::debug!(%why, "packet refused");
                counters.tx_refused += 1;
                return TxStatus::Error;
            }
            None => return TxStatus::Error,
        };
        let sent = self.put_headers(parcel.at, &frame).and_then(|at| {
            let whole = (at, VNET_LEN + len);
            sys::send(tap.as_fd(), &self.pages, whole)
        });
        match sent {
            Ok(_) => {
                counters.tx_frames += 1;
                counters.tx_bytes += u64::from(parcel.len);
                TxStatus::Okay
            }
            // The interface is down, or its queue is full: what a cable that is not plugged in does.
            Err(errno) => {
                tracing::debug!(%errno, "the tap has not taken a frame");
                counters.tx_dropped += 1;
                TxStatus::Dropped
            }
        }
    }
}

impl Tx {
    /// Writes what is known about the frame at `at` in front of it: where that starts.
    fn put_headers(&self, at: usize, frame: &FromGuest) -> Result<usize, Errno> {
        let header = at - VNET_LEN;
        if let Some((field, value)) = frame.patch {
            let patched = self.pages.write(at + field, &value);
            patched.map_err(|_outside| Errno::FAULT)?;
        }
        let written = self.pages.write(header, &frame.header);
        written.map_err(|_outside| Errno::FAULT)?;
        Ok(header)
    }

    /// Shows the guest its answers.
    pub(super) fn publish(&mut self) -> Notify {
        self.ring.publish()
    }

    /// Asks to be woken for the next slot; true if some wait already and may be taken.
    pub(super) fn rearm(&mut self, clock: &Clock) -> Result<bool, QueueFault> {
        if self.held_until.is_some_and(|until| until > clock.now()) {
            return Ok(false);
        }
        Ok(self.ring.rearm()?)
    }

    /// Do slots wait that nobody has looked at?
    pub(super) fn is_waited_for(&mut self) -> Result<bool, QueueFault> {
        Ok(self.ring.waiting(1)? > 0)
    }

    /// When the guest may transmit again.
    pub(super) const fn held_until(&self) -> Option<Instant> {
        self.held_until
    }
}

/// Where a packet goes in private memory. A copy that crosses one of our pages is two operations for
/// the hypervisor, so the first fragment ends where a page does if others follow, which are pages as
/// a rule; and a lone one stays inside a page.
fn place(fill: usize, fragments: &[Fragment]) -> usize {
    let first = fragments
        .first()
        .map_or(0, |first| usize::from(first.len()));
    let least = fill + VNET_LEN;
    let end = (least + first).next_multiple_of(PAGE);
    match fragments {
        [_, _, ..] => end - first,
        _ if least % PAGE + first <= PAGE => least,
        _ => end - first,
    }
}

fn stage(copies: &mut Vec<CopySegment>, fragments: &[Fragment], mut at: usize) {
    for fragment in fragments {
        let (offset, len) = (fragment.offset(), fragment.len());
        let copy = CopySegment::new(fragment.gref(), offset, at, len, CopyDirection::FromGuest);
        copies.push(copy);
        at += usize::from(len);
    }
}

const PAGE: usize = 4096;
/// Private pages of a queue for transmitting: some of the longest packets at once.
const PAGES: usize = 128;
/// What the longest packet may take up: its header, itself, and what is left free to align it.
const ROOM: usize = VNET_LEN + 65_535 + PAGE;
/// Slots that are taken in one sweep.
const SLOTS: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;
    use ring_proto::GrantRef;

    #[test]
    fn packets_never_overlap_and_have_room_for_their_header() {
        for fill in (0..3 * PAGE).step_by(7) {
            for first in [14, 66, 1514, 4083, 4084, 4085, 4096] {
                for more in [false, true] {
                    let fragments = fragments(first, more);
                    let at = place(fill, &fragments);
                    assert!(at >= fill + VNET_LEN && at <= fill + ROOM - 65_535);
                    if more {
                        assert_eq!((at + usize::from(first)) % PAGE, 0);
                    } else {
                        assert!(at % PAGE + usize::from(first) <= PAGE);
                    }
                }
            }
        }
    }

    /// By the only way to a fragment: the assembler.
    fn fragments(first: u16, more: bool) -> Vec<Fragment> {
        use ring_proto::netif::{Assembler, TxOffer, Verdict};
        let offer = TxOffer {
            max_frame: 65_535,
            gso_v4: false,
            gso_v6: false,
            gso_floor: std::num::NonZeroU16::MIN,
        };
        let mut assembler = Assembler::new(offer);
        let gref = GrantRef::new(7).raw();
        let len = u32::from(first) + if more { 100 } else { 0 };
        let mut slots = vec![[gref, if more { 4 << 16 } else { 0 }, len << 16]];
        if more {
            slots.push([gref, 0, 100 << 16]);
        }
        for slot in slots {
            if let Some(done) = assembler.push(slot).unwrap() {
                let Verdict::Packet(packet) = done.verdict else {
                    panic!("no packet: {done:?}");
                };
                return packet.fragments.to_vec();
            }
        }
        panic!("incomplete");
    }
}
