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

    /// What the kernel's device means when a write to it fails: it hands xenstored's refusal of a
    /// watch on as the system's error (`xenbus_write_watch`, `xenbus_file_write`). `None` for what
    /// is not said of a request: `EIO` is the end of the connection, and the device never says
    /// `EAGAIN` of its own accord.
    pub(crate) const fn of_refused_write(errno: rustix::io::Errno) -> Option<Self> {
        use rustix::io::Errno as Os;
        Some(match errno {
            Os::INVAL => Self::Invalid,
            Os::ACCESS => Self::Access,
            Os::EXIST => Self::Exists,
            Os::ISDIR => Self::IsDirectory,
            Os::NOENT => Self::NoEntry,
            Os::NOMEM => Self::NoMemory,
            Os::NOSPC => Self::NoSpace,
            Os::NOTEMPTY => Self::NotEmpty,
            Os::NOSYS => Self::NotImplemented,
            Os::ROFS => Self::ReadOnly,
            Os::BUSY => Self::Busy,
            Os::ISCONN => Self::Connected,
            Os::TOOBIG => Self::TooBig,
            Os::PERM => Self::Permission,
            _ => return None,
        })
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
    fn a_failed_write_has_the_name_that_xenstored_said() {
        use rustix::io::Errno as Os;
        let said = |errno| Errno::of_refused_write(errno).map(|errno| errno.name().to_owned());
        assert_eq!(said(Os::INVAL).as_deref(), Some("EINVAL"));
        assert_eq!(said(Os::TOOBIG).as_deref(), Some("E2BIG"));
        assert_eq!(said(Os::ACCESS).as_deref(), Some("EACCES"));
        assert_eq!(said(Os::IO), None);
        assert_eq!(said(Os::AGAIN), None);
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
