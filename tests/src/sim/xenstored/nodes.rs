//! Questions about nodes, and which changes to them are allowed.

use ring_proto::DomId;
use xenbus::wire::{Op, PAYLOAD_MAX};
use xenbus::{Errno, Permissions};

use super::access;
use super::change::Change;
use super::requests::Answer;
use super::tree::{Tree, parent};

/// Answers a question about a node.
pub(super) fn look(tree: &Tree, caller: DomId, op: Op, path: &str, rest: &[u8]) -> Answer {
    access::readable(tree, caller, path)?;
    let node = tree.node(path).ok_or(Errno::NoEntry)?;
    let names = || {
        tree.children(path)
            .flat_map(|name| [name.as_bytes(), b"\0"].concat())
    };
    match op {
        Op::Read => Ok(node.value.clone()),
        Op::Directory => Ok(names().collect()),
        Op::Permissions => {
            let mut entries = vec![];
            node.permissions.encode(&mut entries);
            Ok(entries)
        }
        _ => directory_part(node.generation, &names().collect::<Vec<u8>>(), rest),
    }
}

/// As many whole names from `offset` on as a message carries; one more NUL ends the last portion.
fn directory_part(generation: u64, names: &[u8], offset: &[u8]) -> Answer {
    let offset = offset.strip_suffix(b"\0").unwrap_or(offset);
    let offset = xenbus::decimal(offset, u32::MAX).map_err(|_| Errno::Invalid)?;
    let offset = usize::try_from(offset).map_err(|_| Errno::Invalid)?;
    let mut part = format!("{generation}\0").into_bytes();
    let rest = names.get(offset..).unwrap_or_default();
    for name in rest.split_inclusive(|byte| *byte == 0) {
        if part.len() + name.len() + 1 > PAYLOAD_MAX {
            return Ok(part);
        }
        part.extend_from_slice(name);
    }
    part.push(0);
    Ok(part)
}

/// The change that a message asks for, if its caller may make it.
pub(super) fn allowed(
    tree: &Tree,
    caller: DomId,
    op: Op,
    path: String,
    rest: &[u8],
) -> Result<Change, Errno> {
    access::writable(tree, caller, &path)?;
    match op {
        Op::Write => {
            access::affordable(tree, caller, &path, rest.len())?;
            Ok(Change::Write {
                path,
                value: rest.to_vec(),
            })
        }
        Op::Mkdir => {
            access::affordable(tree, caller, &path, 0)?;
            Ok(Change::Mkdir { path })
        }
        Op::Remove if path == "/" => Err(Errno::Invalid),
        Op::Remove if tree.node(&path).is_none() => {
            // Nothing to do below a directory that exists; an error below none.
            let above = tree.node(parent(&path)).is_some();
            if above {
                Ok(Change::Remove { path })
            } else {
                Err(Errno::NoEntry)
            }
        }
        Op::Remove => Ok(Change::Remove { path }),
        _ => {
            let node = tree.node(&path).ok_or(Errno::NoEntry)?;
            let permissions = Permissions::decode(rest).map_err(|_| Errno::Invalid)?;
            let trusted = caller == DomId::new(0);
            let owns = trusted || node.permissions.owner == caller;
            let keeps = trusted || permissions.owner == caller;
            if !owns || !keeps {
                return Err(Errno::Access);
            }
            Ok(Change::SetPermissions { path, permissions })
        }
    }
}
