//! From the tap to the guest.
//!
//! A frame is fetched only when the guest has posted buffers for the longest that there may be, so
//! whatever comes out of the tap can be placed at once and nothing is kept here. A guest that posts
//! none for too long loses its carrier, and with it what waits: nobody's memory fills up (NET-12).

mod cut;
mod handed;
mod held;
mod stall;

use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use gntdev::{CopyDirection, CopySegment, Gntdev, Mapping};
use ring_proto::netif::{Hash, MAX_RX_FRAME, RxFeatures, RxPlan, RxRing, RxSlot};
use ring_proto::{DomId, Notify};
use rustix::io::Errno;

use held::Held;
use stall::Stall;

use super::steer::{Route, Steer};
use super::{Clock, Means, QueueFault, sys};
use crate::metrics::Counters;
use crate::policy::Direction;
use crate::samples::Glimpse;
use crate::vif::Vif;
use crate::vnet::{self, Pieces, ToGuest, VNET_LEN};

/// The receiving half of a queue.
#[derive(Debug)]
pub(super) struct Rx {
    ring: RxRing<Mapping>,
    grants: Arc<Gntdev>,
    dom: DomId,
    vif: Arc<Vif>,
    features: RxFeatures,
    /// If the guest has a control ring.
    steer: Option<Steer>,
    /// Requests that the longest frame takes.
    most: u32,
    /// So many wait, as far as is known.
    room: bool,
    /// The tap may hold frames.
    frames: bool,
    stall: Stall,
    copies: Vec<CopySegment>,
    owners: Vec<RxSlot>,
    placed: Vec<Placed>,
    /// A packet of which the guest has not got all pieces, and its hash, which is theirs: nothing else
    /// is fetched before.
    cutting: Option<(Pieces, Option<Hash>)>,
    /// Nothing is fetched before: the guest has received what it may.
    held_until: Option<Instant>,
}

/// A frame that is to be copied.
#[derive(Debug)]
struct Placed {
    /// In so many copies.
    copies: usize,
    len: usize,
}

impl Rx {
    pub(super) fn new(
        ring: RxRing<Mapping>,
        grants: Arc<Gntdev>,
        vif: Arc<Vif>,
        steer: Option<Steer>,
    ) -> Self {
        let features = vif.rx_features();
        Self {
            ring,
            grants,
            dom: vif.dom(),
            most: features.most_requests(vif.mtu()),
            vif,
            features,
            steer,
            room: false,
            frames: true,
            stall: Stall::default(),
            copies: Vec::new(),
            owners: Vec::new(),
            placed: Vec::new(),
            cutting: None,
            held_until: None,
        }
    }

    /// The tap is readable.
    pub(super) const fn note_frames(&mut self) {
        self.frames = true;
    }

    /// May a frame be fetched, so that the tap is worth waiting for?
    pub(super) const fn wants_frames(&self) -> bool {
        self.room && self.held_until.is_none()
    }

    /// Brings the guest what the tap holds, as far as its buffers go; true if there may be more
    /// right now.
    pub(super) fn sweep(&mut self, means: &mut Means<'_>) -> Result<bool, QueueFault> {
        self.follow_changes();
        let more = !self.is_held(means.clock) && self.fetch(means)?;
        self.deliver(means)?;
        self.watch_stall(means)?;
        Ok(more)
    }

    /// Moves frames from the tap into private memory, and decides where each goes.
    fn fetch(&mut self, means: &mut Means<'_>) -> Result<bool, QueueFault> {
        let mut fill = self.fetch_handed(means)?;
        // Those that go elsewhere take up no room here: there is another bound.
        let mut left = FRAMES;
        while (self.frames || self.cutting.is_some()) && left > 0 && self.look_for_room()? {
            if self.held_until.is_some() {
                break;
            }
            left -= 1;
            if fill + ROOM > means.pages.len() {
                return Ok(true);
            }
            let at = fill + PAGE;
            if let Some(held) = self.put_piece(Held::at(means.pages, at), means.counters)? {
                fill = held.end().next_multiple_of(PAGE);
                continue;
            }
            if !self.frames {
                break;
            }
            let header = at - VNET_LEN;
            let got = match sys::receive(means.tap.as_fd(), means.pages, (header, VNET_LEN + READ))
            {
                Ok(got) => got,
                Err(Errno::INTR) => continue,
                Err(Errno::AGAIN) => {
                    self.frames = false;
                    break;
                }
                Err(errno) => return Err(QueueFault::Tap(errno.into())),
            };
            let held = Held::at(means.pages, at).of(got.saturating_sub(VNET_LEN));
            if self.place(held, means)? {
                fill = held.end().next_multiple_of(PAGE);
            }
        }
        Ok(false)
    }

    /// Looks at a frame, and places it; false if it is not for this guest, or not for this queue.
    fn place(&mut self, held: Held<'_>, means: &mut Means<'_>) -> Result<bool, QueueFault> {
        if held.len() > FRAME {
            means.counters.rx_long += 1;
            return Ok(false);
        }
        let mut head = [0; VNET_LEN + vnet::HEAD];
        let head = held.head(&mut head)?;
        let Some((header, head)) = head.split_first_chunk::<VNET_LEN>() else {
            return Ok(false);
        };
        if !self.vif.hears(head) {
            means.counters.rx_filtered += 1;
            return Ok(false);
        }
        if !means.filter.is_idle(Direction::In) {
            let (filter, clock) = (means.filter, means.clock);
            let verdict = filter.incoming(head, || clock.now());
            let seen = Glimpse {
                direction: Direction::In,
                head,
                len: held.len(),
            };
            let now = || clock.now();
            if let Err(reason) = self.vif.note(filter, verdict, seen, means.page, now) {
                means.counters.rx_denied[reason.index()] += 1;
                return Ok(false);
            }
        }
        let packets = vnet::packets(header, held.len());
        self.held_until = self.vif.charge_rx(held.len() as u64, packets);
        let hash = match self.steer.as_ref().map(|steer| steer.route(head)) {
            None => None,
            Some(Route::Here(hash)) => hash,
            Some(Route::Queue(queue, hash)) => {
                self.hand_over(held, queue, hash, means.counters)?;
                return Ok(false);
            }
        };
        self.admit(held, header, head, hash, means.counters)
    }

    /// Places a frame that belongs to this queue, whole or cut up; false if it takes up no room now.
    fn admit(
        &mut self,
        held: Held<'_>,
        header: &vnet::Header,
        head: &[u8],
        hash: Option<Hash>,
        counters: &mut Counters,
    ) -> Result<bool, QueueFault> {
        let told = match vnet::to_guest(header, head) {
            Ok(ToGuest::Cut(gso)) => {
                self.start_cutting(held, gso, hash, counters)?;
                return Ok(false);
            }
            told => told.map_err(|unknown| unknown.to_string()),
        };
        let plan = told.and_then(|told| held.plan(self.features, told, head, hash));
        self.put(held, plan, counters)
    }

    /// Places a frame as planned, unless it must not be given to the guest; whether it was placed.
    fn put(
        &mut self,
        held: Held<'_>,
        plan: Result<RxPlan, String>,
        counters: &mut Counters,
    ) -> Result<bool, QueueFault> {
        let plan = match plan {
            Ok(plan) => plan,
            Err(why) => {
                tracing::debug!(why, "frame not given to the guest");
                counters.rx_refused += 1;
                return Ok(false);
            }
        };
        let (copies, owners) = (&mut self.copies, &mut self.owners);
        let before = copies.len();
        let placed = self.ring.place(&plan, |piece| {
            let local = held.start() + piece.from as usize;
            let to_guest = CopyDirection::ToGuest;
            let (offset, len) = (piece.offset, piece.len);
            copies.push(CopySegment::new(piece.gref, offset, local, len, to_guest));
            owners.push(piece.slot);
        })?;
        if placed {
            self.placed.push(Placed {
                copies: self.copies.len() - before,
                len: held.len(),
            });
        } else {
            // Longer than the MTU was when the guest connected.
            counters.rx_long += 1;
        }
        Ok(placed)
    }

    /// Copies what was placed. The guest is told where that was not possible.
    fn deliver(&mut self, means: &mut Means<'_>) -> Result<(), QueueFault> {
        if self.copies.is_empty() {
            return Ok(());
        }
        self.grants.copy(self.dom, means.pages, &mut self.copies)?;
        let mut copies = self.copies.iter().zip(&self.owners);
        for frame in self.placed.drain(..) {
            let mut is_whole = true;
            for (copy, slot) in copies.by_ref().take(frame.copies) {
                if !copy.status.is_okay() {
                    tracing::debug!(status = %copy.status, "the frontend's buffer could not be filled");
                    is_whole = false;
                    self.ring.fail(*slot);
                }
            }
            means.counters.count_received(frame.len, is_whole);
        }
        self.copies.clear();
        self.owners.clear();
        Ok(())
    }

    fn look_for_room(&mut self) -> Result<bool, QueueFault> {
        self.room = self.ring.waiting(self.most)? >= self.most;
        Ok(self.room)
    }

    /// Takes over what was changed while the queue runs.
    fn follow_changes(&mut self) {
        let features = RxFeatures {
            hash: self.steer.as_mut().is_some_and(Steer::follow),
            ..self.vif.rx_features()
        };
        if features != self.features {
            self.most = features.most_requests(self.vif.mtu());
            self.features = features;
        }
    }

    /// A guest that has not posted buffers for too long loses its carrier until it does.
    fn watch_stall(&mut self, means: &mut Means<'_>) -> Result<(), QueueFault> {
        // Where nothing waits, nobody has looked.
        if self.room || self.stall.is_on() && self.look_for_room()? {
            if self.stall.ends() {
                self.vif.note_flowing(means.tap);
            }
            return Ok(());
        }
        let steer = self.steer.as_ref();
        let waits = || steer.is_some_and(Steer::holds_frames) || means.tap.has_frames();
        match self.stall.goes_on(means.clock.now(), waits) {
            stall::Verdict::Wait => return Ok(()),
            stall::Verdict::Begins => self.vif.note_stalled(means.tap),
            stall::Verdict::Lasts => {}
        }
        self.drop_frames(means)
    }

    /// Throws away what waits, but not for ever: without carrier nothing comes after it.
    fn drop_frames(&mut self, means: &mut Means<'_>) -> Result<(), QueueFault> {
        if self.cutting.take().is_some() {
            means.counters.rx_dropped += 1;
        }
        for _ in 0..DROPS {
            if self.steer.as_mut().and_then(Steer::take).is_none() {
                break;
            }
            means.counters.rx_dropped += 1;
        }
        for _ in 0..DROPS {
            match sys::receive(means.tap.as_fd(), means.pages, (PAGE, VNET_LEN + FRAME)) {
                Ok(_) => means.counters.rx_dropped += 1,
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => break,
                Err(errno) => return Err(QueueFault::Tap(errno.into())),
            }
        }
        Ok(())
    }

    /// Shows the guest its answers.
    pub(super) fn publish(&mut self) -> Notify {
        self.ring.publish()
    }

    /// Asks to be woken when there is room again; true if there is, and frames wait for it.
    pub(super) fn rearm(&mut self, clock: &Clock) -> Result<bool, QueueFault> {
        if !self.room {
            self.room = self.ring.rearm(self.most)?;
        }
        Ok(self.room && self.has_frames() && !self.is_held(clock))
    }

    /// May the guest receive nothing now?
    fn is_held(&mut self, clock: &Clock) -> bool {
        self.held_until = self.held_until.filter(|&until| until > clock.now());
        self.held_until.is_some()
    }

    /// Rates have changed: the next frame tells whether the guest is held back.
    pub(super) const fn release(&mut self) {
        self.held_until = None;
    }

    /// When the guest may receive again.
    pub(super) const fn held_until(&self) -> Option<Instant> {
        self.held_until
    }

    /// Are there frames that want to be placed, as far as is known?
    fn has_frames(&self) -> bool {
        self.frames || self.cutting.is_some() || self.has_handed()
    }

    /// Has the guest posted buffers that were waited for?
    pub(super) fn is_waited_for(&mut self) -> Result<bool, QueueFault> {
        Ok(!self.room && self.look_for_room()?)
    }

    /// When to look again without being woken: for a stall, or for buffers of a guest that does not
    /// tell.
    pub(super) fn look_at(&self) -> Option<Instant> {
        let untold = if self.vif.tells_of_buffers() {
            None
        } else if self.stall.is_on() {
            Some(STALLED)
        } else if self.stall.is_near() && self.has_frames() {
            Some(UNTOLD)
        } else {
            None
        };
        let untold = untold.map(|pause| Instant::now() + pause);
        untold.or_else(|| self.stall.verdict_at())
    }
}

const PAGE: usize = 4096;
const FRAME: usize = MAX_RX_FRAME as usize;
/// What is read at most: a byte too many tells of a frame that is too long.
const READ: usize = FRAME + 1;
/// What the longest frame may take up: its header at the end of a page, and itself from the next
/// page on, so that it is cut where our pages are.
const ROOM: usize = PAGE + READ.next_multiple_of(PAGE);
/// Frames of the tap, and of the inbox, that are looked at in one sweep.
const FRAMES: u32 = 512;
/// How often a frontend without `feature-rx-notify` is looked at while frames wait.
const UNTOLD: Duration = Duration::from_millis(5);
/// The same while it has no carrier: its host draws its conclusions from that only once a second.
const STALLED: Duration = Duration::from_millis(500);
/// Frames that are thrown away at once: more than a tap keeps.
const DROPS: usize = 4096;
