//! The states of a split device.

use std::fmt;

use crate::number;

/// What one end of a split device says about itself (`public/io/xenbus.h`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum State {
    /// No state to speak of.
    Unknown = 0,
    /// The toolstack made the node, or a frontend starts over.
    Initialising = 1,
    /// The backend is set up and waits for the frontend (and the hotplug script).
    InitWait = 2,
    /// The frontend has published its rings.
    Initialised = 3,
    /// In use.
    Connected = 4,
    /// About to close; for a frontend with requests still under way.
    Closing = 5,
    /// Closed.
    Closed = 6,
    /// A frontend asks for a change of its set-up (network only).
    Reconfiguring = 7,
    /// The answer to it.
    Reconfigured = 8,
}

impl State {
    /// Every state, by number.
    pub const ALL: [Self; 9] = [
        Self::Unknown,
        Self::Initialising,
        Self::InitWait,
        Self::Initialised,
        Self::Connected,
        Self::Closing,
        Self::Closed,
        Self::Reconfiguring,
        Self::Reconfigured,
    ];

    /// Reads the value of a `state` node; `None` when it is not one of the nine numbers.
    #[must_use]
    pub fn parse(value: &[u8]) -> Option<Self> {
        let index = number::decimal(value, 8).ok()?;
        Self::ALL.get(usize::try_from(index).ok()?).copied()
    }

    /// The value of a `state` node.
    #[must_use]
    pub fn value(self) -> String {
        (self as u8).to_string()
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({self:?})", *self as u8)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn go_there_and_back() {
        for (number, state) in State::ALL.into_iter().enumerate() {
            assert_eq!(state.value(), number.to_string());
            assert_eq!(State::parse(state.value().as_bytes()), Some(state));
        }
        for bad in [
            &b""[..],
            b"9",
            b"-1",
            b" 4",
            b"4 ",
            b"4\0",
            b"0x4",
            b"4294967300",
            b"\xff",
        ] {
            assert_eq!(State::parse(bad), None, "{bad:?}");
        }
    }
}
