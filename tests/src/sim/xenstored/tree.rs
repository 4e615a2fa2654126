//! The nodes.

use std::collections::BTreeMap;
use std::sync::Arc;

use ring_proto::DomId;
use xenbus::Permissions;

/// One node. Its children are the nodes whose path is one name longer.
#[derive(Clone, Debug)]
pub(super) struct Node {
    pub(super) value: Vec<u8>,
    pub(super) permissions: Permissions,
    /// When the value, the permissions or the list of children changed last.
    pub(super) generation: u64,
}

/// All nodes, by absolute path. Cheap to clone: a transaction has a tree of its own.
#[derive(Clone, Debug)]
pub(super) struct Tree(BTreeMap<String, Arc<Node>>);

impl Tree {
    /// What is there before any toolstack did anything: the root and domain 0's own directory.
    pub(super) fn new() -> Self {
        let permissions = Permissions::private(DomId::new(0));
        let root = Node {
            value: vec![],
            permissions,
            generation: 0,
        };
        let mut tree = Self([("/".to_owned(), Arc::new(root))].into());
        for (path, value) in [
            ("/tool", ""),
            ("/local/domain/0/domid", "0"),
            ("/local/domain/0/name", "Domain-0"),
        ] {
            tree.put(path, value.as_bytes(), DomId::new(0), 0);
        }
        tree
    }

    pub(super) fn node(&self, path: &str) -> Option<&Node> {
        self.0.get(path).map(Arc::as_ref)
    }

    /// The node at `path`, or at the nearest place above it that there is.
    pub(super) fn nearest<'a>(&'a self, path: &'a str) -> (&'a str, Option<&'a Node>) {
        let mut at = path;
        loop {
            match self.node(at) {
                None if at != "/" => at = parent(at),
                found => return (at, found),
            }
        }
    }

    /// Names of the children of `path`.
    pub(super) fn children<'a>(&'a self, path: &'a str) -> impl Iterator<Item = &'a str> {
        let below = if path == "/" {
            "/".to_owned()
        } else {
            format!("{path}/")
        };
        let skip = below.len();
        self.0
            .range(below.clone()..)
            .map(|(child, _)| child.as_str())
            .take_while(move |child| child.starts_with(&below))
            .filter_map(move |child| child.get(skip..))
            .filter(|name| !name.is_empty() && !name.contains('/'))
    }

    /// Paths of everything below `path`.
    pub(super) fn below(&self, path: &str) -> Vec<String> {
        let below = format!("{path}/");
        let inside = self.0.range(below.clone()..).map(|(child, _)| child);
        inside
            .take_while(|child| child.starts_with(&below))
            .cloned()
            .collect()
    }

    /// How many nodes a domain owns.
    pub(super) fn owned_by(&self, domain: DomId) -> usize {
        self.0
            .values()
            .filter(|node| node.permissions.owner == domain)
            .count()
    }

    /// Writes a value, creating the node and its parents. What `creator` makes has the permissions
    /// of what is above, but belongs to `creator` unless that is domain 0.
    pub(super) fn put(&mut self, path: &str, value: &[u8], creator: DomId, generation: u64) {
        self.create(path, creator, generation);
        self.amend(path, generation, |node| node.value = value.to_vec());
    }

    /// Creates a node and its parents; what is there stays as it is.
    pub(super) fn create(&mut self, path: &str, creator: DomId, generation: u64) {
        if self.0.contains_key(path) {
            return;
        }
        let above = parent(path).to_owned();
        self.create(&above, creator, generation);
        let Some(mut permissions) = self.node(&above).map(|node| node.permissions.clone()) else {
            return;
        };
        if creator != DomId::new(0) {
            permissions.owner = creator;
        }
        let node = Node {
            value: vec![],
            permissions,
            generation,
        };
        self.0.insert(path.to_owned(), Arc::new(node));
        self.amend(&above, generation, |_| {});
    }

    pub(super) fn set_permissions(&mut self, path: &str, permissions: &Permissions, now: u64) {
        self.amend(path, now, |node| node.permissions = permissions.clone());
    }

    /// Removes a node and everything below; the paths that were removed, `path` first.
    pub(super) fn remove(&mut self, path: &str, generation: u64) -> Vec<String> {
        if self.0.remove(path).is_none() {
            return vec![];
        }
        let below = self.below(path);
        for child in &below {
            self.0.remove(child);
        }
        self.amend(parent(path), generation, |_| {});
        [path.to_owned()].into_iter().chain(below).collect()
    }

    fn amend(&mut self, path: &str, generation: u64, change: impl FnOnce(&mut Node)) {
        if let Some(node) = self.0.get_mut(path) {
            let node = Arc::make_mut(node);
            node.generation = generation;
            change(node);
        }
    }
}

/// The path one name shorter.
pub(super) fn parent(path: &str) -> &str {
    match path.rfind('/') {
        None | Some(0) => "/",
        Some(cut) => path.get(..cut).unwrap_or("/"),
    }
}
