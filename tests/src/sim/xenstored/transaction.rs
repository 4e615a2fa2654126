//! Changes put aside, and whether they may still be made.

use std::collections::BTreeSet;

use ring_proto::DomId;

use super::change::Change;
use super::tree::{Tree, parent};

/// An open transaction: the tree as it was, the tree as the transaction sees it, and what it
/// looked at.
#[derive(Debug)]
pub(super) struct Transaction {
    start: Tree,
    view: Tree,
    touched: BTreeSet<String>,
    changes: Vec<Change>,
}

impl Transaction {
    pub(super) fn open(tree: &Tree) -> Self {
        let (start, view) = (tree.clone(), tree.clone());
        Self {
            start,
            view,
            touched: BTreeSet::new(),
            changes: vec![],
        }
    }

    /// The tree for looking at `path`, which from now on must not change behind the transaction.
    pub(super) fn look(&mut self, path: &str) -> &Tree {
        self.touched.insert(path.to_owned());
        // What is not there can appear: the node that would list it is looked at, too.
        let (at, _) = self.start.nearest(path);
        self.touched.insert(at.to_owned());
        &self.view
    }

    pub(super) fn put_aside(&mut self, change: Change, caller: DomId) {
        if matches!(change, Change::Remove { .. }) {
            self.touched.insert(parent(change.path()).to_owned());
            self.touched.extend(self.start.below(change.path()));
        }
        change.apply(&mut self.view, caller, u64::MAX);
        self.changes.push(change);
    }

    /// The changes, if nobody else has changed what the transaction looked at.
    pub(super) fn commit(self, tree: &Tree) -> Option<Vec<Change>> {
        let generation = |tree: &Tree, path: &str| tree.node(path).map(|node| node.generation);
        let same = |path: &String| generation(&self.start, path) == generation(tree, path);
        self.touched.iter().all(same).then_some(self.changes)
    }
}
