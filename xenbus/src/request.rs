//! Requests, and what becomes of them.

use ring_proto::DomId;

use crate::errno::Errno;
use crate::error::StoreError;
use crate::perms::Permissions;
use crate::wire::{Message, Op, Oversize, PATH_MAX};

/// A request whose path is an absolute one.
#[derive(Debug)]
pub(crate) struct Request {
    op: Op,
    /// For the error text.
    path: String,
    payload: Vec<u8>,
}

impl Request {
    pub(crate) fn path(op: Op, path: &str) -> Result<Self, StoreError> {
        Self::with(op, path, b"")
    }

    pub(crate) fn write(path: &str, value: &[u8]) -> Result<Self, StoreError> {
        Self::with(Op::Write, path, value)
    }

    pub(crate) fn watch(path: &str, token: &str) -> Result<Self, StoreError> {
        Self::with_token(Op::Watch, path, token)
    }

    pub(crate) fn unwatch(path: &str, token: &str) -> Result<Self, StoreError> {
        Self::with_token(Op::Unwatch, path, token)
    }

    pub(crate) fn set_permissions(
        path: &str,
        permissions: &Permissions,
    ) -> Result<Self, StoreError> {
        let mut entries = Vec::new();
        permissions.encode(&mut entries);
        Self::with(Op::SetPermissions, path, &entries)
    }

    pub(crate) fn directory_part(path: &str, offset: usize) -> Result<Self, StoreError> {
        Self::with(Op::DirectoryPart, path, format!("{offset}\0").as_bytes())
    }

    pub(crate) fn is_introduced(domain: DomId) -> Self {
        Self {
            op: Op::IsDomainIntroduced,
            path: String::new(),
            payload: format!("{domain}\0").into_bytes(),
        }
    }

    /// The one relative path that is ever sent: nobody can know the absolute one before having read
    /// it.
    pub(crate) fn own_domid() -> Self {
        Self {
            op: Op::Read,
            path: "domid".to_owned(),
            payload: b"domid\0".to_vec(),
        }
    }

    pub(crate) fn transaction_start() -> Self {
        Self {
            op: Op::TransactionStart,
            path: String::new(),
            payload: b"\0".to_vec(),
        }
    }

    pub(crate) fn transaction_end(commit: bool) -> Self {
        let payload = if commit {
            b"T\0".to_vec()
        } else {
            b"F\0".to_vec()
        };
        Self {
            op: Op::TransactionEnd,
            path: String::new(),
            payload,
        }
    }

    fn with_token(op: Op, path: &str, token: &str) -> Result<Self, StoreError> {
        if token.contains('\0') {
            return Err(StoreError::BadPath(token.to_owned()));
        }
        Self::with(op, path, format!("{token}\0").as_bytes())
    }

    fn with(op: Op, path: &str, rest: &[u8]) -> Result<Self, StoreError> {
        let special = matches!(op, Op::Watch | Op::Unwatch) && path.starts_with('@');
        let absolute = path.starts_with('/') || special;
        if !absolute || path.len() > PATH_MAX || path.contains('\0') {
            return Err(StoreError::BadPath(path.chars().take(64).collect()));
        }
        let payload = [path.as_bytes(), b"\0", rest].concat();
        Ok(Self {
            op,
            path: path.to_owned(),
            payload,
        })
    }

    pub(crate) fn fits(&self, limit: usize) -> Result<(), StoreError> {
        let len = self.payload.len();
        if len > limit {
            Err(Oversize { len, limit }.into())
        } else {
            Ok(())
        }
    }

    pub(crate) fn message(&self, request: u32, transaction: u32) -> Message {
        Message {
            op: self.op,
            request,
            transaction,
            payload: self.payload.clone(),
        }
    }

    /// Whether a message of type `op` can be the answer.
    pub(crate) fn takes(&self, op: Op) -> bool {
        op == self.op || op == Op::Error
    }

    /// The error of a request that need not be sent to be refused.
    pub(crate) fn refused(self, errno: Errno) -> StoreError {
        let Self { op, path, .. } = self;
        StoreError::Refused { op, path, errno }
    }

    pub(crate) fn reply(&self, message: Message) -> Reply {
        if message.op == Op::Error {
            let errno = Errno::parse(&message.payload);
            Reply(Err(Refusal {
                op: self.op,
                path: self.path.clone(),
                errno,
            }))
        } else {
            Reply(Ok(message.payload))
        }
    }
}

/// The answer to one request.
#[derive(Debug)]
pub(crate) struct Reply(Result<Vec<u8>, Refusal>);

#[derive(Debug)]
struct Refusal {
    op: Op,
    path: String,
    errno: Errno,
}

impl Reply {
    pub(crate) fn payload(self) -> Result<Vec<u8>, StoreError> {
        self.0
            .map_err(|Refusal { op, path, errno }| StoreError::Refused { op, path, errno })
    }

    pub(crate) fn done(self) -> Result<(), StoreError> {
        self.payload().map(|_| ())
    }

    /// The payload, or `None` when the node does not exist.
    pub(crate) fn present(self) -> Result<Option<Vec<u8>>, StoreError> {
        if self.errno() == Some(&Errno::NoEntry) {
            return Ok(None);
        }
        self.payload().map(Some)
    }

    pub(crate) fn errno(&self) -> Option<&Errno> {
        self.0.as_ref().err().map(|refusal| &refusal.errno)
    }
}
