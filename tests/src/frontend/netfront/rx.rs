//! The receive ring of an honest frontend: buffers out, frames in, every response checked.

use std::collections::VecDeque;
use std::num::NonZeroU16;
use std::sync::Arc;

use anyhow::ensure;
use gntdev::{Access, PAGE_SIZE};
use ring_proto::netif::{Extra, Gso, Hash, HashKind, Ip, RX_RING, RxAnswer, RxSent, rx_flag};
use ring_proto::{FrontRing, GrantRef, Notify};

use super::frame::Sum;
use super::{NetMisbehaviour, NetShape};
use crate::frontend::buffers::{Buffers, Lent};
use crate::sim::hypervisor::{GuestDomain, GuestPages};

/// What buffers hold before they are filled.
const CANARY: u8 = 0xc5;

/// The most buffers a frame may take: Linux's `MAX_SKB_FRAGS` and the first.
const MOST_SLOTS: usize = 18;

/// The number of the algorithm.
const TOEPLITZ: u8 = 1;

/// A frame that has come.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Received {
    /// Its bytes; empty if the backend says that it could not copy them.
    pub bytes: Vec<u8>,
    /// What was said about the checksum ([`rx_flag`]).
    pub flags: u16,
    /// It is to be cut up.
    pub gso: Option<Gso>,
    /// Its hash.
    pub hash: Option<Hash>,
    /// The headroom that was said to be in front of it.
    pub headroom: Option<u16>,
    /// Buffers that it came in.
    pub buffers: usize,
    /// The backend could not copy all of it.
    pub failed: bool,
}

/// A buffer that the backend has.
#[derive(Debug)]
struct Posted {
    id: u16,
    lent: Lent,
}

/// The receiving half of a queue.
#[derive(Debug)]
pub struct Rx {
    ring: FrontRing<Arc<GuestPages>>,
    gref: GrantRef,
    shape: NetShape,
    buffers: Buffers,
    posted: VecDeque<Posted>,
    next_id: u16,
    /// Buffers to be kept posted.
    level: u32,
    /// Where the first bytes of a frame have to be.
    headrooms: [u16; 2],
    /// Frames may have a hash.
    hashes: bool,
    responses: u64,
}

impl Rx {
    pub(super) fn new(
        domain: &Arc<GuestDomain>,
        shape: NetShape,
        start: u32,
    ) -> anyhow::Result<Self> {
        let pages = Arc::new(domain.allocate(1)?);
        let gref = domain.grant(pages.frame(0), Access::ReadWrite)?;
        Ok(Self {
            ring: FrontRing::init_at(pages, RX_RING, start)?,
            gref,
            shape,
            buffers: Buffers::new(Arc::clone(domain)),
            posted: VecDeque::new(),
            next_id: 0,
            level: shape.buffers,
            headrooms: [shape.headroom; 2],
            hashes: false,
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

    /// How many buffers are to be posted from now on, at most 256.
    pub fn keep_posted(&mut self, level: u32) {
        self.level = level.min(self.ring.slots());
    }

    /// From now on frames may come with this headroom, and with the one before, too, until
    /// [`settle_headroom`](Self::settle_headroom).
    pub(super) const fn change_headroom(&mut self, bytes: u16) {
        self.headrooms = [self.headrooms[1], bytes];
    }

    /// Only the headroom of the last change is right from now on.
    pub(super) const fn settle_headroom(&mut self) {
        self.headrooms = [self.headrooms[1]; 2];
    }

    /// From now on frames may come with a hash, or must not.
    pub(super) const fn expect_hashes(&mut self, may: bool) {
        self.hashes = may;
    }

    /// Posts as many buffers as are to be there.
    ///
    /// # Errors
    /// The guest is out of pages or grants.
    pub fn fill(&mut self) -> anyhow::Result<()> {
        while self.ring.open() < self.level {
            let lent = self.buffers.lend(Access::ReadWrite)?;
            ensure!(lent.memory.write(0, &[CANARY; PAGE_SIZE]), "page is short");
            // As Linux does, by the slot; but other numbers would do.
            let id = self.next_id;
            self.next_id = (id + 1) % 256;
            let gref = lent.gref;
            self.ring.push_request(&RxSent { id, gref }.encode())?;
            self.posted.push_back(Posted { id, lent });
        }
        Ok(())
    }

    /// Shows the backend what was posted.
    pub(super) fn publish(&mut self) -> Notify {
        self.ring.publish()
    }

    /// Takes and checks the next frame.
    ///
    /// # Errors
    /// Whatever a backend must not do.
    pub fn take(&mut self) -> Result<Option<Received>, NetMisbehaviour> {
        let Some((first, posted)) = self.response()? else {
            return Ok(None);
        };
        let mut frame = Received {
            flags: first.flags & !(rx_flag::MORE_DATA | rx_flag::EXTRA_INFO),
            ..Received::default()
        };
        self.collect(&mut frame, first, posted)?;
        if first.flags & rx_flag::EXTRA_INFO != 0 {
            self.extras(&mut frame)?;
        }
        let mut more = first.flags & rx_flag::MORE_DATA != 0;
        while more {
            let slots = frame.buffers;
            let what = "a further buffer";
            let next = self.response()?;
            let (next, posted) = next.ok_or(NetMisbehaviour::Unfinished { slots, what })?;
            more = next.flags & rx_flag::MORE_DATA != 0;
            let flags = next.flags & !rx_flag::MORE_DATA;
            if flags != 0 {
                let what = "flags of a further buffer";
                let found = flags.into();
                return Err(NetMisbehaviour::Padding { what, found });
            }
            self.collect(&mut frame, next, posted)?;
        }
        self.judge(&frame)?;
        Ok(Some(frame))
    }

    /// The next response as one with data, and the buffer whose slot it stands in.
    fn response(&mut self) -> Result<Option<(RxAnswer, Posted)>, NetMisbehaviour> {
        let Some((words, posted)) = self.raw()? else {
            return Ok(None);
        };
        let answer = RxAnswer::decode(words);
        if answer.id != posted.id {
            return Err(NetMisbehaviour::RxOrder {
                said: answer.id,
                due: posted.id,
            });
        }
        Ok(Some((answer, posted)))
    }

    fn raw(&mut self) -> Result<Option<([u32; 2], Posted)>, NetMisbehaviour> {
        let Some(words) = self.ring.take_response::<2>()? else {
            return Ok(None);
        };
        self.responses += 1;
        // The ring has no more responses than there are buffers posted.
        Ok(self.posted.pop_front().map(|posted| (words, posted)))
    }

    /// Adds the bytes of one buffer to a frame, after looking that nothing else of it has changed.
    fn collect(
        &mut self,
        frame: &mut Received,
        answer: RxAnswer,
        posted: Posted,
    ) -> Result<(), NetMisbehaviour> {
        let RxAnswer { offset, status, .. } = answer;
        let first = frame.buffers == 0;
        frame.buffers += 1;
        frame.failed |= status < 0;
        let len = usize::try_from(status).unwrap_or(0);
        let wanted: &[u16] = if first { &self.headrooms } else { &[0] };
        let inside = usize::from(offset) + len <= PAGE_SIZE;
        if status == 0 || !inside || (status > 0 && !wanted.contains(&offset)) {
            return Err(NetMisbehaviour::RxPlace {
                offset,
                len: status,
                headroom: wanted[wanted.len() - 1],
            });
        }
        let mut page = [0; PAGE_SIZE];
        // A whole page is always there.
        let _read = posted.lent.memory.read(0, &mut page);
        if status > 0 {
            untouched(&page, offset, len)?;
            let at = usize::from(offset);
            frame.bytes.extend_from_slice(&page[at..at + len]);
        }
        self.take_back(posted)
    }

    fn take_back(&mut self, posted: Posted) -> Result<(), NetMisbehaviour> {
        let Posted { id, lent } = posted;
        let back = self.buffers.take_back(lent);
        back.map_err(|still| NetMisbehaviour::StillMapped { id, still })
    }

    /// Takes the extra infos of a frame out of the slots behind its first buffer.
    fn extras(&mut self, frame: &mut Received) -> Result<(), NetMisbehaviour> {
        loop {
            let slots = frame.buffers;
            let what = "an extra info";
            let next = self.raw()?;
            let (words, posted) = next.ok_or(NetMisbehaviour::Unfinished { slots, what })?;
            let mut page = [0; PAGE_SIZE];
            let _read = posted.lent.memory.read(0, &mut page);
            untouched(&page, 0, 0)?;
            self.take_back(posted)?;
            let extra = Extra::from_words(words);
            let body = extra.body();
            match extra.kind() {
                Extra::GSO if frame.gso.is_none() => frame.gso = Some(gso(body)?),
                Extra::XDP if frame.headroom.is_none() => {
                    frame.headroom = Some(u16::from_le_bytes([body[0], body[1]]));
                    zero("bytes behind the headroom", &body[2..])?;
                }
                Extra::HASH if frame.hash.is_none() => frame.hash = Some(hash(body)?),
                kind => {
                    let text = format!("extra info type {kind}, {body:x?}");
                    return Err(NetMisbehaviour::Extra(text));
                }
            }
            if !extra.is_followed() {
                return Ok(());
            }
        }
    }

    /// Is it a frame that this frontend has agreed to, and is true what is said about it?
    fn judge(&self, frame: &Received) -> Result<(), NetMisbehaviour> {
        let slots = frame.buffers;
        if slots > MOST_SLOTS {
            return Err(NetMisbehaviour::TooManySlots(slots));
        }
        let agreed = |on, what: &dyn Fn() -> String| match on {
            true => Ok(()),
            false => Err(NetMisbehaviour::NotAgreed(what())),
        };
        agreed(self.shape.sg || slots == 1, &|| format!("{slots} buffers"))?;
        agreed(self.hashes || frame.hash.is_none(), &|| {
            format!("{:?}", frame.hash)
        })?;
        if frame.headroom.unwrap_or(0) != 0 || self.headrooms != [0; 2] {
            let said = frame.headroom.unwrap_or(0);
            let right = self.headrooms.contains(&said);
            agreed(right, &|| format!("headroom {said}"))?;
        }
        let blank = frame.flags & rx_flag::CSUM_BLANK != 0;
        let both = rx_flag::CSUM_BLANK | rx_flag::DATA_VALIDATED;
        if let Some(gso) = frame.gso {
            let takes = self.shape.takes_gso(gso.ip);
            agreed(takes, &|| format!("an {} packet to be cut up", gso.ip))?;
            if frame.flags != both {
                let flags = frame.flags;
                return Err(NetMisbehaviour::GsoFlags { flags });
            }
        }
        if frame.failed {
            return Ok(());
        }
        let flags = frame.flags;
        let Some((ip, found)) = Sum::of(&frame.bytes) else {
            return agreed(!blank, &|| "a blank checksum in what has none".into());
        };
        let right = match (blank, flags & rx_flag::DATA_VALIDATED != 0) {
            (true, _) => {
                agreed(self.shape.takes_blank(ip), &|| format!("a blank {ip} sum"))?;
                found == Sum::Blank
            }
            (false, true) => found == Sum::Whole,
            (false, false) => true,
        };
        if right {
            return Ok(());
        }
        let found = format!("{found:?}");
        Err(NetMisbehaviour::Checksum { flags, ip, found })
    }

    pub(super) fn rearm(&mut self) -> Result<bool, NetMisbehaviour> {
        Ok(self.ring.rearm()?)
    }

    /// Ends all grants, after the backend has closed.
    pub(super) fn retire(mut self, domain: &GuestDomain) -> anyhow::Result<()> {
        for posted in self.posted.drain(..) {
            self.buffers.take_back(posted.lent)?;
        }
        domain.end_access(self.gref)?;
        Ok(())
    }
}

fn gso(body: [u8; 6]) -> Result<Gso, NetMisbehaviour> {
    let [low, high, kind, rest @ ..] = body;
    zero("bytes behind the GSO type", &rest)?;
    let bad = || NetMisbehaviour::Extra(format!("GSO {body:x?}"));
    let ip = match kind {
        1 => Ip::V4,
        2 => Ip::V6,
        _ => return Err(bad()),
    };
    let size = NonZeroU16::new(u16::from_le_bytes([low, high])).ok_or_else(bad)?;
    Ok(Gso { ip, size })
}

fn hash(body: [u8; 6]) -> Result<Hash, NetMisbehaviour> {
    let [kind, algorithm, value @ ..] = body;
    let kinds = HashKind::ALL.into_iter();
    let known = kinds.filter(|_| algorithm == TOEPLITZ);
    let kind = known.into_iter().find(|known| known.wire() == kind);
    let kind = kind.ok_or_else(|| NetMisbehaviour::Extra(format!("hash {body:x?}")))?;
    let value = u32::from_le_bytes(value);
    Ok(Hash { kind, value })
}

fn zero(what: &'static str, bytes: &[u8]) -> Result<(), NetMisbehaviour> {
    match bytes.iter().find(|&&byte| byte != 0) {
        None => Ok(()),
        Some(&byte) => Err(NetMisbehaviour::Padding {
            what,
            found: byte.into(),
        }),
    }
}

/// Nothing but `len` bytes at `offset` of a buffer has changed.
fn untouched(page: &[u8; PAGE_SIZE], offset: u16, len: usize) -> Result<(), NetMisbehaviour> {
    let at = usize::from(offset);
    let mut outside = (0..at).chain(at + len..PAGE_SIZE);
    match outside.find(|&at| page[at] != CANARY) {
        None => Ok(()),
        Some(at) => Err(NetMisbehaviour::WroteOutside { at, offset, len }),
    }
}
