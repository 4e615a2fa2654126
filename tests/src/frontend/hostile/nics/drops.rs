//! NET-13: packets of chance, most of which are refused, and all of which are answered.

use std::num::NonZeroU16;

use anyhow::{Context, ensure};
use gntdev::Access;
use ring_proto::GrantRef;
use ring_proto::netif::{Extra, Gso, Ip, TxSent, tx_flag};

use super::NetMove;
use super::attacker::NetAttacker;
use super::lies::{give_back, laid_out, segment};
use crate::frontend::Chance;
use crate::frontend::buffers::Lent;
use crate::frontend::netfront::frame::{Sum, numbered};
use crate::frontend::netfront::wire::HOST;

/// The moves.
pub const MOVES: &[NetMove] = &[NetMove::new(
    "NET-13",
    "packets of chance, most of them bad",
    by_chance,
)];

/// Rounds, and packets in each.
const ROUNDS: usize = 300;
const PACKETS: usize = 20;

/// Slots that the packets of one round may take: a ring has 256.
const SLOTS: usize = 230;

/// A packet on its way.
struct Sent {
    slots: Vec<TxSent>,
    pages: Vec<Lent>,
    /// What must be seen if it is answered as sent; nothing but its length is known of others.
    frame: Option<Vec<u8>>,
    len: usize,
}

/// Whatever is refused, and for whatever reason: each slot is answered once, in order, and what the
/// other end sees is what was answered as sent, in the same order.
fn by_chance(attacker: &mut NetAttacker) -> anyhow::Result<()> {
    let mut chance = Chance::new(13);
    let revoked = revoked(attacker)?;
    let mut tally = [0_usize; 2];
    for round in 0..ROUNDS {
        let mut sent = Vec::new();
        let mut taken = 0;
        for number in 0..PACKETS {
            let packet = if number % 5 == 4 {
                good(attacker, round * PACKETS + number)?
            } else {
                any(attacker, &mut chance, revoked)?
            };
            if taken + packet.slots.len() > SLOTS {
                give_back(attacker, packet.pages)?;
                break;
            }
            taken += packet.slots.len();
            attacker.push(&packet.slots)?;
            sent.push(packet);
        }
        attacker.kick()?;
        for (number, packet) in sent.into_iter().enumerate() {
            let what = format!("packet {number} of round {round}");
            let said = settle(attacker, &what, packet)?;
            tally[usize::from(said != 0)] += 1;
        }
        ensure!(
            attacker.peer.take()?.is_none(),
            "round {round}: more is seen"
        );
    }
    let [through, refused] = tally;
    // Neither of the two is what all of them come to.
    ensure!(
        refused > through && through > ROUNDS,
        "{through} got through, {refused} did not"
    );
    Ok(())
}

/// Waits for a packet's answers, and for the frame if it was sent; the status.
fn settle(attacker: &mut NetAttacker, what: &str, packet: Sent) -> anyhow::Result<i16> {
    let statuses: &[i16] = if packet.frame.is_some() {
        &[0]
    } else {
        &[0, -1, -2]
    };
    let said = attacker.answers(what, &packet.slots, statuses)?;
    if said == 0 {
        let seen = attacker.peer.take()?;
        let seen = seen.with_context(|| format!("{what}: answered as sent, and not seen"))?;
        let right = packet.frame.is_none_or(|frame| frame == seen.bytes);
        ensure!(
            right && seen.bytes.len() == packet.len,
            "{what}: another frame"
        );
    }
    give_back(attacker, packet.pages)?;
    Ok(said)
}

/// A reference that was good once.
fn revoked(attacker: &NetAttacker) -> anyhow::Result<GrantRef> {
    let lent = attacker.lend(Access::ReadWrite)?;
    let domain = attacker.domain();
    domain.set_entry(lent.gref, 0, ring_proto::DomId::new(0), 0);
    Ok(lent.gref)
}

fn good(attacker: &NetAttacker, number: usize) -> anyhow::Result<Sent> {
    let frame = numbered(HOST, attacker.mac(), number as u64, 60 + number % 1400);
    let (slots, pages) = laid_out(attacker, &frame, 0, &[])?;
    let len = frame.len();
    let frame = Some(frame);
    Ok(Sent {
        slots,
        pages,
        frame,
        len,
    })
}

/// A packet with some mistakes, or without.
fn any(attacker: &NetAttacker, chance: &mut Chance, revoked: GrantRef) -> anyhow::Result<Sent> {
    let ip = if chance.once_in(2) { Ip::V4 } else { Ip::V6 };
    let payload = vec![0x5a; [0, 1, 100, 1400, 3000, 9000, 30_000][chance.below(7)]];
    let mut frame = segment(ip, attacker.mac(), &payload).frame(Sum::Blank);
    // Not behind the Ethernet type: the kernel takes tags out of what it shows.
    while !chance.once_in(3) {
        let at = 14 + chance.below(60);
        if let Some(byte) = frame.get_mut(at) {
            *byte = chance.any().to_be_bytes()[0];
        }
    }
    if chance.once_in(8) {
        frame.truncate(chance.below(80).max(1));
    }
    let said = tx_flag::CSUM_BLANK | tx_flag::DATA_VALIDATED;
    let flags = [0, said, said, tx_flag::DATA_VALIDATED][chance.below(4)];
    let mut extras = Vec::new();
    if payload.len() > 1400 && !chance.once_in(6) || chance.once_in(8) {
        extras.push(cut(chance, ip));
    }
    let (mut slots, pages) = laid_out(attacker, &frame, flags, &extras)?;
    spoil(&mut slots, chance, revoked);
    Ok(Sent {
        slots,
        pages,
        frame: None,
        len: frame.len(),
    })
}

/// How a packet is to be cut up, or cannot be.
fn cut(chance: &mut Chance, ip: Ip) -> Extra {
    let ip = match (chance.once_in(6), ip) {
        (true, Ip::V4) => Ip::V6,
        (true, Ip::V6) => Ip::V4,
        (false, ip) => ip,
    };
    let size = [1400, 1400, 536, 256, 255, 1, 2000, u16::MAX][chance.below(8)];
    let size = NonZeroU16::new(size).unwrap_or(NonZeroU16::MIN);
    if chance.once_in(10) {
        Extra::new(Extra::GSO, [0, 0, 1, 0, 0, 0])
    } else {
        Extra::gso(Gso { ip, size })
    }
}

/// Bad references and lengths that do not add up, but nothing that ends the interface.
fn spoil(slots: &mut [TxSent], chance: &mut Chance, revoked: GrantRef) {
    let count = slots.len();
    for (at, slot) in slots.iter_mut().enumerate() {
        let TxSent::Data { gref, size, .. } = slot else {
            continue;
        };
        if chance.once_in(2 * count) {
            *gref = if chance.once_in(2) {
                revoked
            } else {
                GrantRef::new(u32::MAX)
            };
        }
        // The first slot's is that of the whole: less than the others have.
        if at == 0 && count > 1 && chance.once_in(20) {
            *size = 20;
        }
    }
}
