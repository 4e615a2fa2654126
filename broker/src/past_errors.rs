//! Error nodes of devices that are gone: kept for whoever asks why, but not for ever.

use std::collections::VecDeque;

use xenbus::{BackendPath, ErrorNode, Store};

/// How many stay. Guests get new numbers, so nobody else would ever remove them.
const KEPT: usize = 32;

/// The latest error nodes of devices that are gone.
#[derive(Debug, Default)]
pub(crate) struct PastErrors {
    nodes: VecDeque<(BackendPath, ErrorNode)>,
}

impl PastErrors {
    /// Keeps one, at the cost of the oldest.
    pub(crate) fn keep(&mut self, device: BackendPath, node: ErrorNode, store: &mut Store) {
        self.nodes.push_back((device, node));
        if self.nodes.len() > KEPT
            && let Some((path, node)) = self.nodes.pop_front()
        {
            remove(&path, node, store);
        }
    }

    /// A new device has the same place: what was wrong with the old one misleads now.
    pub(crate) fn clear(&mut self, device: &BackendPath, store: &mut Store) {
        if let Some(at) = self.nodes.iter().position(|(path, _)| path == device)
            && let Some((path, node)) = self.nodes.remove(at)
        {
            remove(&path, node, store);
        }
    }
}

fn remove(path: &BackendPath, mut node: ErrorNode, store: &mut Store) {
    if let Err(error) = node.clear(store) {
        tracing::debug!(device = %path, %error, "error node not removed");
    }
}
