//! Sets of rules, and what several of them have in common.

use std::collections::HashMap;

/// Sets of rules, a bit for each.
#[derive(Debug)]
pub(super) struct Sets {
    /// Words of a set.
    words: usize,
    /// One set behind the other.
    bits: Vec<u64>,
}

/// Sets while they are collected: equal ones are kept once.
#[derive(Debug)]
pub(super) struct Collector {
    sets: Sets,
    known: HashMap<Vec<u64>, usize>,
}

impl Collector {
    /// Sets of so many rules.
    pub(super) fn new(rules: usize) -> Self {
        let sets = Sets {
            words: rules.div_ceil(BITS),
            bits: Vec::new(),
        };
        let known = HashMap::new();
        Self { sets, known }
    }

    /// A set without any rules in it.
    pub(super) fn none(&self) -> Vec<u64> {
        vec![0; self.sets.words]
    }

    /// The set of the rules for which `has` says so.
    pub(super) fn of<R>(&self, rules: &[R], has: impl Fn(&R) -> bool) -> Vec<u64> {
        let mut set = self.none();
        for (rule, _) in rules.iter().enumerate().filter(|(_, rule)| has(rule)) {
            flip(&mut set, rule);
        }
        set
    }

    /// Keeps a set; its number.
    pub(super) fn keep(&mut self, set: &[u64]) -> usize {
        if let Some(&number) = self.known.get(set) {
            return number;
        }
        let number = self.known.len();
        self.sets.bits.extend_from_slice(set);
        self.known.insert(set.to_vec(), number);
        number
    }

    /// All that were kept.
    pub(super) fn finish(self) -> Sets {
        self.sets
    }
}

impl Sets {
    /// The rules that are in each of these sets, in their order.
    pub(super) fn common(&self, sets: [usize; 4]) -> impl Iterator<Item = usize> {
        let [a, b, c, d] = sets.map(|number| self.get(number));
        let words = a.iter().zip(b).zip(c).zip(d);
        let words = words.map(|(((a, b), c), d)| a & b & c & d);
        let words = words.enumerate().filter(|&(_, word)| word != 0);
        words.flat_map(|(at, word)| Ones(word).map(move |bit| at * BITS + bit))
    }

    fn get(&self, number: usize) -> &[u64] {
        let start = number * self.words;
        self.bits.get(start..start + self.words).unwrap_or_default()
    }
}

/// The places of the ones in a word.
struct Ones(u64);

impl Iterator for Ones {
    type Item = usize;

    fn next(&mut self) -> Option<usize> {
        let lowest = self.0.checked_sub(1)?;
        let bit = self.0.trailing_zeros();
        self.0 &= lowest;
        usize::try_from(bit).ok()
    }
}

/// Puts a rule into a set, or takes it out.
pub(super) fn flip(set: &mut [u64], rule: usize) {
    if let Some(word) = set.get_mut(rule / BITS) {
        *word ^= 1 << (rule % BITS);
    }
}

/// Of a word.
const BITS: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_sets_have_in_common_comes_in_order() {
        let rules: Vec<usize> = (0..200).collect();
        let mut sets = Collector::new(rules.len());
        let kept = [2, 3, 5, 1].map(|factor| {
            let set = sets.of(&rules, |rule| rule % factor == 0);
            let number = sets.keep(&set);
            assert_eq!(sets.keep(&set), number);
            number
        });
        let none = sets.none();
        let none = sets.keep(&none);
        let sets = sets.finish();
        let common: Vec<_> = sets.common(kept).collect();
        assert_eq!(common, [0, 30, 60, 90, 120, 150, 180]);
        assert_eq!(sets.common([kept[0], kept[1], kept[2], none]).count(), 0);
        assert_eq!(sets.bits.len(), 5 * 4);
    }
}
