//! Answers.

use std::ops::Deref;

use super::{Abi, op};

/// What became of a request (`BLKIF_RSP_*`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Status {
    /// Done.
    Okay,
    /// Not done.
    Error,
    /// Not done, and never will be: do not ask again.
    NotSupported,
}

impl Status {
    /// The number on the wire, a signed 16-bit one.
    #[must_use]
    pub const fn wire(self) -> i16 {
        match self {
            Self::Okay => 0,
            Self::Error => -1,
            Self::NotSupported => -2,
        }
    }
}

/// What a response repeats of its request. Obtained from the request, so it repeats the truth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Echo {
    id: u64,
    operation: u8,
    empty_flush: bool,
}

impl Echo {
    pub(super) const fn new(id: u64, operation: u8, empty_flush: bool) -> Self {
        Self {
            id,
            operation,
            empty_flush,
        }
    }

    /// The guest's number for the request.
    #[must_use]
    pub const fn id(self) -> u64 {
        self.id
    }

    /// The operation, for indirect requests the one they wrap.
    #[must_use]
    pub const fn operation(self) -> u8 {
        self.operation
    }

    /// The request was executed.
    pub const fn okay(self) -> Response {
        Response::new(self, Status::Okay)
    }

    /// The request failed. `None` for a flush without data: there is no true answer to that. Linux
    /// frontends take any error for "flushes are not supported", report success to whoever waits for
    /// durability and never flush again (`xen-blkfront.c`, `blkif_interrupt`). Withhold the answer.
    #[must_use]
    pub const fn failed(self) -> Option<Response> {
        if self.empty_flush {
            None
        } else {
            Some(Response::new(self, Status::Error))
        }
    }

    /// The disk turned out to be unable to do such requests at all. A read or write has plainly
    /// failed: Windows frontends take "not supported" for success.
    pub const fn unsupported(self) -> Response {
        match self.operation {
            op::READ | op::WRITE => Response::new(self, Status::Error),
            _ => Response::new(self, Status::NotSupported),
        }
    }
}

/// An answer to one request.
///
/// Having one tells you that it repeats the id and operation of a request, that it does not call a
/// read or a write unsupported, and that it does not call a flush without data failed.
#[must_use = "the guest waits for it"]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Response {
    echo: Echo,
    status: Status,
}

impl Response {
    pub(super) const fn new(echo: Echo, status: Status) -> Self {
        Self { echo, status }
    }

    /// The guest's number for the request.
    #[must_use]
    pub const fn id(self) -> u64 {
        self.echo.id
    }

    /// The operation it repeats.
    #[must_use]
    pub const fn operation(self) -> u8 {
        self.echo.operation
    }

    /// What became of the request.
    #[must_use]
    pub const fn status(self) -> Status {
        self.status
    }

    /// The whole response for a slot, padding zeroed: what is left of an old request or of our own
    /// memory is no guest's business (XSA-216).
    #[inline]
    #[must_use]
    pub const fn encode(self, abi: Abi) -> ResponseWords {
        let [a, b, c, d, e, f, g, h] = self.echo.id.to_le_bytes();
        let [low, high] = self.status.wire().to_le_bytes();
        let words = [
            u32::from_le_bytes([a, b, c, d]),
            u32::from_le_bytes([e, f, g, h]),
            u32::from_le_bytes([self.echo.operation, 0, low, high]),
            0,
        ];
        let len = match abi {
            Abi::Native => 4,
            Abi::X86_32 => 3,
        };
        ResponseWords { words, len }
    }
}

/// The words of a response: 4 of them, or 3 in the 32-bit layout.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ResponseWords {
    words: [u32; 4],
    len: usize,
}

impl Deref for ResponseWords {
    type Target = [u32];

    #[inline]
    fn deref(&self) -> &[u32] {
        self.words.get(..self.len).unwrap_or(&self.words)
    }
}
