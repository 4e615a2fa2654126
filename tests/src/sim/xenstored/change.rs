//! What can be done to the tree, as values: at once, or put aside in a transaction.

use ring_proto::DomId;
use xenbus::Permissions;

use super::tree::Tree;

/// One change that its caller may make.
#[derive(Clone, Debug)]
pub(super) enum Change {
    Write {
        path: String,
        value: Vec<u8>,
    },
    Mkdir {
        path: String,
    },
    Remove {
        path: String,
    },
    SetPermissions {
        path: String,
        permissions: Permissions,
    },
}

/// A node that changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Changed {
    pub(super) path: String,
    /// Only watches on exactly this path fire: it went together with what was above it.
    pub(super) exact: bool,
    pub(super) removed: bool,
}

impl Change {
    /// The node it is about.
    pub(super) fn path(&self) -> &str {
        match self {
            Self::Write { path, .. }
            | Self::Mkdir { path }
            | Self::Remove { path }
            | Self::SetPermissions { path, .. } => path,
        }
    }

    /// Makes the change; what is to be told about it.
    pub(super) fn apply(&self, tree: &mut Tree, caller: DomId, generation: u64) -> Vec<Changed> {
        let path = self.path();
        match self {
            Self::Write { value, .. } => tree.put(path, value, caller, generation),
            Self::Mkdir { .. } if tree.node(path).is_some() => return vec![],
            Self::Mkdir { .. } => tree.create(path, caller, generation),
            Self::SetPermissions { permissions, .. } => {
                tree.set_permissions(path, permissions, generation);
            }
            Self::Remove { .. } => {
                let gone = tree.remove(path, generation).into_iter();
                return gone
                    .map(|gone| Changed {
                        exact: gone != path,
                        path: gone,
                        removed: true,
                    })
                    .collect();
            }
        }
        vec![Changed {
            path: path.to_owned(),
            exact: false,
            removed: false,
        }]
    }
}
