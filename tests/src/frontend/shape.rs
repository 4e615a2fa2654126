//! What a connection looks like.

use std::fmt;

use ring_proto::blkif::Abi;

/// The slot layout, as the frontend says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// `x86_64-abi`.
    X86_64,
    /// `x86_32-abi`.
    X86_32,
    /// `arm-abi`: laid out as 64-bit x86.
    Arm,
    /// Nothing is written, which means 32-bit x86 to an x86 backend.
    Unsaid,
}

impl Protocol {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::X86_64, Self::X86_32, Self::Arm, Self::Unsaid];

    /// The value of the `protocol` key.
    #[must_use]
    pub const fn key(self) -> Option<&'static str> {
        match self {
            Self::X86_64 => Some("x86_64-abi"),
            Self::X86_32 => Some("x86_32-abi"),
            Self::Arm => Some("arm-abi"),
            Self::Unsaid => None,
        }
    }

    /// How slots are laid out.
    #[must_use]
    pub const fn abi(self) -> Abi {
        match self {
            Self::X86_64 | Self::Arm => Abi::Native,
            Self::X86_32 | Self::Unsaid => Abi::X86_32,
        }
    }
}

/// Where a request's segments are described.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Segments {
    /// Always in the slot: at most 11.
    Direct,
    /// In pages of their own when there are more than 11, as Linux does.
    IndirectIfMany,
    /// Always in pages of their own.
    Indirect,
}

/// What a frontend asks for when it connects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// Slot layout.
    pub protocol: Protocol,
    /// Offer persistent grants; used if the backend offers them too.
    pub persistent: bool,
    /// log2 of the pages of a ring; `None` writes the single-page `ring-ref` of old frontends.
    pub order: Option<u32>,
    /// Number of rings.
    pub queues: u32,
    /// Direct or indirect requests.
    pub segments: Segments,
}

impl Shape {
    /// What a Linux guest of today asks for by default: one queue per vCPU (here 1), one ring page,
    /// persistent grants, indirect requests.
    pub const LINUX: Self = Self {
        protocol: Protocol::X86_64,
        persistent: true,
        order: None,
        queues: 1,
        segments: Segments::IndirectIfMany,
    };

    /// Pages of one ring.
    #[must_use]
    pub const fn ring_pages(self) -> u32 {
        match self.order {
            Some(order) => 1 << order,
            None => 1,
        }
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            protocol,
            persistent,
            order,
            queues,
            segments,
        } = self;
        let grants = if *persistent { "persistent" } else { "copy" };
        write!(
            f,
            "{protocol:?} {grants} order {order:?} queues {queues} {segments:?}"
        )
    }
}
