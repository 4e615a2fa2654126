//! Network frontends that mean harm: the moves of the threat catalogue, by id.
//!
//! As for disks ([`super`]), a [`NetMove`] has the catalogue's id, what it does, and how the
//! interface must end; what must hold for all of them is checked by whoever plays them. Besides,
//! nothing of a refused packet may get to the other end: [`NetAttacker::is_served`] looks at that.
//!
//! - [`attacker`]: rings without any of an honest frontend's care
//! - [`ring`]: indices, slots that change, ids, events (RNG)
//! - [`grants`]: references that lead nowhere, or to the wrong place (GNT)
//! - [`slots`]: packets in slots that make no sense (NET-01 to NET-07)
//! - [`lies`]: packets that are not what is said about them (NET-08, NET-09)
//! - [`drops`]: packets of chance, most of which are refused (NET-13)
//! - [`control`]: messages on the control ring, and that ring (NET-20, RNG)
//! - [`offers`]: what is written to xenstore (CON)

pub mod attacker;
pub mod control;
pub mod drops;
pub mod grants;
pub mod lies;
pub mod offers;
pub mod ring;
pub mod slots;

pub use attacker::NetAttacker;

use super::Ending;

/// One thing that no frontend should do, once the interface is connected.
#[derive(Clone, Copy)]
pub struct NetMove {
    /// The catalogue's id.
    pub id: &'static str,
    /// What it does, in a few words.
    pub name: &'static str,
    /// Where the rings' indices start.
    pub start: u32,
    /// What it does.
    pub play: fn(&mut NetAttacker) -> anyhow::Result<()>,
    /// How it must end.
    pub ending: Ending,
}

impl NetMove {
    /// A move that must not close the interface.
    const fn new(
        id: &'static str,
        name: &'static str,
        play: fn(&mut NetAttacker) -> anyhow::Result<()>,
    ) -> Self {
        Self {
            id,
            name,
            start: 0,
            play,
            ending: Ending::Serves,
        }
    }

    const fn closes(mut self) -> Self {
        self.ending = Ending::Closed;
        self
    }

    /// What the guest's own bytes come to is chance: either ending is right.
    const fn ends_anyhow(mut self) -> Self {
        self.ending = Ending::Either;
        self
    }

    const fn starting_at(mut self, start: u32) -> Self {
        self.start = start;
        self
    }
}

/// All moves of connected frontends.
#[must_use]
pub fn moves() -> Vec<NetMove> {
    [
        ring::MOVES,
        grants::MOVES,
        slots::MOVES,
        lies::MOVES,
        drops::MOVES,
        control::MOVES,
    ]
    .concat()
}
