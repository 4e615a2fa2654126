//! From the tap to the guest.
//!
//! A frame is fetched only when the guest has posted buffers for the longest that there may be, so
//! whatever comes out of the tap can be placed at once and nothing is kept here. A guest that posts
//! none for too long loses its carrier, and with it what waits: nobody's memory fills up (NET-12).

use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use gntdev::{CopyDirection, CopySegment, Gntdev, GrantError, LocalPages, Mapping};
use ring_proto::netif::{
    Gso, Hash, Ip, MAX_RX_FRAME, RxFeatures, RxOffload, RxPlan, RxRing, RxSlot,
};
use ring_proto::{DomId, Notify};
use rustix::io::Errno;

use super::steer::{Route, Steer};
use super::{Clock, QueueFault, sys};
use crate::headers::{self, Transport};
use crate::metrics::Counters;
use crate::steering::Handed;
use crate::tap::TapQueue;
use crate::vif::Vif;
use crate::vnet::{self, Pieces, ToGuest, VNET_LEN};

/// The receiving half of a queue.
#[derive(Debug)]
pub(super) struct Rx {
    ring: RxRing<Mapping>,
    grants: Arc<Gntdev>,
    dom: DomId,
    vif: Arc<Vif>,
    pages: LocalPages,
    features: RxFeatures,
    /// If the guest has a control ring.
    steer: Option<Steer>,
    /// Requests that the longest frame takes.
    most: u32,
    /// So many wait, as far as is known.
    room: bool,
    /// The tap may hold frames.
    frames: bool,
    /// There has been no room since.
    without_room: Option<Instant>,
    /// The carrier was taken away for it.
    stalled: bool,
    copies: Vec<CopySegment>,
    owners: Vec<RxSlot>,
    /// A packet of which the guest has not got all pieces: nothing else is fetched before.
    cutting: Option<Pieces>,
}

impl Rx {
    pub(super) fn new(
        ring: RxRing<Mapping>,
        grants: Arc<Gntdev>,
        vif: Arc<Vif>,
        steer: Option<Steer>,
    ) -> Result<Self, GrantError> {
        let features = vif.rx_features();
        Ok(Self {
            ring,
            grants,
            dom: vif.dom(),
            most: features.most_requests(vif.mtu()),
            vif,
            pages: LocalPages::new(PAGES)?,
            features,
            steer,
            room: false,
            frames: true,
            without_room: None,
            stalled: false,
            copies: Vec::new(),
            owners: Vec::new(),
            cutting: None,
        })
    }

    /// The tap is readable.
    pub(super) const fn note_frames(&mut self) {
        self.frames = true;
    }

    /// Another queue has read frames for this one.
    pub(super) fn note_handed(&mut self) {
        if let Some(steer) = &mut self.steer {
            steer.note_handed();
        }
    }

    /// For poll: readable when another queue has read frames for this one.
    pub(super) fn inbox(&self) -> Option<BorrowedFd<'_>> {
        self.steer.as_ref().and_then(Steer::wake_fd)
    }

    /// Is there room for a frame, so that the tap is worth waiting for?
    pub(super) const fn has_room(&self) -> bool {
        self.room
    }

    /// Brings the guest what the tap holds, as far as its buffers go; true if there may be more
    /// right now.
    pub(super) fn sweep(
        &mut self,
        tap: &TapQueue,
        counters: &mut Counters,
        clock: &Clock,
    ) -> Result<bool, QueueFault> {
        self.follow_changes();
        let more = self.fetch(tap, counters)?;
        self.deliver(counters)?;
        self.watch_stall(tap, counters, clock)?;
        Ok(more)
    }

    /// Moves frames from the tap into private memory, and decides where each goes.
    fn fetch(&mut self, tap: &TapQueue, counters: &mut Counters) -> Result<bool, QueueFault> {
        let mut fill = self.fetch_handed(counters)?;
        // Those that go elsewhere take up no room here: there is another bound.
        let mut left = FRAMES;
        while (self.frames || self.cutting.is_some()) && left > 0 && self.look_for_room()? {
            left -= 1;
            if fill + ROOM > self.pages.len() {
                return Ok(true);
            }
            let at = fill + PAGE;
            if let Some(len) = self.put_piece(at, counters)? {
                fill = (at + len).next_multiple_of(PAGE);
                continue;
            }
            if !self.frames {
                break;
            }
            let header = at - VNET_LEN;
            let got = match sys::receive(tap.as_fd(), &self.pages, (header, VNET_LEN + FRAME)) {
                Ok(got) => got,
                Err(Errno::INTR) => continue,
                Err(Errno::AGAIN) => {
                    self.frames = false;
                    break;
                }
                Err(errno) => return Err(QueueFault::Tap(errno.into())),
            };
            let len = got.saturating_sub(VNET_LEN);
            if self.place(at, len, counters)? {
                fill = (at + len).next_multiple_of(PAGE);
            }
        }
        Ok(false)
    }

    /// The same with frames that other queues have read; how much of the memory they take up, which
    /// leaves some for those of the tap.
    fn fetch_handed(&mut self, counters: &mut Counters) -> Result<usize, QueueFault> {
        let (mut fill, mut left) = (0, FRAMES);
        while fill < HANDED && left > 0 && self.cutting.is_none() && self.has_handed() {
            if !self.look_for_room()? {
                break;
            }
            left -= 1;
            let Some(frame) = self.steer.as_mut().and_then(Steer::take) else {
                break;
            };
            let at = fill + PAGE;
            self.pages.write(at - VNET_LEN, &frame.bytes)?;
            let Some((header, bytes)) = frame.bytes.split_first_chunk::<VNET_LEN>() else {
                continue;
            };
            let head = bytes.get(..vnet::HEAD).unwrap_or(bytes);
            let size = (at, bytes.len());
            if self.admit(size, header, head, frame.hash, counters)? {
                fill = (at + bytes.len()).next_multiple_of(PAGE);
            }
        }
        Ok(fill)
    }

    /// Looks at a frame of `len` bytes at `at`, and places it; false if it is not for this guest, or
    /// not for this queue.
    fn place(
        &mut self,
        at: usize,
        len: usize,
        counters: &mut Counters,
    ) -> Result<bool, QueueFault> {
        let mut head = [0; VNET_LEN + vnet::HEAD];
        let seen = (VNET_LEN + len).min(head.len());
        let Some(head) = head.get_mut(..seen) else {
            return Ok(false);
        };
        self.pages.read(at - VNET_LEN, head)?;
        let Some((header, head)) = head.split_first_chunk::<VNET_LEN>() else {
            return Ok(false);
        };
        if !self.vif.hears(head) {
            counters.rx_filtered += 1;
            return Ok(false);
        }
        let hash = match self.steer.as_ref().map(|steer| steer.route(head)) {
            None => None,
            Some(Route::Here(hash)) => hash,
            Some(Route::Queue(queue, hash)) => {
                self.hand_over((at, len), queue, hash, counters)?;
                return Ok(false);
            }
        };
        self.admit((at, len), header, head, hash, counters)
    }

    /// Gives the frame of `len` bytes at `at` to the queue that it belongs to.
    #[cold]
    fn hand_over(
        &self,
        (at, len): (usize, usize),
        queue: u32,
        hash: Option<Hash>,
        counters: &mut Counters,
    ) -> Result<(), QueueFault> {
        let Some(inbox) = self.steer.as_ref().and_then(|steer| steer.inbox_of(queue)) else {
            return Ok(());
        };
        let put = inbox.put(VNET_LEN + len, || {
            let mut bytes = vec![0; VNET_LEN + len].into_boxed_slice();
            self.pages.read(at - VNET_LEN, &mut bytes)?;
            Ok::<_, GrantError>(Handed { bytes, hash })
        })?;
        counters.rx_handed += 1;
        counters.rx_crowded += u64::from(!put);
        Ok(())
    }

    /// Places a frame of `len` bytes at `at` that belongs to this queue, whole or cut up; false if it
    /// takes up no room now.
    fn admit(
        &mut self,
        (at, len): (usize, usize),
        header: &vnet::Header,
        head: &[u8],
        hash: Option<Hash>,
        counters: &mut Counters,
    ) -> Result<bool, QueueFault> {
        let told = match vnet::to_guest(header, head) {
            Ok(ToGuest::Cut(gso)) => {
                self.start_cutting((at, len), gso, counters)?;
                return Ok(false);
            }
            told => told.map_err(|unknown| unknown.to_string()),
        };
        let plan = told.and_then(|told| self.plan((at, len), told, head, hash));
        self.put((at, len), plan, counters)
    }

    /// Places a frame as planned, unless it must not be given to the guest; whether it was placed.
    fn put(
        &mut self,
        (at, len): (usize, usize),
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
        let placed = self.ring.place(&plan, |piece| {
            let local = at + piece.from as usize;
            let to_guest = CopyDirection::ToGuest;
            let (offset, len) = (piece.offset, piece.len);
            copies.push(CopySegment::new(piece.gref, offset, local, len, to_guest));
            owners.push(piece.slot);
        })?;
        if placed {
            counters.rx_frames += 1;
            counters.rx_bytes += len as u64;
        } else {
            // Longer than the MTU was when the guest connected.
            counters.rx_dropped += 1;
        }
        Ok(placed)
    }

    /// Decides how a frame is given to the guest, and does what nobody has done that it does not do.
    fn plan(
        &self,
        (at, len): (usize, usize),
        told: ToGuest,
        head: &[u8],
        hash: Option<Hash>,
    ) -> Result<RxPlan, String> {
        let offload = match told {
            ToGuest::Offload(RxOffload::Blank(ip)) if !self.takes_blank(ip) => {
                let found = Transport::parse(head).ok_or("no transport")?;
                let offset = found.checksum_offset().ok_or("no checksum")?;
                self.complete((at, len), found.l4, usize::from(offset))?;
                RxOffload::Validated
            }
            ToGuest::Offload(offload) => offload,
            ToGuest::Cut(_) => return Err("a packet in pieces has no plan".to_owned()),
            ToGuest::Complete {
                start,
                offset,
                outermost,
            } => {
                self.complete((at, len), start.into(), offset.into())?;
                // Of another one inside, it says nothing about the frame.
                if outermost {
                    RxOffload::Validated
                } else {
                    RxOffload::Plain
                }
            }
        };
        let len = u32::try_from(len).unwrap_or(u32::MAX);
        let plan = self.features.plan(len, offload, hash);
        plan.map_err(|refusal| refusal.to_string())
    }

    const fn takes_blank(&self, ip: Ip) -> bool {
        match ip {
            Ip::V4 => self.features.blank_v4,
            Ip::V6 => self.features.blank_v6,
        }
    }

    /// Completes a checksum of the frame of `len` bytes at `at`, from `start` to its end.
    #[cold]
    fn complete(
        &self,
        (at, len): (usize, usize),
        start: usize,
        offset: usize,
    ) -> Result<(), String> {
        let field = start + offset;
        if field + 2 > len {
            return Err(format!("a checksum at {field} of {len} bytes"));
        }
        let outside = |error: GrantError| error.to_string();
        let (mut total, mut from) = (0, start);
        let mut piece = [0; 1024];
        while from < len {
            let bytes = piece.get_mut(..(len - from).min(1024)).unwrap_or_default();
            self.pages.read(at + from, bytes).map_err(outside)?;
            total = headers::sum(total, bytes);
            from += bytes.len();
        }
        let sum = match !headers::fold(total) {
            // UDP's word for "none".
            0 => 0xffff,
            sum => sum,
        };
        let written = self.pages.write(at + field, &sum.to_be_bytes());
        written.map_err(outside)
    }

    /// The guest gets the packet of `len` bytes at `at` in pieces, as it has room for them.
    #[cold]
    fn start_cutting(
        &mut self,
        (at, len): (usize, usize),
        gso: Gso,
        counters: &mut Counters,
    ) -> Result<(), QueueFault> {
        let mut frame = vec![0; len];
        self.pages.read(at, &mut frame)?;
        self.cutting = Pieces::of(frame, gso);
        if self.cutting.is_none() {
            counters.rx_refused += 1;
        }
        Ok(())
    }

    /// Places the next piece of a packet that is being cut up, through private memory at `at`; its
    /// length, or `None` if there is no such packet any more.
    fn put_piece(
        &mut self,
        at: usize,
        counters: &mut Counters,
    ) -> Result<Option<usize>, QueueFault> {
        let Some(pieces) = &mut self.cutting else {
            return Ok(None);
        };
        let Some(piece) = pieces.next() else {
            self.cutting = None;
            return Ok(None);
        };
        self.pages.write(at, &piece)?;
        let len = u32::try_from(piece.len()).unwrap_or(u32::MAX);
        let plan = self.features.plan(len, RxOffload::Validated, None);
        let plan = plan.map_err(|refusal| refusal.to_string());
        self.put((at, piece.len()), plan, counters)?;
        Ok(Some(piece.len()))
    }

    /// Copies what was placed. The guest is told where that was not possible.
    fn deliver(&mut self, counters: &mut Counters) -> Result<(), QueueFault> {
        if self.copies.is_empty() {
            return Ok(());
        }
        self.grants.copy(self.dom, &self.pages, &mut self.copies)?;
        for (copy, slot) in self.copies.iter().zip(&self.owners) {
            if !copy.status.is_okay() {
                tracing::debug!(status = %copy.status, "the frontend's buffer could not be filled");
                counters.rx_failed += 1;
                self.ring.fail(*slot);
            }
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
    fn watch_stall(
        &mut self,
        tap: &TapQueue,
        counters: &mut Counters,
        clock: &Clock,
    ) -> Result<(), QueueFault> {
        if self.room {
            self.without_room = None;
            if std::mem::take(&mut self.stalled) {
                self.vif.note_flowing(tap);
            }
            return Ok(());
        }
        let now = clock.now();
        let since = *self.without_room.get_or_insert(now);
        if now < since + STALL {
            return Ok(());
        }
        if !self.stalled {
            let handed = self.steer.as_ref().is_some_and(Steer::holds_frames);
            if !handed && !tap.has_frames() {
                self.without_room = Some(now);
                return Ok(());
            }
            self.stalled = true;
            self.vif.note_stalled(tap);
        }
        self.drop_frames(tap, counters)
    }

    /// Throws away what waits, but not for ever: without carrier nothing comes after it.
    fn drop_frames(&mut self, tap: &TapQueue, counters: &mut Counters) -> Result<(), QueueFault> {
        if self.cutting.take().is_some() {
            counters.rx_dropped += 1;
        }
        for _ in 0..DROPS {
            if self.steer.as_mut().and_then(Steer::take).is_none() {
                break;
            }
            counters.rx_dropped += 1;
        }
        for _ in 0..DROPS {
            match sys::receive(tap.as_fd(), &self.pages, (PAGE, VNET_LEN + FRAME)) {
                Ok(_) => counters.rx_dropped += 1,
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
    pub(super) fn rearm(&mut self) -> Result<bool, QueueFault> {
        if !self.room {
            self.room = self.ring.rearm(self.most)?;
        }
        Ok(self.room && (self.frames || self.has_handed()))
    }

    fn has_handed(&self) -> bool {
        self.steer.as_ref().is_some_and(Steer::has_handed)
    }

    /// Has the guest posted buffers that were waited for?
    pub(super) fn is_waited_for(&mut self) -> Result<bool, QueueFault> {
        Ok(!self.room && self.look_for_room()?)
    }

    /// When to look again without being woken: for a stall, or for buffers of a guest that does not
    /// tell.
    pub(super) fn look_at(&self) -> Option<Instant> {
        let since = self.without_room?;
        if !self.vif.tells_of_buffers() && (self.frames || self.has_handed()) {
            return Some(Instant::now() + UNTOLD);
        }
        (!self.stalled).then(|| since + STALL)
    }
}

const PAGE: usize = 4096;
/// Private pages of a queue for receiving: some of the longest frames at once.
const PAGES: usize = 128;
const FRAME: usize = MAX_RX_FRAME as usize;
/// What the longest frame may take up: its header at the end of a page, and itself from the next
/// page on, so that it is cut where our pages are.
const ROOM: usize = PAGE + FRAME.next_multiple_of(PAGE);
/// Frames of the tap, and of the inbox, that are looked at in one sweep.
const FRAMES: u32 = 512;
/// How much of the pages may be taken up by frames that other queues have read.
const HANDED: usize = PAGES * PAGE / 2;
/// How long a guest may go without room for a frame that waits.
const STALL: Duration = Duration::from_secs(10);
/// How often a frontend without `feature-rx-notify` is looked at while frames wait.
const UNTOLD: Duration = Duration::from_millis(5);
/// Frames that are thrown away at once: more than a tap keeps.
const DROPS: usize = 4096;
