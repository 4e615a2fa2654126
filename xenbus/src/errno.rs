//! The error names that xenstored answers with.

use std::fmt;

/// Why xenstored refused a request. The wire carries names, not numbers (`xsd_errors` in
/// `public/io/xs_wire.h`).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Errno {
    /// `EINVAL`: malformed request or path.
    Invalid,
    /// `EACCES`: the permissions of the node forbid it.
    Access,
    /// `EEXIST`: such a watch (or node) is there already.
    Exists,
    /// `EISDIR`.
    IsDirectory,
    /// `ENOENT`: no such node, watch or transaction.
    NoEntry,
    /// `ENOMEM`.
    NoMemory,
    /// `ENOSPC`: a quota of the store is used up.
    NoSpace,
    /// `EIO`.
    Io,
    /// `ENOTEMPTY`.
    NotEmpty,
    /// `ENOSYS`: the store does not know the operation.
    NotImplemented,
    /// `EROFS`: the domain has no right to write.
    ReadOnly,
    /// `EBUSY`: too many transactions at once.
    Busy,
    /// `EAGAIN`: the transaction met a conflict and must be done again as a whole.
    Again,
    /// `EISCONN`.
    Connected,
    /// `E2BIG`: the answer does not fit into a message.
    TooBig,
    /// `EPERM`.
    Permission,
    /// Any other name, cut at 32 characters; `?` stands for what is not printable ASCII.
    Other(String),
}

const NAMES: [(&str, Errno); 16] = [
    ("EINVAL", Errno::Invalid),
    ("EACCES", Errno::Access),
    ("EEXIST", Errno::Exists),
    ("EISDIR", Errno::IsDirectory),
    ("ENOENT", Errno::NoEntry),
    ("ENOMEM", Errno::NoMemory),
    ("ENOSPC", Errno::NoSpace),
    ("EIO", Errno::Io),
    ("ENOTEMPTY", Errno::NotEmpty),
    ("ENOSYS", Errno::NotImplemented),
    ("EROFS", Errno::ReadOnly),
    ("EBUSY", Errno::Busy),
    ("EAGAIN", Errno::Again),
    ("EISCONN", Errno::Connected),
    ("E2BIG", Errno::TooBig),
    ("EPERM", Errno::Permission),
];

impl Errno {
    /// Reads the payload of an error answer, with or without its NUL.
    #[must_use]
    pub fn parse(payload: &[u8]) -> Self {
        let name = payload.strip_suffix(b"\0").unwrap_or(payload);
        let known = NAMES.iter().find(|(text, _)| text.as_bytes() == name);
        known.map_or_else(|| Self::Other(printable(name)), |(_, errno)| errno.clone())
    }

    /// The name as it stands on the wire.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Self::Other(name) => name,
            known => NAMES
                .iter()
                .find(|(_, errno)| errno == known)
                .map_or("EINVAL", |(name, _)| name),
        }
    }
}

impl fmt::Display for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

fn printable(name: &[u8]) -> String {
    name.iter()
        .take(32)
        .map(|byte| {
            if byte.is_ascii_graphic() {
                char::from(*byte)
            } else {
                '?'
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_goes_there_and_back() {
        for (name, errno) in &NAMES {
            let with_nul: Vec<u8> = name.bytes().chain([0]).collect();
            assert_eq!(&Errno::parse(&with_nul), errno);
            assert_eq!(&Errno::parse(name.as_bytes()), errno);
            assert_eq!(errno.name(), *name);
        }
    }

    #[test]
    fn unknown_names_are_kept_bounded_and_printable() {
        assert_eq!(Errno::parse(b"EDQUOT\0"), Errno::Other("EDQUOT".into()));
        let Errno::Other(name) = Errno::parse(&[0xff; 4096]) else {
            panic!("0xff is no errno")
        };
        assert_eq!(name, "?".repeat(32));
    }
}
