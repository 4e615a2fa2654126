//! A request as the guest wrote it.

use super::{Abi, MAX_DIRECT_SEGMENTS, MAX_INDIRECT_PAGES, REQUEST_WORDS, op};
use crate::back::{BackRing, Claim, Overrun};
use crate::ids::GrantRef;
use crate::shared::RingMemory;

/// What a guest says it wants: an allegation, in private memory.
///
/// Having one tells you nothing but that the bytes will not change any more. It is kept in the native
/// layout whatever the guest's ABI, so a journal holds one layout only.
///
/// Native layout in words: 0 = operation, segments, handle; 2..4 = id; 4..6 = first sector; then
/// segments of two words, or the number of sectors of a discard, or the handle and the descriptor
/// pages of an indirect request. The 32-bit layout has no padding in word 1, and is otherwise the
/// same: everything sits one word earlier.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RawRequest {
    words: [u32; REQUEST_WORDS],
}

impl RawRequest {
    /// Takes the next request of a ring into this one, `None` if there is none.
    ///
    /// Only what the request says it uses is copied, and by that alone it is parsed; the words behind
    /// keep what they had.
    ///
    /// # Errors
    /// [`Overrun`], as [`BackRing::take`].
    #[inline]
    pub fn take_from<M: RingMemory>(
        &mut self,
        ring: &mut BackRing<M>,
        abi: Abi,
    ) -> Result<Option<Claim>, Overrun> {
        let words = &mut self.words;
        ring.take_into(|first| {
            words[0] = first;
            let start = match abi {
                Abi::Native => 1,
                Abi::X86_32 => 2,
            };
            words.get_mut(start..words_used(first)).unwrap_or_default()
        })
    }

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
    pub(super) fn segments(&self) -> &[[u32; 2]] {
        self.words[6..].as_chunks::<2>().0
    }

    pub(super) fn indirect_pages(&self) -> impl Iterator<Item = GrantRef> {
        self.words[7..7 + MAX_INDIRECT_PAGES]
            .iter()
            .map(|&raw| GrantRef::new(raw))
    }

    const fn byte<const AT: usize>(&self) -> u8 {
        self.words[0].to_le_bytes()[AT]
    }

    const fn long(&self, at: usize) -> u64 {
        self.words[at] as u64 | (self.words[at + 1] as u64) << 32
    }
}

/// How many words in native layout a request uses whose first word is `first`.
#[inline]
fn words_used(first: u32) -> usize {
    let [operation, segments, ..] = first.to_le_bytes();
    match operation {
        op::INDIRECT => 7 + MAX_INDIRECT_PAGES,
        op::DISCARD => 8,
        _ => 6 + 2 * usize::from(segments).min(MAX_DIRECT_SEGMENTS),
    }
}
