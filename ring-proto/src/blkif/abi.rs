//! Which layout a guest's slots have.

use std::fmt;

use crate::shared::RingShape;

/// The layout of requests and responses, which depends on how the guest's compiler aligns 64-bit
/// fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Abi {
    /// 64-bit x86 and both ARMs: 64-bit fields on 8 bytes, slots of 112 bytes, responses of 16.
    Native,
    /// 32-bit x86: 64-bit fields on 4 bytes, slots of 108 bytes, responses of 12.
    X86_32,
}

impl Abi {
    /// Reads the frontend's `protocol` key.
    ///
    /// Without the key an x86 backend assumes the 32-bit layout, as Linux does
    /// (`xen-blkback/xenbus.c`, `BLKIF_PROTOCOL_DEFAULT`), although the header says native.
    ///
    /// # Errors
    /// [`UnknownAbi`]: the value is no layout we know. The guest's fault.
    pub fn parse(protocol: Option<&[u8]>) -> Result<Self, UnknownAbi> {
        match protocol {
            Some(b"x86_64-abi" | b"arm-abi") => Ok(Self::Native),
            Some(b"x86_32-abi") => Ok(Self::X86_32),
            Some(value) => Err(UnknownAbi::new(value)),
            None if cfg!(any(target_arch = "x86", target_arch = "x86_64")) => Ok(Self::X86_32),
            None => Ok(Self::Native),
        }
    }

    /// Words from one slot to the next.
    #[must_use]
    pub const fn stride_words(self) -> usize {
        match self {
            Self::Native => 28,
            Self::X86_32 => 27,
        }
    }

    /// The ring in `pages` shared pages; `None` if there is none (0 pages, or too many to count).
    #[must_use]
    pub fn ring_shape(self, pages: u32) -> Option<RingShape> {
        RingShape::fitting(pages, self.stride_words())
    }
}

impl fmt::Display for Abi {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Native => "native",
            Self::X86_32 => "x86_32",
        })
    }
}

/// The `protocol` key names no layout we know. Keeps the start of the value for the message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownAbi {
    start: Vec<u8>,
    cut: bool,
}

impl UnknownAbi {
    /// Enough to recognise a mistake; the value may be 4 KiB of anything.
    const KEPT: usize = 24;

    fn new(value: &[u8]) -> Self {
        let (start, rest) = value.split_at(value.len().min(Self::KEPT));
        Self {
            start: start.to_vec(),
            cut: !rest.is_empty(),
        }
    }
}

impl fmt::Display for UnknownAbi {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let more = if self.cut { "..." } else { "" };
        write!(
            f,
            "protocol \"{}{more}\" is none of x86_64-abi, x86_32-abi, arm-abi",
            self.start.escape_ascii()
        )
    }
}

impl std::error::Error for UnknownAbi {}
