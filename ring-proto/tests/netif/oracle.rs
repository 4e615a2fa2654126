//! A second opinion on what a guest transmits: looks at all slots at once, reads bytes at the offsets
//! of the protocol's tables, computes without bounds, and shares nothing with the code under test but
//! the numbers in `netif.h` and `netback.c`.

use ring_proto::netif::{
    Assembled, HashKind, Ip, MulticastEdit, TxChecksum, TxOffer, TxPacket, Verdict,
};

/// What some slots in a row are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Event {
    pub(crate) slots: usize,
    pub(crate) extras: usize,
    pub(crate) what: What,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum What {
    Packet {
        /// Grant, offset and length.
        fragments: Vec<(u32, u16, u16)>,
        len: u16,
        blank: bool,
        right: bool,
        /// IP version and size.
        gso: Option<(u8, u16)>,
        /// Kind and value.
        hash: Option<(u8, u32)>,
    },
    Add([u8; 6]),
    Remove([u8; 6]),
    Refused,
    Fatal,
}

pub(crate) type Slot = [u8; 12];

fn short(slot: &Slot, at: usize) -> u16 {
    u16::from_le_bytes([slot[at], slot[at + 1]])
}

fn long(slot: &Slot, at: usize) -> u32 {
    u32::from_le_bytes([slot[at], slot[at + 1], slot[at + 2], slot[at + 3]])
}

/// All that the slots make up, until one is fatal. What is left over at the end is a packet whose
/// end is missing.
pub(crate) fn judge(mut slots: &[Slot], offer: &TxOffer) -> Vec<Event> {
    let mut events = Vec::new();
    while let Some(event) = first(slots, offer) {
        let fatal = event.what == What::Fatal;
        slots = &slots[event.slots..];
        events.push(event);
        if fatal {
            break;
        }
    }
    events
}

/// The slots that belong to the first packet, by their flags alone: extras, others with data, and
/// whether the end is there.
fn chain(slots: &[Slot]) -> (&[Slot], &[Slot], bool) {
    let rest = &slots[1..];
    let flags = short(&slots[0], 6);
    let mut end = 0;
    if flags & 8 != 0 {
        let Some(last) = rest.iter().position(|slot| slot[1] & 1 == 0) else {
            return (rest, &[], false);
        };
        end = last + 1;
    }
    let (extras, rest) = rest.split_at(end);
    if extras.iter().any(|extra| extra[0] == 2 || extra[0] == 3) || flags & 4 == 0 {
        return (extras, &[], true);
    }
    match rest.iter().position(|slot| short(slot, 6) & 4 == 0) {
        Some(last) => (extras, &rest[..=last], true),
        None => (extras, rest, false),
    }
}

fn first(slots: &[Slot], offer: &TxOffer) -> Option<Event> {
    let head = slots.first()?;
    let (extras, rest, complete) = chain(slots);
    let event = |slots, what| {
        Some(Event {
            slots,
            extras: extras.len(),
            what,
        })
    };
    // Whatever comes later, a slot that is fatal is so at once.
    for (at, extra) in extras.iter().enumerate() {
        if at >= 5 || !(1..=5).contains(&extra[0]) {
            return event(at + 2, What::Fatal);
        }
    }
    for (at, slot) in rest.iter().enumerate() {
        if at >= 20 || i64::from(short(slot, 4)) + i64::from(short(slot, 10)) > 4096 {
            return event(extras.len() + at + 2, What::Fatal);
        }
    }
    if !complete {
        return None;
    }
    let what = edit(extras).unwrap_or_else(|| packet(head, extras, rest, offer));
    event(1 + extras.len() + rest.len(), what)
}

fn last_of(extras: &[Slot], kind: u8) -> Option<&Slot> {
    extras.iter().rev().find(|extra| extra[0] == kind)
}

fn edit(extras: &[Slot]) -> Option<What> {
    let address = |extra: &Slot| [2, 3, 4, 5, 6, 7].map(|at| extra[at]);
    let add = last_of(extras, 2).map(|extra| What::Add(address(extra)));
    add.or_else(|| last_of(extras, 3).map(|extra| What::Remove(address(extra))))
}

fn packet(head: &Slot, extras: &[Slot], rest: &[Slot], offer: &TxOffer) -> What {
    let len = short(head, 10);
    let own = i64::from(len)
        - rest
            .iter()
            .map(|slot| i64::from(short(slot, 10)))
            .sum::<i64>();
    if rest.len() > 18 || own <= 0 || len < 14 {
        return What::Refused;
    }
    if i64::from(short(head, 4)) + own > 4096 {
        return What::Fatal;
    }
    let gso = match last_of(extras, 1) {
        None if u32::from(len) > offer.max_frame => return What::Refused,
        None => None,
        Some(extra) => {
            let (kind, size) = (extra[4], short(extra, 2));
            let offered = kind == 1 && offer.gso_v4 || kind == 2 && offer.gso_v6;
            if !offered || size < offer.gso_floor.get() {
                return What::Refused;
            }
            Some((if kind == 1 { 4 } else { 6 }, size))
        }
    };
    let hash = last_of(extras, 4).filter(|extra| extra[2] < 4 && extra[3] == 1);
    let mut fragments = vec![(long(head, 0), short(head, 4), u16::try_from(own).unwrap())];
    let others = rest.iter().filter(|slot| short(slot, 10) > 0);
    fragments.extend(others.map(|slot| (long(slot, 0), short(slot, 4), short(slot, 10))));
    What::Packet {
        fragments,
        len,
        blank: head[6] & 1 != 0,
        right: head[6] & 3 == 2,
        gso,
        hash: hash.map(|extra| (extra[2], long(extra, 4))),
    }
}

/// What the code under test made of some slots, in the same terms.
pub(crate) fn event(assembled: &Assembled<'_>) -> Event {
    Event {
        slots: usize::from(assembled.slots),
        extras: usize::from(assembled.extras),
        what: what(&assembled.verdict),
    }
}

pub(crate) fn what(verdict: &Verdict<'_>) -> What {
    match verdict {
        Verdict::Multicast(MulticastEdit::Add(address)) => What::Add(address.bytes()),
        Verdict::Multicast(MulticastEdit::Remove(address)) => What::Remove(address.bytes()),
        Verdict::Bad(_) => What::Refused,
        Verdict::Packet(packet) => {
            let TxPacket {
                fragments,
                len,
                checksum,
                gso,
                hash,
            } = *packet;
            let list = fragments
                .iter()
                .map(|one| (one.gref().raw(), one.offset(), one.len()))
                .collect();
            let version = |ip| if ip == Ip::V4 { 4 } else { 6 };
            let number = |kind| HashKind::ALL.iter().position(|one| *one == kind).unwrap();
            What::Packet {
                fragments: list,
                len,
                blank: checksum == TxChecksum::Blank,
                right: checksum == TxChecksum::SaidToBeRight,
                gso: gso.map(|gso| (version(gso.ip), gso.size.get())),
                hash: hash.map(|hash| (u8::try_from(number(hash.kind)).unwrap(), hash.value)),
            }
        }
    }
}
