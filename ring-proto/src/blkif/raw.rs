//! A request as the guest wrote it.

use super::{Abi, MAX_DIRECT_SEGMENTS, MAX_INDIRECT_PAGES, REQUEST_WORDS, op};
use crate::ids::GrantRef;

/// What a guest says it wants: an allegation, in private memory.
///
/// Having one tells you nothing but that the bytes will not change any more. It is kept in the native
/// layout whatever the guest's ABI, so a journal holds one layout only.
///
/// Native layout in words: 0 = operation, segments, handle; 2..4 = id; 4..6 = first sector; then
/// segments of two words, or the number of sectors of a discard, or the handle and the descriptor
/// pages of an indirect request. The 32-bit layout has no padding in word 1, and is otherwise the
/// same: everything sits one word earlier.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RawRequest {
    words: [u32; REQUEST_WORDS],
}

impl RawRequest {
    /// Brings the words of a slot into the native layout.
    #[inline]
    #[must_use]
    pub fn decode(abi: Abi, words: [u32; REQUEST_WORDS]) -> Self {
        match abi {
            Abi::Native => Self { words },
            Abi::X86_32 => {
                let mut native = words;
                native.copy_within(1..REQUEST_WORDS - 1, 2);
                native[1] = 0;
                Self { words: native }
            }
        }
    }

    /// The request that [`words`](Self::words) gave, for example to a journal.
    #[must_use]
    pub const fn from_words(words: [u32; REQUEST_WORDS]) -> Self {
        Self { words }
    }

    /// The words in native layout.
    #[must_use]
    pub const fn words(&self) -> &[u32; REQUEST_WORDS] {
        &self.words
    }

    /// The operation number, any of 256.
    #[must_use]
    pub const fn operation(&self) -> u8 {
        self.byte::<0>()
    }

    /// The number that a response is recognised by. Guests choose it: it need not be unique.
    #[must_use]
    pub const fn id(&self) -> u64 {
        self.long(2)
    }

    /// The operation that a response must repeat: for an indirect request the one that it wraps, and
    /// else the request's own (`blkif_response_t`; Linux frontends give the disk up on any other).
    #[must_use]
    pub const fn echoed_operation(&self) -> u8 {
        match self.operation() {
            op::INDIRECT => self.byte::<1>(),
            own => own,
        }
    }

    /// Byte 1: how many segments, unless the request is a discard or indirect.
    pub(super) const fn nr_segments(&self) -> u8 {
        self.byte::<1>()
    }

    /// Byte 1 of an indirect request.
    pub(super) const fn indirect_operation(&self) -> u8 {
        self.byte::<1>()
    }

    /// Byte 1 of a discard, of which bit 0 means: erase securely.
    pub(super) const fn discard_flags(&self) -> u8 {
        self.byte::<1>()
    }

    /// Bytes 2 and 3 of an indirect request: how many segments.
    pub(super) const fn nr_indirect_segments(&self) -> u16 {
        let [_, _, low, high] = self.words[0].to_le_bytes();
        u16::from_le_bytes([low, high])
    }

    pub(super) const fn sector(&self) -> u64 {
        self.long(4)
    }

    pub(super) const fn discard_sectors(&self) -> u64 {
        self.long(6)
    }

    /// The segments that the slot has room for, used or not.
    #[inline]
    pub(super) fn segments(&self) -> &[[u32; 2]; MAX_DIRECT_SEGMENTS] {
        let (_, words) = self.words.split_at(6);
        let (pairs, _) = words.as_chunks::<2>();
        // 22 words are 11 pairs: the conversion cannot fail and leaves no trace in the code.
        pairs.try_into().unwrap_or(&[[0; 2]; MAX_DIRECT_SEGMENTS])
    }

    pub(super) fn indirect_pages(&self) -> [GrantRef; MAX_INDIRECT_PAGES] {
        std::array::from_fn(|at| GrantRef::new(self.words[7 + at]))
    }

    const fn byte<const AT: usize>(&self) -> u8 {
        self.words[0].to_le_bytes()[AT]
    }

    const fn long(&self, at: usize) -> u64 {
        self.words[at] as u64 | (self.words[at + 1] as u64) << 32
    }
}

/// A segment descriptor as the guest wrote it, in private memory: an allegation.
///
/// Layout: grant reference in the first word; first sector, last sector and two bytes of padding in
/// the second. The same in all ABIs and in descriptor pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RawSegment {
    words: [u32; 2],
}

impl RawSegment {
    /// The descriptor in two words, as a ring or a page of words has it.
    #[must_use]
    pub const fn from_words(words: [u32; 2]) -> Self {
        Self { words }
    }

    /// The descriptor in eight bytes of a copied page.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 8]) -> Self {
        let [a, b, c, d, e, f, g, h] = bytes;
        Self {
            words: [
                u32::from_le_bytes([a, b, c, d]),
                u32::from_le_bytes([e, f, g, h]),
            ],
        }
    }

    /// A descriptor saying exactly this, true or not. The padding is 0.
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

    pub(super) const fn gref(self) -> GrantRef {
        GrantRef::new(self.words[0])
    }

    pub(super) const fn first_sect(self) -> u8 {
        self.words[1].to_le_bytes()[0]
    }

    pub(super) const fn last_sect(self) -> u8 {
        self.words[1].to_le_bytes()[1]
    }
}
