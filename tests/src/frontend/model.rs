//! The disk as it has to be: which generation of which sector was last written.
//!
//! A sector's 512 bytes are a function of the disk's seed, the sector's number and its generation,
//! so a sector that landed in the wrong place, is stale, torn, or another disk's is told from the
//! right one, and the model needs four bytes for it.

use std::fmt;
use std::ops::Range;

/// Bytes of a sector.
pub const SECTOR: usize = 512;

/// The generation of sectors that read as zeros.
const ZEROS: u32 = u32::MAX;

/// What a disk must hold.
#[derive(Clone, Debug)]
pub struct Model {
    seed: u64,
    generations: Vec<u32>,
    /// Who uses a sector now: a count of readers, or [`WRITER`].
    busy: Vec<u16>,
    last: u32,
}

const WRITER: u16 = u16::MAX;

impl Model {
    /// A disk of `sectors` sectors that reads as zeros.
    #[must_use]
    pub fn zeroed(seed: u64, sectors: usize) -> Self {
        Self {
            seed,
            generations: vec![ZEROS; sectors],
            busy: vec![0; sectors],
            last: 0,
        }
    }

    /// A disk whose every sector holds generation 0; [`image`](Self::image) gives the bytes.
    #[must_use]
    pub fn filled(seed: u64, sectors: usize) -> Self {
        Self {
            generations: vec![0; sectors],
            ..Self::zeroed(seed, sectors)
        }
    }

    /// Size in 512-byte sectors.
    #[must_use]
    pub const fn sectors(&self) -> usize {
        self.generations.len()
    }

    /// The bytes of a range of sectors.
    #[must_use]
    pub fn image(&self, range: Range<usize>) -> Vec<u8> {
        let mut bytes = vec![0; range.len() * SECTOR];
        for (sector, into) in range.zip(bytes.chunks_exact_mut(SECTOR)) {
            self.fill(sector, self.generations[sector], into);
        }
        bytes
    }

    /// Reserves a range for a request: `false` if one is under way that it must not meet. What two
    /// overlapping requests do to each other is undefined, as on any disk.
    pub fn reserve(&mut self, range: Range<usize>, write: bool) -> bool {
        let free = |users: &u16| *users == 0 || (!write && *users != WRITER);
        if !self.busy[range.clone()].iter().all(free) {
            return false;
        }
        for users in &mut self.busy[range] {
            *users = if write { WRITER } else { *users + 1 };
        }
        true
    }

    /// Ends a reservation.
    pub fn release(&mut self, range: Range<usize>) {
        for users in &mut self.busy[range] {
            *users = if *users == WRITER { 0 } else { *users - 1 };
        }
    }

    /// The bytes that a write to a reserved range shall bring: a generation that never was.
    pub fn next_generation(&mut self, range: Range<usize>) -> (u32, Vec<u8>) {
        self.last += 1;
        let mut bytes = vec![0; range.len() * SECTOR];
        for (sector, into) in range.zip(bytes.chunks_exact_mut(SECTOR)) {
            self.fill(sector, self.last, into);
        }
        (self.last, bytes)
    }

    /// The range was written with what [`next_generation`](Self::next_generation) gave.
    pub fn written(&mut self, range: Range<usize>, generation: u32) {
        self.generations[range].fill(generation);
    }

    /// The range was discarded by a disk whose holes read as zeros.
    pub fn zeroed_out(&mut self, range: Range<usize>) {
        self.generations[range].fill(ZEROS);
    }

    /// Whether `bytes`, read from `first` on, are what the disk must hold.
    ///
    /// # Errors
    /// The first sector that differs, and what was found there instead.
    pub fn check(&self, first: usize, bytes: &[u8]) -> Result<(), Mismatch> {
        let mut expected = [0; SECTOR];
        for (sector, found) in (first..).zip(bytes.chunks(SECTOR)) {
            let generation = self.generations[sector];
            self.fill(sector, generation, &mut expected);
            if found != &expected[..found.len()] {
                return Err(self.mismatch(sector, generation, found));
            }
        }
        Ok(())
    }

    fn mismatch(&self, sector: usize, generation: u32, found: &[u8]) -> Mismatch {
        let found = if found.iter().all(|&byte| byte == 0) {
            "zeros".into()
        } else if found.iter().all(|&byte| byte == found[0]) {
            format!("only {:#04x}", found[0])
        } else {
            self.recognise(found)
                .unwrap_or_else(|| format!("unknown bytes {:02x?}", &found[..16]))
        };
        Mismatch {
            sector,
            generation,
            found,
        }
    }

    /// Names the sector and generation whose first words these are. They are written in clear.
    fn recognise(&self, found: &[u8]) -> Option<String> {
        let (words, _) = found.as_chunks::<8>();
        let stamp = u64::from_le_bytes(*words.first()?) ^ self.seed;
        let (sector, generation) = (stamp >> 32, stamp & 0xffff_ffff);
        let mut expected = [0; SECTOR];
        let at = usize::try_from(sector).ok()?;
        self.fill(at, u32::try_from(generation).ok()?, &mut expected);
        let alike = expected.iter().zip(found).filter(|(a, b)| a == b).count();
        (alike >= 8 && at < self.sectors())
            .then(|| format!("sector {sector} generation {generation}, {alike} bytes of it"))
    }

    fn fill(&self, sector: usize, generation: u32, into: &mut [u8]) {
        if generation == ZEROS {
            into.fill(0);
            return;
        }
        let stamp = (sector as u64) << 32 | u64::from(generation);
        let mut word = self.seed ^ stamp;
        for chunk in into.chunks_mut(8) {
            let bytes = word.to_le_bytes();
            chunk.copy_from_slice(&bytes[..chunk.len()]);
            word = mix(word);
        }
    }
}

/// One step of splitmix64.
const fn mix(word: u64) -> u64 {
    let word = word.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ (word >> 31)
}

/// A sector is not what it must be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mismatch {
    /// Which.
    pub sector: usize,
    /// The generation that was last written; [`u32::MAX`] for zeros.
    pub generation: u32,
    /// What is there.
    pub found: String,
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            sector,
            generation,
            found,
        } = self;
        if *generation == ZEROS {
            write!(f, "sector {sector} must be zeros, it holds {found}")
        } else {
            write!(
                f,
                "sector {sector} must be generation {generation}, it holds {found}"
            )
        }
    }
}

impl std::error::Error for Mismatch {}

/// Chance that can be repeated: xorshift64*.
#[derive(Clone, Debug)]
pub struct Chance(u64);

impl Chance {
    /// Numbers that depend on nothing but `seed`.
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        Self(mix(seed) | 1)
    }

    /// Any number.
    pub const fn any(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// A number below `bound`, which is not 0.
    pub fn below(&mut self, bound: usize) -> usize {
        let bound = u64::try_from(bound.max(1)).unwrap_or(u64::MAX);
        usize::try_from((self.any() >> 16) % bound).unwrap_or(0)
    }

    /// True once in `of` times.
    pub fn once_in(&mut self, of: usize) -> bool {
        self.below(of) == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_is_what_must_be_read() {
        let mut model = Model::zeroed(7, 64);
        model.check(0, &[0; 64 * SECTOR]).unwrap();
        let (generation, bytes) = model.next_generation(8..16);
        assert!(
            model.check(8, &bytes).is_err(),
            "it is not written before it is"
        );
        model.written(8..16, generation);
        model.check(8, &bytes).unwrap();
        assert_eq!(model.image(8..16), bytes);
        model.zeroed_out(9..10);
        assert!(model.check(8, &bytes).is_err());
    }

    #[test]
    fn a_misplaced_and_a_stale_sector_are_named() {
        let mut model = Model::filled(3, 16);
        let misplaced = model.image(5..6);
        let told = model.check(4, &misplaced).unwrap_err();
        assert!(told.found.contains("sector 5 generation 0, 512"), "{told}");
        let stale = model.image(2..3);
        model.written(2..3, 9);
        let told = model.check(2, &stale).unwrap_err();
        assert_eq!(told.generation, 9);
        assert!(told.found.contains("sector 2 generation 0"), "{told}");
    }

    #[test]
    fn one_wrong_byte_is_seen() {
        let model = Model::filled(3, 2);
        let mut bytes = model.image(0..2);
        for at in [0, 511, 512, 1023] {
            bytes[at] ^= 1;
            assert_eq!(
                model.check(0, &bytes).map_err(|m| m.sector),
                Err(at / SECTOR)
            );
            bytes[at] ^= 1;
        }
        model.check(0, &bytes).unwrap();
    }

    #[test]
    fn readers_share_and_writers_do_not() {
        let mut model = Model::zeroed(0, 8);
        assert!(model.reserve(0..4, false));
        assert!(model.reserve(2..6, false));
        assert!(!model.reserve(3..5, true));
        assert!(model.reserve(6..8, true));
        assert!(!model.reserve(7..8, false));
        model.release(0..4);
        assert!(!model.reserve(2..3, true));
        model.release(2..6);
        assert!(model.reserve(0..6, true));
    }
}
