//! Who a guest is: the name and the UUID that its toolstack gave it.
//!
//! Rules of a configuration name guests as administrators do. Its number is the guest's own only as
//! long as it runs; these two stay.

use std::fmt;

use ring_proto::DomId;
use xenbus::{Errno, Store, StoreError};

/// The longest name that is believed, in bytes.
const NAME_MAX: usize = 255;

/// What `xl migrate` adds to the name of a guest that is just arriving, and of one that is to leave
/// (`xl_vmcontrol.c`). They have their devices meanwhile; one that cannot arrive goes on where it was.
const MIGRATES: [&str; 2] = ["--incoming", "--migratedaway"];

/// A guest, by everything that rules can name it by.
///
/// Having one tells you that name and UUID, where there are any, were written by a toolstack: a node
/// that the guest could have written counts as absent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owner {
    /// Its number, from our own path.
    pub domid: DomId,
    /// Its name, without what a migration adds. `None`: there is none, or it may not be read here.
    pub name: Option<String>,
    /// Its UUID in lower case, `01234567-89ab-cdef-0123-456789abcdef`. `None` as for the name.
    pub uuid: Option<String>,
}

impl Owner {
    /// A guest of which nothing but the number is asked for.
    #[must_use]
    pub const fn numbered(domid: DomId) -> Self {
        Self {
            domid,
            name: None,
            uuid: None,
        }
    }

    /// Reads `name` and `vm` of a guest's directory.
    ///
    /// # Errors
    /// The store's, other than that a driver domain is not let read them.
    pub fn read(store: &mut Store, guest: DomId) -> Result<Self, StoreError> {
        let name = read(store, guest, "name")?;
        let vm = read(store, guest, "vm")?;
        Ok(Self {
            domid: guest,
            name: name.as_deref().and_then(parse_name),
            uuid: vm.as_deref().and_then(parse_vm),
        })
    }
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "guest {}", self.domid)?;
        match &self.name {
            Some(name) => write!(f, " ({name:?})"),
            None => Ok(()),
        }
    }
}

/// A node of the guest's directory that only domain 0 can have written.
fn read(store: &mut Store, guest: DomId, key: &str) -> Result<Option<Vec<u8>>, StoreError> {
    let path = format!("/local/domain/{guest}/{key}");
    let permissions = match store.permissions(&path) {
        Err(error) if denied(&error) => return Ok(None),
        other => other?,
    };
    let dom0 = DomId::new(0);
    if permissions.is_none_or(|found| found.writable_by_others_than(dom0)) {
        return Ok(None);
    }
    match store.read(&path) {
        Err(error) if denied(&error) => Ok(None),
        other => other,
    }
}

fn denied(error: &StoreError) -> bool {
    matches!(error.errno(), Some(Errno::Access | Errno::Permission))
}

fn parse_name(value: &[u8]) -> Option<String> {
    let name = std::str::from_utf8(value).ok()?;
    let own = MIGRATES.iter().find_map(|suffix| name.strip_suffix(suffix));
    let name = own.unwrap_or(name);
    let fine = (1..=NAME_MAX).contains(&name.len()) && !name.contains(char::is_control);
    fine.then(|| name.to_owned())
}

/// `/vm/UUID`.
fn parse_vm(value: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(value).ok()?;
    parse_uuid(text.strip_prefix("/vm/")?)
}

/// A UUID in lower case, if `text` is one.
#[must_use]
pub fn parse_uuid(text: &str) -> Option<String> {
    let groups = text.split('-').map(str::len);
    let hex = text.bytes().all(|c| c.is_ascii_hexdigit() || c == b'-');
    (hex && groups.eq([8, 4, 4, 4, 12])).then(|| text.to_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_as_the_administrator_gave_them() {
        assert_eq!(parse_name(b"web-1").as_deref(), Some("web-1"));
        for migrates in [&b"web-1--incoming"[..], b"web-1--migratedaway"] {
            assert_eq!(parse_name(migrates).as_deref(), Some("web-1"));
        }
        assert_eq!(
            parse_name("b\u{fc}ro".as_bytes()).as_deref(),
            Some("b\u{fc}ro")
        );
        for nonsense in [&b""[..], b"--incoming", b"\xff", b"a\nb", &[b'x'; 256]] {
            assert_eq!(parse_name(nonsense), None, "{nonsense:?}");
        }
    }

    #[test]
    fn a_uuid_is_one_or_none() {
        let uuid = "01234567-89ab-cdef-0123-456789ABCDEF";
        let lower = uuid.to_ascii_lowercase();
        assert_eq!(parse_vm(format!("/vm/{uuid}").as_bytes()), Some(lower));
        for nonsense in [
            "",
            uuid,
            "/vm/",
            "/vm/01234567-89ab-cdef-0123-456789ABCDE",
            "/vm/01234567-89ab-cdef-0123-456789ABCDEFA",
            "/vm/0123456-789ab-cdef-0123-456789ABCDEF",
            "/vm/g1234567-89ab-cdef-0123-456789ABCDEF",
        ] {
            assert_eq!(parse_vm(nonsense.as_bytes()), None, "{nonsense}");
        }
    }
}
