//! Transactions: all or nothing, done again when somebody else was faster.

use std::time::Duration;

use crate::errno::Errno;
use crate::error::StoreError;
use crate::number;
use crate::perms::Permissions;
use crate::request::{Reply, Request};
use crate::store::Store;

/// How often a transaction is tried before [`StoreError::Contended`]. With the pauses between, some
/// 130 ms: a guest that rewrites its nodes without end delays the thread that reads them by that
/// much and no more (STO-02).
pub const TRIES: u32 = 8;

/// An open transaction. Everything it reads was true at one moment, provided that it commits.
#[derive(Debug)]
pub struct Transaction<'a> {
    store: &'a mut Store,
    id: u32,
    cancelled: bool,
}

impl Store {
    /// Runs `body` in a transaction and commits it. Done again from the start when it met a
    /// conflict, so `body` must have no effects but those on the transaction. When `body` fails, or
    /// called [`Transaction::cancel`], nothing is written.
    ///
    /// # Errors
    /// That of `body`; [`StoreError::Contended`] after [`TRIES`] conflicts; refused or
    /// disconnected.
    pub fn transaction<T, E: From<StoreError>>(
        &mut self,
        mut body: impl FnMut(&mut Transaction<'_>) -> Result<T, E>,
    ) -> Result<T, E> {
        for tried in 0..TRIES {
            if tried > 0 {
                std::thread::sleep(Duration::from_millis(1 << tried.min(6)));
            }
            let mut transaction = Transaction::open(self)?;
            let outcome = body(&mut transaction);
            let commit = outcome.is_ok() && !transaction.cancelled;
            match (outcome, transaction.end(commit)) {
                (outcome, Ok(())) => return outcome,
                (Ok(_), Err(error)) if error.errno() == Some(&Errno::Again) => {}
                (Ok(_), Err(error)) => return Err(error.into()),
                // The first error says more than that the transaction could not be abandoned after
                // it.
                (Err(error), Err(_)) => return Err(error),
            }
        }
        Err(StoreError::Contended(TRIES).into())
    }
}

impl<'a> Transaction<'a> {
    fn open(store: &'a mut Store) -> Result<Self, StoreError> {
        let payload = store.one(0, &Request::transaction_start())?.payload()?;
        let text = payload.strip_suffix(b"\0").unwrap_or(&payload);
        let id = number::decimal(text, u32::MAX).ok().filter(|id| *id != 0);
        let id =
            id.ok_or_else(|| StoreError::Protocol("transaction without a number".to_owned()))?;
        Ok(Self {
            store,
            id,
            cancelled: false,
        })
    }

    fn end(self, commit: bool) -> Result<(), StoreError> {
        self.store
            .one(self.id, &Request::transaction_end(commit))
            .and_then(Reply::done)
    }

    /// Lets the transaction end without writing anything, when `body` returns.
    pub fn cancel(&mut self) {
        self.cancelled = true;
    }

    /// As [`Store::read`].
    ///
    /// # Errors
    /// As [`Store::read`].
    pub fn read(&mut self, path: &str) -> Result<Option<Vec<u8>>, StoreError> {
        self.store.read_in(self.id, path)
    }

    /// As [`Store::read_many`].
    ///
    /// # Errors
    /// As [`Store::read_many`].
    pub fn read_many(
        &mut self,
        paths: &[impl AsRef<str>],
    ) -> Result<Vec<Option<Vec<u8>>>, StoreError> {
        self.store.read_many_in(self.id, paths)
    }

    /// As [`Store::list`].
    ///
    /// # Errors
    /// As [`Store::list`].
    pub fn list(&mut self, path: &str) -> Result<Option<Vec<String>>, StoreError> {
        self.store.list_in(self.id, path)
    }

    /// As [`Store::write`].
    ///
    /// # Errors
    /// As [`Store::write`].
    pub fn write(&mut self, path: &str, value: impl AsRef<[u8]>) -> Result<(), StoreError> {
        self.store.write_many_in(self.id, &[(path, value.as_ref())])
    }

    /// Writes many nodes in one round trip.
    ///
    /// # Errors
    /// As [`Store::write`], the first one met.
    pub fn write_many(&mut self, nodes: &[(&str, &[u8])]) -> Result<(), StoreError> {
        self.store.write_many_in(self.id, nodes)
    }

    /// As [`Store::remove`].
    ///
    /// # Errors
    /// As [`Store::remove`].
    pub fn remove(&mut self, path: &str) -> Result<(), StoreError> {
        self.store.remove_in(self.id, path)
    }

    /// As [`Store::mkdir`].
    ///
    /// # Errors
    /// As [`Store::mkdir`].
    pub fn mkdir(&mut self, path: &str) -> Result<(), StoreError> {
        self.store.mkdir_in(self.id, path)
    }

    /// As [`Store::set_permissions`].
    ///
    /// # Errors
    /// As [`Store::set_permissions`].
    pub fn set_permissions(&mut self, path: &str, to: &Permissions) -> Result<(), StoreError> {
        self.store.set_permissions_in(self.id, path, to)
    }
}
