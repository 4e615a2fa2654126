//! A guest's name and UUID, which policies may ask for.

use ring_proto::DomId;
use xenbus::{Errno, Store, StoreError};

use crate::policy::language::Uuid;

/// What the toolstack calls a guest.
///
/// Both stand in the guest's own directory in xenstore, but belong to the toolstack's domain: a guest
/// can read them, and not write them (`libxl__domain_make` makes them so).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Guest {
    /// `name`: as in xl list. `None` if there is none, or if we may not read it, as in a driver
    /// domain.
    pub name: Option<String>,
    /// `vm`: which names a path with the UUID in it. `None` as with the name.
    pub uuid: Option<Uuid>,
}

/// What xl puts behind the name of a guest that is being received from another host, and of one that
/// has been sent there. They have their interfaces meanwhile, and one that the other host does not
/// start goes on here.
const MIGRATES: [&str; 2] = ["--incoming", "--migratedaway"];

/// A name is not longer.
const NAME_MAX: usize = 1024;

impl Guest {
    /// Reads both.
    ///
    /// # Errors
    /// The store's, but for what we may not read.
    pub fn read(store: &mut Store, domid: DomId) -> Result<Self, StoreError> {
        let mut read = |key: &str| match store.read(&format!("/local/domain/{domid}/{key}")) {
            Err(StoreError::Refused {
                errno: Errno::Access,
                ..
            }) => Ok(None),
            read => read,
        };
        let (name, vm) = (read("name")?, read("vm")?);
        Ok(Self {
            name: name.and_then(parse_name),
            uuid: vm.and_then(|vm| parse_vm(&vm)),
        })
    }
}

fn parse_name(name: Vec<u8>) -> Option<String> {
    let mut name = String::from_utf8(name).ok()?;
    let own = MIGRATES.iter().find_map(|suffix| name.strip_suffix(suffix));
    if let Some(own) = own {
        name.truncate(own.len());
    }
    (1..=NAME_MAX).contains(&name.len()).then_some(name)
}

/// `/vm/UUID`.
fn parse_vm(path: &[u8]) -> Option<Uuid> {
    let path = std::str::from_utf8(path).ok()?;
    path.strip_prefix("/vm/")?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_the_same_while_its_guest_arrives_or_leaves() {
        let parse = |name: &str| parse_name(name.into());
        assert_eq!(parse("web-1").as_deref(), Some("web-1"));
        assert_eq!(parse("web-1--incoming").as_deref(), Some("web-1"));
        assert_eq!(parse("web-1--migratedaway").as_deref(), Some("web-1"));
        assert_eq!(parse("--incoming"), None);
        assert_eq!(parse(""), None);
        assert_eq!(parse_name(vec![0xff]), None);
        assert_eq!(parse(&"x".repeat(1025)), None);
    }

    #[test]
    fn a_uuid_is_read_out_of_its_path() {
        let text = "0f8fad5b-d9cb-469f-a165-70867728950e";
        let path = format!("/vm/{text}");
        assert_eq!(parse_vm(path.as_bytes()), text.parse().ok());
        for path in ["", text, "/vm/", "/vm/x", &format!("{path}-1")] {
            assert_eq!(parse_vm(path.as_bytes()), None, "{path}");
        }
    }
}
