//! netif messages against the tables of the header, and against an independent reader.
#![cfg(not(loom))]
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "helpers of tests, which clippy does not see as such"
)]

mod claims;
mod control;
mod hostile;
mod layouts;
mod oracle;
mod packets;
mod planning;
mod properties;
mod receiving;
mod transmitting;

use std::num::NonZeroU16;
use std::sync::Arc;
use std::sync::atomic::AtomicU32;

use ring_proto::netif::{
    Assembled, Assembler, BadPacket, Extra, Gso, Headroom, Ip, RxFeatures, TxFault, TxOffer,
    TxPacket, TxSent, Verdict, tx_flag,
};
use ring_proto::{GrantRef, RingShape};

pub(crate) type Memory = Arc<[AtomicU32]>;

/// A page of a guest, full of what it had there before.
pub(crate) fn page(shape: RingShape) -> Memory {
    assert!(shape.words() <= 1024);
    (0..1024).map(|_| AtomicU32::new(0xa5a5_a5a5)).collect()
}

/// Everything, for an MTU of 1500.
pub(crate) fn offer() -> TxOffer {
    TxOffer {
        max_frame: 1518,
        gso_v4: true,
        gso_v6: true,
        gso_floor: NonZeroU16::new(256).unwrap(),
    }
}

/// As [`offer`], with frames as long as the protocol has them.
pub(crate) fn jumbo() -> TxOffer {
    TxOffer {
        max_frame: 65_535,
        ..offer()
    }
}

/// A frontend that agrees to everything but XDP and hashing.
pub(crate) fn features() -> RxFeatures {
    RxFeatures {
        sg: true,
        blank_v4: true,
        blank_v6: true,
        gso_v4: true,
        gso_v6: true,
        hash: false,
        headroom: Headroom::NONE,
    }
}

pub(crate) fn gso(ip: Ip, size: u16) -> Gso {
    Gso {
        ip,
        size: NonZeroU16::new(size).unwrap(),
    }
}

/// A slot with data. Its grant and id say which one it is.
pub(crate) fn data(slot: u8, offset: u16, size: u16, flags: u16) -> TxSent {
    TxSent::Data {
        gref: GrantRef::new(1000 + u32::from(slot)),
        offset,
        flags,
        id: 2000 + u16::from(slot),
        size,
    }
}

/// A packet whose first slot says `len`, and whose others have `rest` bytes each.
pub(crate) fn chain(len: u16, rest: &[u16], extras: &[Extra]) -> Vec<TxSent> {
    let more = |more: bool| if more { tx_flag::MORE_DATA } else { 0 };
    let extra = if extras.is_empty() {
        0
    } else {
        tx_flag::EXTRA_INFO
    };
    let mut slots = vec![data(0, 0, len, more(!rest.is_empty()) | extra)];
    for (at, one) in extras.iter().enumerate() {
        slots.push(TxSent::Extra(if at + 1 < extras.len() {
            one.followed()
        } else {
            *one
        }));
    }
    for (at, size) in (1..).zip(rest) {
        slots.push(data(at, 0, *size, more(usize::from(at) < rest.len())));
    }
    slots
}

/// What the only thing that the slots make up is.
pub(crate) fn only<T>(
    offer: TxOffer,
    slots: &[TxSent],
    look: impl FnOnce(Assembled<'_>) -> T,
) -> Result<T, TxFault> {
    let mut assembler = Assembler::new(offer);
    let (last, slots) = slots.split_last().unwrap();
    for slot in slots {
        assert_eq!(assembler.push(slot.encode())?, None);
    }
    let assembled = assembler.push(last.encode())?;
    Ok(look(assembled.expect("the last slot completes it")))
}

/// As [`only`], of a packet.
pub(crate) fn packet<T>(
    offer: TxOffer,
    slots: &[TxSent],
    look: impl FnOnce(TxPacket<'_>) -> T,
) -> T {
    only(offer, slots, |assembled| match assembled.verdict {
        Verdict::Packet(packet) => look(packet),
        other => panic!("not a packet but {other:?}"),
    })
    .unwrap()
}

/// As [`only`], of a packet that is refused.
pub(crate) fn bad(offer: TxOffer, slots: &[TxSent]) -> BadPacket {
    only(offer, slots, |assembled| match assembled.verdict {
        Verdict::Bad(bad) => bad,
        other => panic!("not refused but {other:?}"),
    })
    .unwrap()
}

/// The lengths of a packet's fragments.
pub(crate) fn lengths(packet: TxPacket<'_>) -> Vec<u16> {
    packet.fragments.iter().map(|piece| piece.len()).collect()
}
