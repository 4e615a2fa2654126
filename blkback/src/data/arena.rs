//! Hands out runs of private pages for transfers.
//!
//! A transfer's bytes lie next to each other in a run, whatever pages of the guest they come from,
//! so one disk operation moves them all. First fit from the front: what was used last is used
//! next, while it is still in the cache.

use std::sync::Arc;

use gntdev::LocalPages;

/// Bytes in a page.
pub const PAGE: usize = 4096;

/// Private pages of one queue, some of them lent out as [`Run`]s.
#[derive(Debug)]
pub struct Arena {
    pages: Arc<LocalPages>,
    /// One bit per page, set while it is free.
    free: Vec<u64>,
}

/// Pages in a row, lent by an [`Arena`]. It goes back by [`Arena::give`]; one that is dropped
/// stays lent.
#[must_use = "the pages stay lent until they are given back"]
#[derive(Debug, PartialEq, Eq)]
pub struct Run {
    first: usize,
    pages: usize,
}

impl Run {
    /// Where the run begins in the [`LocalPages`], in bytes.
    #[must_use]
    pub const fn at(&self) -> usize {
        self.first * PAGE
    }

    /// Bytes in the run.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.pages * PAGE
    }

    /// A run is never empty.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.pages == 0
    }
}

impl Arena {
    /// Lends from `pages`, a multiple of 64 of them.
    #[must_use]
    pub fn new(pages: Arc<LocalPages>) -> Self {
        let words = pages.len() / PAGE / BITS;
        Self {
            pages,
            free: vec![u64::MAX; words],
        }
    }

    /// The memory behind the runs.
    #[must_use]
    pub const fn pages(&self) -> &Arc<LocalPages> {
        &self.pages
    }

    /// A run for `bytes` (at least one page); `None` while no row of free pages is long enough.
    pub fn take(&mut self, bytes: usize) -> Option<Run> {
        let pages = bytes.div_ceil(PAGE).max(1);
        let first = if pages == 1 {
            self.first_free()?
        } else {
            self.first_row(pages)?
        };
        let run = Run { first, pages };
        self.mark(&run, false);
        Some(run)
    }

    /// Takes a run back.
    pub fn give(&mut self, run: Run) {
        self.mark(&run, true);
        drop(run);
    }

    /// Pages that are not lent.
    #[must_use]
    pub fn free_pages(&self) -> usize {
        self.free
            .iter()
            .map(|word| word.count_ones() as usize)
            .sum()
    }

    fn first_free(&self) -> Option<usize> {
        let (index, word) = self.free.iter().enumerate().find(|(_, word)| **word != 0)?;
        Some(index * BITS + word.trailing_zeros() as usize)
    }

    /// The start of the first row of `pages` free pages.
    fn first_row(&self, pages: usize) -> Option<usize> {
        let mut row = 0;
        let mut at = 0;
        while let Some(&word) = self.free.get(at / BITS) {
            let rest = word >> (at % BITS);
            let left = BITS - at % BITS;
            // Whole stretches of free or lent pages at a time, not page by page.
            let free = ((!rest).trailing_zeros() as usize).min(left);
            row += free;
            at += free;
            if row >= pages {
                return Some(at - row);
            }
            if free < left {
                row = 0;
                at += ((rest >> free).trailing_zeros() as usize).min(left - free);
            }
        }
        None
    }

    fn mark(&mut self, run: &Run, free: bool) {
        let mut at = run.first;
        let end = run.first + run.pages;
        while at < end {
            let bits = (BITS - at % BITS).min(end - at);
            let mask = (u64::MAX >> (BITS - bits)) << (at % BITS);
            if let Some(word) = self.free.get_mut(at / BITS) {
                debug_assert_eq!(*word & mask, if free { 0 } else { mask }, "{run:?}");
                *word = if free { *word | mask } else { *word & !mask };
            }
            at += bits;
        }
    }
}

const BITS: usize = u64::BITS as usize;

#[cfg(test)]
mod tests {
    use super::*;

    fn arena(pages: usize) -> Arena {
        Arena::new(Arc::new(LocalPages::new(pages).unwrap()))
    }

    #[test]
    fn lends_every_page_once_and_takes_it_back() {
        let mut arena = arena(128);
        let runs: Vec<Run> = std::iter::from_fn(|| arena.take(PAGE)).collect();
        let mut firsts: Vec<usize> = runs.iter().map(Run::at).collect();
        firsts.dedup();
        assert_eq!(firsts.len(), 128);
        assert_eq!(arena.free_pages(), 0);
        for run in runs {
            arena.give(run);
        }
        assert_eq!(arena.free_pages(), 128);
    }

    #[test]
    fn a_row_may_cross_words_and_needs_no_alignment() {
        let mut arena = arena(192);
        let head = arena.take(PAGE).unwrap();
        let row = arena.take(150 * PAGE).unwrap();
        assert_eq!((row.at(), row.len()), (PAGE, 150 * PAGE));
        assert_eq!(arena.take(42 * PAGE), None);
        arena.give(head);
        assert_eq!(
            arena.take(42 * PAGE),
            None,
            "one free page does not make a row"
        );
        let rest = arena.take(41 * PAGE).unwrap();
        assert_eq!(rest.at(), 151 * PAGE);
        arena.give(row);
        assert_eq!(arena.take(151 * PAGE).unwrap().at(), 0);
        arena.give(rest);
    }

    #[test]
    fn any_bytes_are_rounded_up_to_pages() {
        let mut arena = arena(64);
        assert_eq!(arena.take(512).unwrap().len(), PAGE);
        assert_eq!(arena.take(PAGE + 512).unwrap().len(), 2 * PAGE);
    }

    #[test]
    fn random_takes_and_gives_never_overlap() {
        let mut arena = arena(256);
        let mut lent: Vec<Run> = Vec::new();
        let mut seed = 0x9E37_79B9_7F4A_7C15_u64;
        for _ in 0..20_000 {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            let pages = usize::try_from(seed % 37).unwrap() + 1;
            if seed & 0x100 == 0 || lent.is_empty() {
                // `mark` asserts that no page is lent twice.
                lent.extend(arena.take(pages * PAGE));
            } else {
                let victim = usize::try_from(seed >> 32).unwrap() % lent.len();
                arena.give(lent.swap_remove(victim));
            }
            let used: usize = lent.iter().map(|run| run.len() / PAGE).sum();
            assert_eq!(arena.free_pages() + used, 256);
        }
    }
}
