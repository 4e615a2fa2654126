//! Who may do what: paths, permissions, quotas.

use ring_proto::DomId;
use xenbus::{Errno, Permissions, Right, wire};

use super::tree::Tree;

/// What a guest may own and do at most (`tools/xenstore/xenstored_domain.c`, the defaults).
const NODES: usize = 1000;
const NODE_BYTES: usize = 2048;
pub(super) const WATCHES: usize = 128;
pub(super) const TRANSACTIONS: usize = 10;

/// The longest relative path (`XENSTORE_REL_PATH_MAX`).
const RELATIVE_MAX: usize = 2048;

/// The absolute path that `caller` means by `path`.
pub(super) fn resolve(caller: DomId, path: &[u8]) -> Result<String, Errno> {
    let path = std::str::from_utf8(path).map_err(|_| Errno::Invalid)?;
    let letter = |c: char| c.is_ascii_alphanumeric() || "-/_@".contains(c);
    let absolute = path.starts_with('/');
    let limit = if absolute {
        wire::PATH_MAX
    } else {
        RELATIVE_MAX
    };
    let shaped = path == "/" || !(path.is_empty() || path.ends_with('/') || path.contains("//"));
    if !shaped || path.len() > limit || !path.chars().all(letter) {
        return Err(Errno::Invalid);
    }
    Ok(if absolute {
        path.to_owned()
    } else {
        format!("{}{path}", home(caller))
    })
}

/// The prefix of a domain's relative paths.
pub(super) fn home(domain: DomId) -> String {
    format!("/local/domain/{domain}/")
}

/// Whether `caller` may read the node at `path`, and there is one.
pub(super) fn readable(tree: &Tree, caller: DomId, path: &str) -> Result<(), Errno> {
    let (at, node) = tree.nearest(path);
    let allowed = node.is_some_and(|node| allows(&node.permissions, caller, false));
    match (allowed, at == path) {
        (false, _) => Err(Errno::Access),
        (true, false) => Err(Errno::NoEntry),
        (true, true) => Ok(()),
    }
}

/// Whether `caller` may write the node at `path`, or create it.
pub(super) fn writable(tree: &Tree, caller: DomId, path: &str) -> Result<(), Errno> {
    let (_, node) = tree.nearest(path);
    let allowed = node.is_some_and(|node| allows(&node.permissions, caller, true));
    if allowed { Ok(()) } else { Err(Errno::Access) }
}

/// Whether `caller` may have one more node, and one of this size.
pub(super) fn affordable(
    tree: &Tree,
    caller: DomId,
    path: &str,
    bytes: usize,
) -> Result<(), Errno> {
    let new = tree.node(path).is_none();
    if caller == DomId::new(0) || (bytes <= NODE_BYTES && (!new || tree.owned_by(caller) < NODES)) {
        return Ok(());
    }
    Err(Errno::NoSpace)
}

/// Domain 0 and the owner may do everything.
pub(super) fn allows(permissions: &Permissions, caller: DomId, write: bool) -> bool {
    let grants = |right: Right| match right {
        Right::None => false,
        Right::Read => !write,
        Right::Write => write,
        Right::Both => true,
    };
    let listed = permissions
        .listed
        .iter()
        .find(|(domain, _)| *domain == caller);
    caller == DomId::new(0)
        || caller == permissions.owner
        || grants(listed.map_or(permissions.others, |(_, right)| *right))
}
