//! Who is told of what.

use std::collections::BTreeMap;

use ring_proto::DomId;

use super::access;
use super::change::Changed;
use super::session::Session;
use super::tree::Tree;

/// Tells every session that watches one of the changed nodes, or something above it, and may know.
pub(super) fn fire(changes: &[Changed], tree: &Tree, sessions: &mut BTreeMap<u64, Session>) {
    for changed in changes {
        for session in sessions.values_mut() {
            if !may_know(tree, session.domain, changed) {
                continue;
            }
            for watch in session.watches.clone() {
                let covered = covers(&watch.path, &changed.path);
                if watch.path == changed.path || (covered && !changed.exact) {
                    session.tell(&watch, &changed.path);
                }
            }
        }
    }
}

/// Tells domain 0 of domains that come and go.
pub(super) fn fire_special(name: &str, sessions: &mut BTreeMap<u64, Session>) {
    for session in sessions
        .values_mut()
        .filter(|session| session.domain == DomId::new(0))
    {
        for watch in session.watches.clone() {
            if watch.path == name {
                session.tell(&watch, name);
            }
        }
    }
}

fn covers(watched: &str, path: &str) -> bool {
    let below = path
        .strip_prefix(watched)
        .is_some_and(|rest| rest.starts_with('/'));
    watched == "/" || watched == path || below
}

/// A node that is gone cannot be asked any more: what is above it decides.
fn may_know(tree: &Tree, domain: DomId, changed: &Changed) -> bool {
    let (_, node) = tree.nearest(&changed.path);
    node.is_some_and(|node| access::allows(&node.permissions, domain, false))
}
