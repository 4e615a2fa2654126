//! Block frontends that mean harm: the moves of the threat catalogue, by id.
//!
//! A [`Move`] has the catalogue's id, what it needs, what it does, and how the device must end: either
//! it goes on serving good requests ([`Ending::Serves`]: each bad request was refused, E0), or it is
//! closed with an error node and gives everything back ([`Ending::Closed`], E1). What must hold for
//! all of them (no crash, no leak, no word too many in the log, siblings undisturbed) is checked by
//! whoever plays them.
//!
//! - [`attacker`]: a ring without any of an honest frontend's care
//! - [`ring`]: indices, slots that change, ids (RNG)
//! - [`grants`]: references that lead nowhere, or to the wrong place (GNT)
//! - [`requests`], [`segments`]: requests that make no sense (BLK)
//! - `meanwhile`: what another CPU of the guest does at the same time
//! - [`offers`], [`walks`]: what is written to xenstore (CON)
//! - [`nics`]: the same for network interfaces

pub mod attacker;
pub mod grants;
mod meanwhile;
pub mod nics;
pub mod offers;
pub mod requests;
pub mod ring;
pub mod segments;
pub mod walks;

pub use attacker::Attacker;

use super::Shape;

/// How the device of a hostile frontend must end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// It serves: only requests were refused.
    Serves,
    /// It is closed, with an error node.
    Closed,
    /// Either.
    Either,
}

/// One thing that no frontend should do, once the device is connected.
#[derive(Clone, Copy)]
pub struct Move {
    /// The catalogue's id.
    pub id: &'static str,
    /// What it does, in a few words.
    pub name: &'static str,
    /// How to connect before.
    pub shape: Shape,
    /// Where the ring's indices start.
    pub start: u32,
    /// The disk is read-only.
    pub read_only: bool,
    /// The disk must be afterwards as it was before.
    pub harmless: bool,
    /// What it does.
    pub play: fn(&mut Attacker) -> anyhow::Result<()>,
    /// How it must end.
    pub ending: Ending,
}

impl Move {
    /// A move over a copying ring of one page that must neither change the disk nor close it.
    const fn new(
        id: &'static str,
        name: &'static str,
        play: fn(&mut Attacker) -> anyhow::Result<()>,
    ) -> Self {
        Self {
            id,
            name,
            shape: Shape {
                persistent: false,
                ..Shape::LINUX
            },
            start: 0,
            read_only: false,
            harmless: true,
            play,
            ending: Ending::Serves,
        }
    }

    const fn closes(mut self) -> Self {
        self.ending = Ending::Closed;
        self
    }

    const fn persistent(mut self) -> Self {
        self.shape.persistent = true;
        self
    }

    const fn read_only(mut self) -> Self {
        self.read_only = true;
        self
    }

    const fn writes(mut self) -> Self {
        self.harmless = false;
        self
    }

    const fn order(mut self, order: u32) -> Self {
        self.shape.order = Some(order);
        self
    }

    const fn starting_at(mut self, start: u32) -> Self {
        self.start = start;
        self
    }

    const fn protocol(mut self, protocol: super::Protocol) -> Self {
        self.shape.protocol = protocol;
        self
    }
}

/// All moves of connected frontends.
#[must_use]
pub fn moves() -> Vec<Move> {
    [ring::MOVES, grants::MOVES, requests::MOVES, segments::MOVES].concat()
}

/// A test for each id of the catalogue, by the caller's `play`, and one that none of the caller's
/// `moves` is left out.
#[macro_export]
macro_rules! plays {
    ($($name:ident => $id:literal,)*) => {
        $(#[test]
        fn $name() -> anyhow::Result<()> {
            play($id)
        })*

        #[test]
        fn every_move_is_played() {
            let played = std::collections::BTreeSet::from([$($id),*]);
            let known: std::collections::BTreeSet<_> = moves().iter().map(|one| one.id).collect();
            assert_eq!(played, known);
        }
    };
}
