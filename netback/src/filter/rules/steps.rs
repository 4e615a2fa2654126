//! Stretches of numbers, each with a set of rules.

use super::sets::{Collector, flip};

/// All numbers of a type, cut into stretches, and the set of each.
#[derive(Debug)]
pub(super) struct Steps<N> {
    /// Where the stretches behind the first start, sorted.
    starts: Vec<N>,
    /// The set of each stretch, one more.
    sets: Vec<usize>,
}

/// Numbers that a rule matches: both ends are included.
#[derive(Clone, Copy, Debug)]
pub(super) struct Span<N> {
    /// Which rule.
    pub(super) rule: usize,
    /// The first number.
    pub(super) first: N,
    /// The number behind the last; `None` if there is none.
    pub(super) end: Option<N>,
}

impl<N: Copy + Ord> Steps<N> {
    /// Stretches of which each has the rules that do not care, which `any` is, and those that have a
    /// span there. No rule has both.
    pub(super) fn new(any: &[u64], spans: &[Span<N>], sets: &mut Collector) -> Self {
        let begins = spans.iter().map(|span| (span.first, true, span.rule));
        let ends = spans
            .iter()
            .filter_map(|span| span.end.map(|end| (end, false, span.rule)));
        let mut edges: Vec<_> = begins.chain(ends).collect();
        edges.sort_unstable();
        let rules = spans.iter().map(|span| span.rule + 1).max();
        // Spans of one rule may overlap.
        let mut open = vec![0_u32; rules.unwrap_or(0)];
        let mut set = any.to_vec();
        let mut steps = Self {
            starts: Vec::new(),
            sets: vec![sets.keep(&set)],
        };
        for here in edges.chunk_by(|one, other| one.0 == other.0) {
            for &(_, begins, rule) in here {
                let Some(open) = open.get_mut(rule) else {
                    continue;
                };
                let was_open = *open > 0;
                *open = if begins {
                    *open + 1
                } else {
                    open.saturating_sub(1)
                };
                if was_open != (*open > 0) {
                    flip(&mut set, rule);
                }
            }
            steps.add(here.first().map(|edge| edge.0), sets.keep(&set));
        }
        steps
    }

    fn add(&mut self, start: Option<N>, set: usize) {
        if self.sets.last() != Some(&set) {
            self.starts.extend(start);
            self.sets.push(set);
        }
    }

    /// The set of the stretch that a number lies in.
    pub(super) fn at(&self, number: N) -> usize {
        let stretch = self.starts.partition_point(|start| *start <= number);
        self.sets.get(stretch).copied().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn each_number_has_the_rules_whose_spans_hold_it(
            ranges in prop::collection::vec((0_usize..5, any::<u16>(), any::<u16>()), 0..20),
            asked in prop::collection::vec(any::<u16>(), 20),
        ) {
            let ranges: Vec<_> = ranges
                .into_iter()
                .map(|(rule, one, other)| (rule, one.min(other), one.max(other)))
                .collect();
            let spans: Vec<_> = ranges
                .iter()
                .map(|&(rule, first, last)| Span { rule, first, end: last.checked_add(1) })
                .collect();
            let mut sets = Collector::new(7);
            // The last one does not care.
            let any = sets.of(&[0, 1, 2, 3, 4, 5, 6], |&rule| rule == 6);
            let steps = Steps::new(&any, &spans, &mut sets);
            let sets = sets.finish();
            let edges = ranges.iter().flat_map(|&(_, first, last)| {
                [first, last, first.wrapping_sub(1), last.wrapping_add(1)]
            });
            for number in edges.chain(asked).chain([0, u16::MAX]) {
                let set = steps.at(number);
                let found: Vec<_> = sets.common([set; 4]).collect();
                let holds = |rule: usize| ranges.iter().any(|&(of, first, last)| {
                    of == rule && (first..=last).contains(&number)
                });
                let wanted: Vec<_> = (0..7).filter(|&rule| rule == 6 || holds(rule)).collect();
                prop_assert_eq!(found, wanted);
            }
        }
    }
}
