//! Removed backend directories, and who digs them up.
//!
//! xenstored creates missing parents. A backend that writes `state` too late makes a directory that
//! holds nothing else, and its number cannot be used again. A toolstack that makes a new device of
//! the same number writes `frontend` together with everything else; a backend never writes that.

use std::collections::BTreeSet;

use xenbus::BackendPath;

use super::change::Changed;
use super::tree::Tree;

/// The backend directories that were removed and not made again.
#[derive(Debug, Default)]
pub(super) struct Graves(BTreeSet<BackendPath>);

impl Graves {
    /// Looks at what one request or one transaction has changed; a line for each directory it
    /// brought back.
    pub(super) fn after(&mut self, changes: &[Changed], tree: &Tree) -> Vec<String> {
        let devices = changes
            .iter()
            .filter_map(|changed| BackendPath::containing(&changed.path));
        let touched: BTreeSet<BackendPath> = devices.map(|(device, _)| device).collect();
        let mut found = vec![];
        for device in touched {
            if tree.node(&device.to_string()).is_none() {
                let removed = changes
                    .iter()
                    .any(|changed| changed.path == device.to_string());
                if removed {
                    self.0.insert(device);
                }
                continue;
            }
            let keys: Vec<_> = tree
                .children(&device.to_string())
                .map(str::to_owned)
                .collect();
            // An empty directory is a toolstack's first step.
            if !keys.is_empty()
                && self.0.remove(&device)
                && !keys.iter().any(|key| key == "frontend")
            {
                found.push(format!(
                    "resurrected node {device} with {}",
                    keys.join(", ")
                ));
            }
        }
        found
    }
}
