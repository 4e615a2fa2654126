//! Slots become packets: the only way from a guest's words to something that may be copied.

use std::num::NonZeroU16;

use super::extra::{GSO_TCPV4, GSO_TCPV6};
use super::{
    BadPacket, Extra, FATAL_TX_SLOTS, Fragment, Gso, Hash, Ip, MAX_EXTRAS, MAX_TX_SLOTS, MIN_FRAME,
    MulticastEdit, PAGE, TX_WORDS, TxChecksum, TxFault, TxPacket, tx_flag,
};
use crate::ids::{GrantRef, MacAddr};

/// What a backend takes from a guest. The host's word, not the guest's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TxOffer {
    /// Most bytes of a frame that is not to be cut up: the MTU and the headers that it does not
    /// count. 65535 for whatever the protocol can carry.
    pub max_frame: u32,
    /// Whether `feature-gso-tcpv4` was offered.
    pub gso_v4: bool,
    /// Whether `feature-gso-tcpv6` was offered.
    pub gso_v6: bool,
    /// Fewest bytes in the pieces that a packet may ask to be cut into.
    pub gso_floor: NonZeroU16,
}

/// Puts a guest's transmit slots together.
///
/// A state machine without time and memory but its own: a packet may come over any number of sweeps,
/// and what is wrong with one leaves nothing behind. Rules and their order are xen-netback's
/// (`xenvif_get_extras`, `xenvif_count_requests`, `xenvif_tx_build_gops`), but for this: a packet
/// whose end is not in the ring yet is waited for; one whose first slot has fewer bytes than an
/// Ethernet header, but some, is taken; odd GSO requests cost the packet, not the connection; and
/// what a frontend has no use for is bounded: extra infos, frames longer than the link takes.
#[derive(Debug)]
pub struct Assembler {
    offer: TxOffer,
    expect: Expect,
    /// Why nothing is expected.
    fault: Option<TxFault>,
    open: Open,
    /// The first one is written last: how long it is, only the last slot tells.
    fragments: [Fragment; MAX_TX_SLOTS],
}

/// What the next slot is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Expect {
    First,
    Extra,
    Data,
    Nothing,
}

/// The packet that is being put together.
#[derive(Clone, Copy, Debug, Default)]
struct Open {
    /// Of the first slot.
    gref: GrantRef,
    offset: u16,
    flags: u16,
    len: u16,
    /// Bytes of the slots behind it.
    rest: u32,
    /// Slots with data, at most [`FATAL_TX_SLOTS`].
    slots: u8,
    /// Slots with extra infos, at most [`MAX_EXTRAS`].
    extras: u8,
    /// Fragments in use.
    fragments: usize,
    gso: Option<Extra>,
    hash: Option<Hash>,
    add: Option<MacAddr>,
    remove: Option<MacAddr>,
}

/// What became of some slots in a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Assembled<'a> {
    /// How many slots, 1 to 26.
    pub slots: u8,
    /// How many of them, from the second on, were extra infos.
    pub extras: u8,
    /// What they are.
    pub verdict: Verdict<'a>,
}

/// What some slots in a row are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict<'a> {
    /// A packet to be copied and sent on.
    Packet(TxPacket<'a>),
    /// A change of the multicast list.
    Multicast(MulticastEdit),
    /// A packet that is refused: all of it is answered with an error.
    Bad(BadPacket),
}

impl Assembler {
    /// Starts with the first slot of a packet.
    #[must_use]
    pub fn new(offer: TxOffer) -> Self {
        Self {
            offer,
            expect: Expect::First,
            fault: None,
            open: Open::default(),
            fragments: [Fragment::default(); MAX_TX_SLOTS],
        }
    }

    /// Takes the words of the next slot; `None` if the packet goes on in another one.
    ///
    /// # Errors
    /// [`TxFault`]: no driver sends this. Every further call fails.
    pub fn push(&mut self, words: [u32; TX_WORDS]) -> Result<Option<Assembled<'_>>, TxFault> {
        if self.is_whole(words) {
            self.judge_whole(words).map(Some)
        } else if self.step(words)? {
            self.judge().map(Some)
        } else {
            Ok(None)
        }
    }

    /// Slots of the packet that is not complete yet, 0 if there is none.
    #[must_use]
    pub const fn waiting(&self) -> u8 {
        match self.expect {
            Expect::First | Expect::Nothing => 0,
            Expect::Extra | Expect::Data => self.open.slots + self.open.extras,
        }
    }

    /// Whether a slot is a packet by itself, as nearly all are. Then it needs no
    /// [`step`](Self::step), and [`judge_whole`](Self::judge_whole) does half as much.
    #[inline]
    pub(super) const fn is_whole(&self, words: [u32; TX_WORDS]) -> bool {
        let goes_on = tx_flag::MORE_DATA | tx_flag::EXTRA_INFO;
        matches!(self.expect, Expect::First) && parse(words).1 & goes_on == 0
    }

    /// What a slot is that is a packet by itself.
    #[inline]
    pub(super) fn judge_whole(&mut self, words: [u32; TX_WORDS]) -> Result<Assembled<'_>, TxFault> {
        let (only, flags) = parse(words);
        let verdict = match self.offer.whole(only) {
            Ok(()) => {
                self.fragments[0] = only;
                Verdict::Packet(TxPacket {
                    fragments: &self.fragments[..1],
                    len: only.len(),
                    checksum: TxChecksum::of(flags),
                    gso: None,
                    hash: None,
                })
            }
            Err(Wrong::Packet(bad)) => Verdict::Bad(bad),
            Err(Wrong::Connection(fault)) => return Err(self.fail(fault)),
        };
        Ok(Assembled {
            slots: 1,
            extras: 0,
            verdict,
        })
    }

    /// Takes a slot, and says whether it was the last one of something.
    #[inline]
    pub(super) fn step(&mut self, words: [u32; TX_WORDS]) -> Result<bool, TxFault> {
        let next = match self.expect {
            Expect::First => self.first(words),
            Expect::Extra => self.extra(words)?,
            Expect::Data => self.data(words)?,
            Expect::Nothing => return self.check().map(|()| false),
        };
        self.expect = next;
        Ok(next == Expect::First)
    }

    /// Fails if an earlier slot did.
    #[inline]
    pub(super) const fn check(&self) -> Result<(), TxFault> {
        match self.fault {
            Some(fault) => Err(fault),
            None => Ok(()),
        }
    }

    #[inline]
    fn first(&mut self, words: [u32; TX_WORDS]) -> Expect {
        let (fragment, flags) = parse(words);
        self.open = Open {
            gref: fragment.gref(),
            offset: fragment.offset(),
            flags,
            len: fragment.len(),
            slots: 1,
            fragments: 1,
            ..Open::default()
        };
        if flags & tx_flag::EXTRA_INFO == 0 {
            Expect::after(flags)
        } else {
            Expect::Extra
        }
    }

    fn extra(&mut self, words: [u32; TX_WORDS]) -> Result<Expect, TxFault> {
        let open = &mut self.open;
        if open.extras == MAX_EXTRAS {
            return Err(self.fail(TxFault::TooManyExtras));
        }
        open.extras += 1;
        let [first, second, _] = words;
        let extra = Extra::from_words([first, second]);
        // Of two with the same type the second counts.
        match extra.kind() {
            Extra::GSO => open.gso = Some(extra),
            Extra::MULTICAST_ADD => open.add = Some(extra.address()),
            Extra::MULTICAST_DEL => open.remove = Some(extra.address()),
            Extra::HASH => open.hash = extra.known_hash(),
            // Says something about received packets only.
            Extra::XDP => {}
            unknown => return Err(self.fail(TxFault::UnknownExtra(unknown))),
        }
        Ok(if extra.is_followed() {
            Expect::Extra
        } else if open.add.is_some() || open.remove.is_some() {
            // Not a packet, so whatever the first slot says there is no data.
            Expect::First
        } else {
            Expect::after(open.flags)
        })
    }

    #[inline]
    fn data(&mut self, words: [u32; TX_WORDS]) -> Result<Expect, TxFault> {
        let open = &mut self.open;
        if usize::from(open.slots) == FATAL_TX_SLOTS {
            return Err(self.fail(TxFault::TooManySlots));
        }
        let (fragment, flags) = parse(words);
        if let Err(fault) = inside(fragment, open.slots) {
            return Err(self.fail(fault));
        }
        open.slots += 1;
        open.rest += u32::from(fragment.len());
        // Nothing is copied where there is nothing (XSA-448).
        if fragment.len() > 0
            && let Some(place) = self.fragments.get_mut(open.fragments)
        {
            *place = fragment;
            open.fragments += 1;
        }
        Ok(Expect::after(flags))
    }

    #[cold]
    fn fail(&mut self, fault: TxFault) -> TxFault {
        self.expect = Expect::Nothing;
        self.fault = Some(fault);
        fault
    }

    /// What the slots since the last one that was complete are.
    pub(super) fn judge(&mut self) -> Result<Assembled<'_>, TxFault> {
        let open = &self.open;
        let (slots, extras) = (open.slots + open.extras, open.extras);
        let verdict = match (open.add, open.remove) {
            (Some(address), _) => Verdict::Multicast(MulticastEdit::Add(address)),
            (None, Some(address)) => Verdict::Multicast(MulticastEdit::Remove(address)),
            (None, None) => match open.judge(&self.offer) {
                Ok((first, gso)) => {
                    self.fragments[0] = first;
                    let all = self.fragments.get(..open.fragments);
                    Verdict::Packet(TxPacket {
                        fragments: all.unwrap_or(&self.fragments),
                        len: open.len,
                        checksum: TxChecksum::of(open.flags),
                        gso,
                        hash: open.hash,
                    })
                }
                Err(Wrong::Packet(bad)) => Verdict::Bad(bad),
                Err(Wrong::Connection(fault)) => return Err(self.fail(fault)),
            },
        };
        Ok(Assembled {
            slots,
            extras,
            verdict,
        })
    }
}

impl Open {
    /// The first fragment, now that all are known: what the others leave of the packet. And how the
    /// packet is to be cut up.
    fn judge(&self, offer: &TxOffer) -> Result<(Fragment, Option<Gso>), Wrong> {
        let Self {
            gref,
            offset,
            len,
            rest,
            slots,
            ..
        } = *self;
        if usize::from(slots) > MAX_TX_SLOTS {
            return Err(Wrong::Packet(BadPacket::TooManySlots(slots)));
        }
        let own = u16::try_from(rest)
            .ok()
            .and_then(|rest| len.checked_sub(rest));
        let own = own.ok_or(BadPacket::Oversum { len, rest })?;
        long_enough(len)?;
        if own == 0 {
            return Err(Wrong::Packet(BadPacket::EmptyFirst));
        }
        let first = Fragment::new(gref, offset, own);
        inside(first, 0)?;
        let Some(extra) = self.gso else {
            offer.short_enough(len)?;
            return Ok((first, None));
        };
        Ok((first, Some(offer.gso(extra)?)))
    }
}

/// What is wrong, by whom it ends.
enum Wrong {
    Packet(BadPacket),
    Connection(TxFault),
}

impl From<BadPacket> for Wrong {
    fn from(bad: BadPacket) -> Self {
        Self::Packet(bad)
    }
}

impl From<TxFault> for Wrong {
    fn from(fault: TxFault) -> Self {
        Self::Connection(fault)
    }
}

impl TxOffer {
    /// Whether the only slot of a packet may be taken. The same rules as those for several.
    #[inline]
    fn whole(&self, only: Fragment) -> Result<(), Wrong> {
        long_enough(only.len())?;
        inside(only, 0)?;
        Ok(self.short_enough(only.len())?)
    }

    #[inline]
    fn short_enough(&self, len: u16) -> Result<(), BadPacket> {
        let max = self.max_frame;
        if u32::from(len) > max {
            return Err(BadPacket::TooLong { len, max });
        }
        Ok(())
    }

    fn gso(&self, extra: Extra) -> Result<Gso, BadPacket> {
        let (size, kind) = extra.raw_gso();
        let (ip, offered) = match kind {
            GSO_TCPV4 => (Ip::V4, self.gso_v4),
            GSO_TCPV6 => (Ip::V6, self.gso_v6),
            unknown => return Err(BadPacket::GsoType(unknown)),
        };
        if !offered {
            return Err(BadPacket::GsoNotOffered(ip));
        }
        let min = self.gso_floor.get();
        match NonZeroU16::new(size) {
            Some(size) if size >= self.gso_floor => Ok(Gso { ip, size }),
            _ => Err(BadPacket::GsoSize { size, min }),
        }
    }
}

impl TxChecksum {
    const fn of(flags: u16) -> Self {
        if flags & tx_flag::CSUM_BLANK != 0 {
            Self::Blank
        } else if flags & tx_flag::DATA_VALIDATED != 0 {
            Self::SaidToBeRight
        } else {
            Self::Plain
        }
    }
}

impl Expect {
    /// What follows a slot with data that has these flags.
    const fn after(flags: u16) -> Self {
        if flags & tx_flag::MORE_DATA == 0 {
            Self::First
        } else {
            Self::Data
        }
    }
}

/// A slot with data, true or not, and its flags. Layout: grant reference; offset and flags; id and
/// size.
#[inline]
const fn parse(words: [u32; TX_WORDS]) -> (Fragment, u16) {
    let [gref, place, size] = words;
    let [a, b, c, d] = place.to_le_bytes();
    let [_, _, low, high] = size.to_le_bytes();
    let fragment = Fragment::new(
        GrantRef::new(gref),
        u16::from_le_bytes([a, b]),
        u16::from_le_bytes([low, high]),
    );
    (fragment, u16::from_le_bytes([c, d]))
}

#[inline]
fn long_enough(len: u16) -> Result<(), BadPacket> {
    if u32::from(len) < MIN_FRAME {
        return Err(BadPacket::TooShort(len));
    }
    Ok(())
}

#[inline]
fn inside(fragment: Fragment, slot: u8) -> Result<(), TxFault> {
    let (offset, len) = (fragment.offset(), fragment.len());
    if u32::from(offset) + u32::from(len) <= PAGE {
        Ok(())
    } else {
        Err(TxFault::CrossesPage { slot, offset, len })
    }
}
