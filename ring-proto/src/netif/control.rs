//! The control ring: what a frontend wants done about hashing. Parsing only; the state is the
//! backend's.

use std::fmt;

use super::{CONTROL_WORDS, HashKind, control_type};
use crate::ids::GrantRef;

/// A control message that makes sense.
///
/// Having one tells you that the type is known and that what the message alone can be judged by is
/// right; not whether it fits what was said before, nor whether a grant exists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ControlRequest {
    /// What a response repeats.
    pub echo: ControlEcho,
    /// What to do.
    pub message: ControlMessage,
}

/// What a frontend asks for over the control ring (`XEN_NETIF_CTRL_TYPE_*`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ControlMessage {
    /// Which kinds of hash there are, once an algorithm is chosen.
    GetHashFlags,
    /// Which kinds of hash to compute. None: no hashing.
    SetHashFlags(HashKinds),
    /// The key of the hash; bytes that are not named are 0.
    SetHashKey {
        /// The page that it is at the start of.
        gref: GrantRef,
        /// Its bytes, 0 to [`MAX_KEY`](Self::MAX_KEY). If 0, the page is not looked at.
        len: u32,
    },
    /// How many entries the table from hash to queue can have.
    GetHashMappingSize,
    /// How many entries the table has, 0 to [`MAX_MAPPING`](Self::MAX_MAPPING), all for queue 0 until
    /// told otherwise. 0: no table, the hash is taken modulo the number of queues.
    SetHashMappingSize(u32),
    /// Some entries of the table: 32-bit queue numbers, each of which is still to be judged.
    SetHashMapping {
        /// The page that they are at the start of.
        gref: GrantRef,
        /// How many.
        count: u32,
        /// The first one's place in the table. Together with `count` inside a table of
        /// [`MAX_MAPPING`](Self::MAX_MAPPING) (XSA-270); the one in use may be smaller.
        offset: u32,
    },
    /// How to hash.
    SetHashAlgorithm(HashAlgorithm),
}

impl ControlMessage {
    /// Bytes that a key can have.
    pub const MAX_KEY: u32 = 40;

    /// Entries that the table from hash to queue can have.
    pub const MAX_MAPPING: u32 = 128;
}

/// How to hash (`XEN_NETIF_CTRL_HASH_ALGORITHM_*`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum HashAlgorithm {
    /// Not at all: the backend chooses queues as it likes.
    #[default]
    None,
    /// As Windows does.
    Toeplitz,
}

/// A set of kinds of hash (`XEN_NETIF_CTRL_HASH_TYPE_*`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HashKinds(u32);

impl HashKinds {
    /// All kinds that the protocol knows.
    pub const ALL: Self = Self(0b1111);

    /// The bits of a message; `None` if one of them is no kind.
    #[must_use]
    pub const fn new(bits: u32) -> Option<Self> {
        if bits & !Self::ALL.0 == 0 {
            Some(Self(bits))
        } else {
            None
        }
    }

    /// The bits, as a response has them.
    #[must_use]
    pub const fn bits(self) -> u32 {
        self.0
    }

    /// Whether `kind` is one of them.
    #[must_use]
    pub const fn contains(self, kind: HashKind) -> bool {
        self.0 >> kind.wire() & 1 != 0
    }

    /// Whether there is none.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }
}

impl ControlRequest {
    /// Decides what a message asks for. Layout: id and type in the first word, then three words that
    /// depend on the type.
    ///
    /// # Errors
    /// [`ControlReject`]: nothing is done, and it has its answer already. The guest's fault, and only
    /// this message's.
    pub fn parse(words: [u32; CONTROL_WORDS]) -> Result<Self, ControlReject> {
        let [head, data @ ..] = words;
        let [a, b, c, d] = head.to_le_bytes();
        let echo = ControlEcho {
            id: u16::from_le_bytes([a, b]),
            kind: u16::from_le_bytes([c, d]),
        };
        match ControlMessage::parse(echo.kind, data) {
            Ok(message) => Ok(Self { echo, message }),
            Err(why) => Err(ControlReject { echo, why }),
        }
    }
}

impl ControlMessage {
    fn parse(kind: u16, data: [u32; 3]) -> Result<Self, Refusal> {
        let [first, second, third] = data;
        match kind {
            control_type::GET_HASH_FLAGS => Ok(Self::GetHashFlags),
            control_type::SET_HASH_FLAGS => HashKinds::new(first)
                .map(Self::SetHashFlags)
                .ok_or(Refusal::HashFlags(first)),
            control_type::SET_HASH_KEY if second > Self::MAX_KEY => Err(Refusal::KeyLength(second)),
            control_type::SET_HASH_KEY => Ok(Self::SetHashKey {
                gref: GrantRef::new(first),
                len: second,
            }),
            control_type::GET_HASH_MAPPING_SIZE => Ok(Self::GetHashMappingSize),
            control_type::SET_HASH_MAPPING_SIZE if first > Self::MAX_MAPPING => {
                Err(Refusal::MappingSize(first))
            }
            control_type::SET_HASH_MAPPING_SIZE => Ok(Self::SetHashMappingSize(first)),
            control_type::SET_HASH_MAPPING => match second.checked_add(third) {
                Some(end) if end <= Self::MAX_MAPPING => Ok(Self::SetHashMapping {
                    gref: GrantRef::new(first),
                    count: second,
                    offset: third,
                }),
                _ => Err(Refusal::MappingRange {
                    count: second,
                    offset: third,
                }),
            },
            control_type::SET_HASH_ALGORITHM => match first {
                0 => Ok(Self::SetHashAlgorithm(HashAlgorithm::None)),
                1 => Ok(Self::SetHashAlgorithm(HashAlgorithm::Toeplitz)),
                unknown => Err(Refusal::Algorithm(unknown)),
            },
            control_type::GET_GREF_MAPPING_SIZE
            | control_type::ADD_GREF_MAPPING
            | control_type::DEL_GREF_MAPPING => Err(Refusal::StaticGrants(kind)),
            unknown => Err(Refusal::UnknownType(unknown)),
        }
    }
}

/// What a response repeats of its request. Obtained from the request, so it repeats the truth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ControlEcho {
    id: u16,
    kind: u16,
}

impl ControlEcho {
    /// It was done; `data` is what was asked for, or 0.
    pub const fn success(self, data: u32) -> ControlResponse {
        ControlResponse {
            echo: self,
            status: ControlStatus::Success,
            data,
        }
    }

    /// It was not done.
    pub const fn failed(self, status: ControlStatus) -> ControlResponse {
        ControlResponse {
            echo: self,
            status,
            data: 0,
        }
    }
}

/// An answer on the control ring. Answers may come in any order.
#[must_use = "the guest waits for it"]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ControlResponse {
    echo: ControlEcho,
    status: ControlStatus,
    data: u32,
}

impl ControlResponse {
    /// What became of the request.
    #[must_use]
    pub const fn status(self) -> ControlStatus {
        self.status
    }

    /// The whole slot: id and type; status; data; and a word that means nothing.
    #[must_use]
    pub const fn encode(self) -> [u32; CONTROL_WORDS] {
        let head = self.echo.id as u32 | (self.echo.kind as u32) << 16;
        [head, self.status.wire(), self.data, 0]
    }
}

/// What became of a control request (`XEN_NETIF_CTRL_STATUS_*`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ControlStatus {
    /// Done.
    Success,
    /// Never done here, or not with the algorithm that is chosen.
    NotSupported,
    /// Not done, as what it says is wrong.
    InvalidParameter,
    /// Not done, as it is more than there is room for.
    BufferOverflow,
}

impl ControlStatus {
    /// The number on the wire.
    #[must_use]
    pub const fn wire(self) -> u32 {
        match self {
            Self::Success => 0,
            Self::NotSupported => 1,
            Self::InvalidParameter => 2,
            Self::BufferOverflow => 3,
        }
    }
}

/// A control message that is answered without being done. The guest's fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ControlReject {
    echo: ControlEcho,
    why: Refusal,
}

impl ControlReject {
    /// What is wrong with it.
    #[must_use]
    pub const fn why(&self) -> Refusal {
        self.why
    }

    /// The answer.
    pub const fn response(&self) -> ControlResponse {
        self.echo.failed(self.why.status())
    }
}

impl fmt::Display for ControlReject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "control message {}: {}", self.echo.kind, self.why)
    }
}

impl std::error::Error for ControlReject {}

/// What is wrong with a control message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// A number that means nothing to us.
    UnknownType(u16),
    /// Grants that stay mapped, which no backend has and this one does not offer.
    StaticGrants(u16),
    /// Bits that are no kind of hash.
    HashFlags(u32),
    /// A key that is too long.
    KeyLength(u32),
    /// A table that is too long.
    MappingSize(u32),
    /// Entries outside the longest table.
    MappingRange {
        /// How many.
        count: u32,
        /// The first one's place.
        offset: u32,
    },
    /// An algorithm that does not exist.
    Algorithm(u32),
}

impl Refusal {
    /// The one place where a refusal becomes a wire status. Where the header and Linux differ
    /// (keys and tables that are too long), Linux's answer: it is the one frontends have seen.
    const fn status(self) -> ControlStatus {
        match self {
            Self::UnknownType(_) | Self::StaticGrants(_) => ControlStatus::NotSupported,
            Self::HashFlags(_)
            | Self::KeyLength(_)
            | Self::MappingSize(_)
            | Self::MappingRange { .. }
            | Self::Algorithm(_) => ControlStatus::InvalidParameter,
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::UnknownType(_) => f.write_str("unknown type"),
            Self::StaticGrants(_) => f.write_str("static grants were not offered"),
            Self::HashFlags(bits) => write!(f, "hash kinds {bits:#x}"),
            Self::KeyLength(len) => {
                write!(f, "key of {len} bytes, at most {}", ControlMessage::MAX_KEY)
            }
            Self::MappingSize(size) => {
                let max = ControlMessage::MAX_MAPPING;
                write!(f, "table of {size} entries, at most {max}")
            }
            Self::MappingRange { count, offset } => {
                let max = ControlMessage::MAX_MAPPING;
                write!(
                    f,
                    "{count} entries from {offset} of a table of at most {max}"
                )
            }
            Self::Algorithm(number) => write!(f, "hash algorithm {number} does not exist"),
        }
    }
}
