//! Who may read and write a node.

use ring_proto::DomId;

use crate::error::StoreError;
use crate::number;
use crate::wire;

/// What a domain may do with a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Right {
    /// Nothing (`n`).
    None,
    /// Read (`r`).
    Read,
    /// Write (`w`).
    Write,
    /// Read and write (`b`).
    Both,
}

/// The permissions of a node, as `xenstore.txt` defines them: the first entry names the owner, who
/// may do everything, and what everybody not listed may do; the others add a domain each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Permissions {
    /// The owner of the node.
    pub owner: DomId,
    /// What a domain may do that is neither owner nor listed.
    pub others: Right,
    /// Domains with rights of their own.
    pub listed: Vec<(DomId, Right)>,
}

impl Permissions {
    /// Owned by `owner`, closed to everybody else.
    #[must_use]
    pub fn private(owner: DomId) -> Self {
        Self {
            owner,
            others: Right::None,
            listed: Vec::new(),
        }
    }

    /// Additionally readable by `reader`.
    #[must_use]
    pub fn readable_by(mut self, reader: DomId) -> Self {
        self.listed.push((reader, Right::Read));
        self
    }

    /// Whether anybody but `trusted` and domain 0 may write the node: then what it says is an
    /// allegation of theirs.
    #[must_use]
    pub fn writable_by_others_than(&self, trusted: DomId) -> bool {
        let fine = |domain: DomId| domain == trusted || domain == DomId::new(0);
        let writes = |right: Right| matches!(right, Right::Write | Right::Both);
        !fine(self.owner)
            || writes(self.others)
            || self
                .listed
                .iter()
                .any(|(domain, right)| writes(*right) && !fine(*domain))
    }

    /// The entries as they stand on the wire, each with its NUL.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let first = std::iter::once((self.owner, self.others));
        for (domain, right) in first.chain(self.listed.iter().copied()) {
            out.extend_from_slice(format!("{}{domain}\0", right.letter()).as_bytes());
        }
    }

    /// Reads the answer to a permissions request.
    ///
    /// # Errors
    /// [`StoreError::Protocol`]: that is no list of permissions.
    pub fn decode(payload: &[u8]) -> Result<Self, StoreError> {
        let nonsense = || StoreError::Protocol("unreadable permissions".to_owned());
        let mut entries = Vec::new();
        for text in wire::strings(payload) {
            let (letter, domain) = text.split_first().ok_or_else(nonsense)?;
            let right = Right::from_letter(*letter).ok_or_else(nonsense)?;
            let domain = number::decimal(domain, u32::from(u16::MAX)).map_err(|_| nonsense())?;
            let domain = u16::try_from(domain).map_err(|_| nonsense())?;
            entries.push((DomId::new(domain), right));
        }
        let (owner, others) = *entries.first().ok_or_else(nonsense)?;
        entries.remove(0);
        Ok(Self {
            owner,
            others,
            listed: entries,
        })
    }
}

impl Right {
    fn letter(self) -> char {
        match self {
            Self::None => 'n',
            Self::Read => 'r',
            Self::Write => 'w',
            Self::Both => 'b',
        }
    }

    fn from_letter(letter: u8) -> Option<Self> {
        [Self::None, Self::Read, Self::Write, Self::Both]
            .into_iter()
            .find(|right| right.letter() == char::from(letter))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn go_there_and_back() {
        let wire = b"n0\0r7\0b9\0";
        let decoded = Permissions::decode(wire).expect("well-formed");
        let mut encoded = Vec::new();
        decoded.encode(&mut encoded);
        assert_eq!(encoded, wire);
        for bad in [
            &b""[..],
            b"\0",
            b"x0\0",
            b"r\0",
            b"r-1\0",
            b"r65536\0",
            b"r 1\0",
        ] {
            assert!(Permissions::decode(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn sto_05_a_guest_that_can_write_is_noticed() {
        let backend = DomId::new(3);
        let guest = DomId::new(7);
        let fine = Permissions::private(backend).readable_by(guest);
        assert!(!fine.writable_by_others_than(backend));
        assert!(!Permissions::private(DomId::new(0)).writable_by_others_than(backend));
        assert!(Permissions::private(guest).writable_by_others_than(backend));
        let listed = Permissions {
            listed: vec![(guest, Right::Both)],
            ..fine.clone()
        };
        assert!(listed.writable_by_others_than(backend));
        let open = Permissions {
            others: Right::Write,
            ..fine
        };
        assert!(open.writable_by_others_than(backend));
    }
}
