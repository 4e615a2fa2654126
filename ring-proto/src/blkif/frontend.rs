//! The frontend's side of the messages: what tests, demos and benchmarks write and read.

use std::ops::Deref;

use super::{Abi, MAX_INDIRECT_PAGES, REQUEST_WORDS, op};
use crate::ids::GrantRef;

/// What a frontend writes into a slot, true or not.
#[derive(Clone, Copy, Debug)]
pub enum Sent<'a> {
    /// Reads, writes, flushes, barriers, and whatever else is laid out as they are.
    Direct {
        /// Any number of [`op`].
        operation: u8,
        /// How many segments it says to have, whatever `segments` holds.
        nr_segments: u8,
        /// The disk, which backends ignore.
        handle: u16,
        /// Number of the request.
        id: u64,
        /// First sector.
        sector: u64,
        /// Segments; those beyond the eleventh are left out.
        segments: &'a [RawSegment],
    },
    /// A discard.
    Discard {
        /// Bit 0: secure.
        flags: u8,
        /// The disk, which backends ignore.
        handle: u16,
        /// Number of the request.
        id: u64,
        /// First sector.
        sector: u64,
        /// Number of sectors.
        sectors: u64,
    },
    /// A request whose segments are in other pages.
    Indirect {
        /// The operation it wraps.
        operation: u8,
        /// Number of segments.
        nr_segments: u16,
        /// The disk, which backends ignore.
        handle: u16,
        /// Number of the request.
        id: u64,
        /// First sector.
        sector: u64,
        /// Pages with descriptors; those beyond the eighth are left out.
        pages: &'a [GrantRef],
    },
}

impl Sent<'_> {
    /// The words for a slot; unused ones are 0.
    #[must_use]
    pub fn encode(self, abi: Abi) -> SentWords {
        let mut slot = Writer::new(abi);
        match self {
            Self::Direct {
                operation,
                nr_segments,
                handle,
                id,
                sector,
                segments,
            } => {
                let [low, high] = handle.to_le_bytes();
                slot.start([operation, nr_segments, low, high], id, sector);
                for segment in segments.iter().take(super::MAX_DIRECT_SEGMENTS) {
                    slot.words(&segment.words());
                }
            }
            Self::Discard {
                flags,
                handle,
                id,
                sector,
                sectors,
            } => {
                let [low, high] = handle.to_le_bytes();
                slot.start([op::DISCARD, flags, low, high], id, sector);
                slot.long(sectors);
            }
            Self::Indirect {
                operation,
                nr_segments,
                handle,
                id,
                sector,
                pages,
            } => {
                let [low, high] = nr_segments.to_le_bytes();
                slot.start([op::INDIRECT, operation, low, high], id, sector);
                slot.words(&[u32::from(handle)]);
                for page in pages.iter().take(MAX_INDIRECT_PAGES) {
                    slot.words(&[page.raw()]);
                }
            }
        }
        slot.finish()
    }
}

/// The words of one slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SentWords {
    words: [u32; REQUEST_WORDS],
    len: usize,
}

impl Deref for SentWords {
    type Target = [u32];

    fn deref(&self) -> &[u32] {
        self.words.get(..self.len).unwrap_or(&self.words)
    }
}

struct Writer {
    abi: Abi,
    words: [u32; REQUEST_WORDS],
    at: usize,
}

impl Writer {
    const fn new(abi: Abi) -> Self {
        Self {
            abi,
            words: [0; REQUEST_WORDS],
            at: 0,
        }
    }

    fn start(&mut self, head: [u8; 4], id: u64, sector: u64) {
        self.words(&[u32::from_le_bytes(head)]);
        if self.abi == Abi::Native {
            self.words(&[0]);
        }
        self.long(id);
        self.long(sector);
    }

    fn long(&mut self, value: u64) {
        let [a, b, c, d, e, f, g, h] = value.to_le_bytes();
        self.words(&[
            u32::from_le_bytes([a, b, c, d]),
            u32::from_le_bytes([e, f, g, h]),
        ]);
    }

    fn words(&mut self, words: &[u32]) {
        for (to, from) in self.words.iter_mut().skip(self.at).zip(words) {
            *to = *from;
        }
        self.at += words.len();
    }

    const fn finish(self) -> SentWords {
        SentWords {
            words: self.words,
            len: self.abi.stride_words(),
        }
    }
}

/// A segment descriptor as a frontend writes it, true or not: into a slot or a descriptor page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RawSegment {
    words: [u32; 2],
}

impl RawSegment {
    /// A descriptor of some sectors of a page. The padding is 0.
    #[must_use]
    pub const fn new(gref: GrantRef, first_sect: u8, last_sect: u8) -> Self {
        Self {
            words: [
                gref.raw(),
                u32::from_le_bytes([first_sect, last_sect, 0, 0]),
            ],
        }
    }

    /// The two words.
    #[must_use]
    pub const fn words(self) -> [u32; 2] {
        self.words
    }
}

/// A response as a frontend reads it: what the backend says, true or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The request's number.
    pub id: u64,
    /// The operation it repeats.
    pub operation: u8,
    /// 0, -1 or -2, unless the backend is broken.
    pub status: i16,
}

impl Answer {
    /// Words to take from a response slot. The layout is the same in all ABIs.
    pub const WORDS: usize = 3;

    /// Reads a response.
    #[must_use]
    pub const fn decode(words: [u32; Self::WORDS]) -> Self {
        let [operation, _, low, high] = words[2].to_le_bytes();
        Self {
            id: words[0] as u64 | (words[1] as u64) << 32,
            operation,
            status: i16::from_le_bytes([low, high]),
        }
    }
}
