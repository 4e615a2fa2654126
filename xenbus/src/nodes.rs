//! Reading and writing nodes, in a transaction or in none (0).

use crate::errno::Errno;
use crate::error::StoreError;
use crate::perms::Permissions;
use crate::request::{Reply, Request};
use crate::store::Store;
use crate::wire::{self, Op};

/// The most bytes of child names one node is believed to have.
const LISTING_MAX: usize = 1 << 20;

impl Store {
    pub(crate) fn read_in(&mut self, tx: u32, path: &str) -> Result<Option<Vec<u8>>, StoreError> {
        self.one(tx, &Request::path(Op::Read, path)?)?.present()
    }

    pub(crate) fn read_many_in(
        &mut self,
        tx: u32,
        paths: &[impl AsRef<str>],
    ) -> Result<Vec<Option<Vec<u8>>>, StoreError> {
        let requests = paths
            .iter()
            .map(|path| Request::path(Op::Read, path.as_ref()));
        let requests = requests.collect::<Result<Vec<_>, _>>()?;
        self.exchange(tx, &requests)?
            .into_iter()
            .map(Reply::present)
            .collect()
    }

    pub(crate) fn write_many_in(
        &mut self,
        tx: u32,
        nodes: &[(&str, &[u8])],
    ) -> Result<(), StoreError> {
        let requests = nodes
            .iter()
            .map(|(path, value)| Request::write(path, value));
        let requests = requests.collect::<Result<Vec<_>, _>>()?;
        self.exchange(tx, &requests)?
            .into_iter()
            .try_for_each(Reply::done)
    }

    pub(crate) fn remove_in(&mut self, tx: u32, path: &str) -> Result<(), StoreError> {
        let reply = self.one(tx, &Request::path(Op::Remove, path)?)?;
        reply.present().map(|_| ())
    }

    pub(crate) fn mkdir_in(&mut self, tx: u32, path: &str) -> Result<(), StoreError> {
        self.one(tx, &Request::path(Op::Mkdir, path)?)?.done()
    }

    pub(crate) fn set_permissions_in(
        &mut self,
        tx: u32,
        path: &str,
        to: &Permissions,
    ) -> Result<(), StoreError> {
        self.one(tx, &Request::set_permissions(path, to)?)?.done()
    }

    pub(crate) fn list_in(
        &mut self,
        tx: u32,
        path: &str,
    ) -> Result<Option<Vec<String>>, StoreError> {
        let reply = self.one(tx, &Request::path(Op::Directory, path)?)?;
        if reply.errno() == Some(&Errno::TooBig) {
            return self.list_parts(tx, path);
        }
        Ok(reply.present()?.map(|payload| names(&payload)))
    }

    /// Lists in portions. Each carries the generation of the node: when that changes, the portions
    /// do not fit together and all is read again. An extra NUL marks the last one
    /// (`docs/misc/xenstore.txt`, `DIRECTORY_PART`).
    fn list_parts(&mut self, tx: u32, path: &str) -> Result<Option<Vec<String>>, StoreError> {
        let mut listing = Vec::new();
        let mut generation = Vec::new();
        for _ in 0..LISTING_MAX / 1024 {
            let Some(part) = self
                .one(tx, &Request::directory_part(path, listing.len())?)?
                .present()?
            else {
                return Ok(None);
            };
            let nonsense = || StoreError::Protocol("unreadable part of a directory".to_owned());
            let end = part
                .iter()
                .position(|byte| *byte == 0)
                .ok_or_else(nonsense)?;
            let (seen, names_part) = (
                part.get(..end).unwrap_or_default(),
                part.get(end + 1..).unwrap_or_default(),
            );
            if generation != seen {
                let first = generation.is_empty();
                generation = seen.to_vec();
                listing.clear();
                if !first {
                    continue;
                }
            }
            listing.extend_from_slice(names_part);
            if listing == b"\0" || listing.ends_with(b"\0\0") {
                return Ok(Some(names(&listing)));
            }
            if names_part.is_empty() || listing.len() > LISTING_MAX {
                break;
            }
        }
        Err(StoreError::Unlistable(path.to_owned()))
    }
}

fn names(payload: &[u8]) -> Vec<String> {
    // xenstored takes ASCII names only; what is not cannot be one of ours and matches nothing.
    wire::strings(payload)
        .filter(|name| !name.is_empty())
        .map(|name| String::from_utf8_lossy(name).into())
        .collect()
}
