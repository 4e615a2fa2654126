//! Rules as few groups, each of which is one lookup.
//!
//! A thousand rules looked at one after the other would cost more than all else together. Those that
//! end alike and look at the same fields become one set. That changes no verdict: a rule moves in
//! front of others only if no packet matches both, and the elements of a set do not meet, so the
//! element that a packet is found under is the first rule that matches it.

use super::cells::{self, Cell, Shape};
use crate::policy::{Action, Rule};

/// Rules, or parts of rules, that end alike.
#[derive(Debug)]
pub(super) struct Group {
    pub(super) sort: Sort,
    pub(super) members: Vec<Member>,
}

/// What the members have in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Sort {
    pub(super) shape: Shape,
    pub(super) action: Action,
    pub(super) stateful: bool,
    /// The rule has a limit or is logged, and shares with no other: its index.
    pub(super) alone: Option<usize>,
}

/// A part of a rule.
#[derive(Clone, Copy, Debug)]
pub(super) struct Member {
    /// Its index in the policy.
    pub(super) rule: usize,
    pub(super) cell: Cell,
}

impl Group {
    /// The rule, if all members are parts of one.
    pub(super) fn only_rule(&self) -> Option<usize> {
        let first = self.members.first()?.rule;
        let same = self.members.iter().all(|member| member.rule == first);
        same.then_some(first)
    }

    fn meets(&self, cell: &Cell) -> bool {
        self.members.iter().any(|member| member.cell.meets(cell))
    }
}

/// Groups that, looked at in order, decide as `rules` do.
pub(super) fn groups<'a>(rules: impl Iterator<Item = (usize, &'a Rule)>) -> Vec<Group> {
    let mut groups: Vec<Group> = Vec::new();
    // A rule that may match no packet a second does not match.
    for (index, rule) in rules.filter(|(_, rule)| rule.limit != Some(0)) {
        for cell in cells::of(rule) {
            place(&mut groups, index, rule, cell);
        }
    }
    groups
}

fn place(groups: &mut Vec<Group>, index: usize, rule: &Rule, cell: Cell) {
    let sort = Sort {
        shape: cell.shape(),
        action: rule.action,
        stateful: rule.stateful,
        alone: (rule.limit.is_some() || rule.log).then_some(index),
    };
    let member = Member { rule: index, cell };
    for group in groups.iter_mut().rev() {
        if group.meets(&cell) {
            break;
        }
        if group.sort == sort {
            group.members.push(member);
            return;
        }
    }
    let members = vec![member];
    groups.push(Group { sort, members });
}
