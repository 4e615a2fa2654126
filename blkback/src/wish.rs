//! What a toolstack wants of a disk: the backend directory's keys, parsed.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

use xenbus::{BackendPath, Store, StoreError};

use crate::features::Drive;
use crate::image::{Access, DeviceNumber, Wanted};

/// A toolstack's wish. Having one tells you that its keys have sensible values; nothing is known
/// yet about the image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wish {
    /// What the guest is to see.
    pub drive: Drive,
    access: Access,
    discard: bool,
    params: PathBuf,
    script: Option<Vec<u8>>,
    device_path: Option<PathBuf>,
    device_number: Option<DeviceNumber>,
}

/// A key of the backend directory that makes no sense. The toolstack or the hotplug script wrote
/// it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{key} = {value:?} {fault}")]
pub struct BadWish {
    key: &'static str,
    value: String,
    fault: &'static str,
}

/// Our own hotplug script, which hands `params` on as it is.
const OWN_SCRIPT: &[u8] = b"block-image";

impl Wish {
    const KEYS: [&'static str; 8] = [
        "mode",
        "device-type",
        "removable",
        "discard-enable",
        "params",
        "script",
        "physical-device-path",
        "physical-device",
    ];

    /// Reads the keys in one round trip; the inner error is the toolstack's.
    ///
    /// # Errors
    /// The store's.
    pub fn read(
        store: &mut Store,
        device: &BackendPath,
    ) -> Result<Result<Self, BadWish>, StoreError> {
        let paths = Self::KEYS.map(|key| device.key(key));
        Ok(Self::parse(store.read_many(&paths)?))
    }

    fn parse(values: Vec<Option<Vec<u8>>>) -> Result<Self, BadWish> {
        let mut values = values.into_iter();
        let mut next = || values.next().flatten();
        let (mode, device_type, removable) = (next(), next(), next());
        let (discard, params, script) = (next(), next(), next());
        let (device_path, number) = (next(), next());
        let access = access(mode.as_deref())?;
        Ok(Self {
            drive: Drive {
                cdrom: device_type.as_deref() == Some(b"cdrom"),
                removable: removable.as_deref() == Some(b"1"),
                read_only: access == Access::ReadOnly,
            },
            access,
            discard: discard.as_deref() != Some(b"0"),
            params: path(params.unwrap_or_default()),
            script: script.filter(|script| !script.is_empty()),
            device_path: device_path.map(path),
            device_number: number.as_deref().map(device_number).transpose()?,
        })
    }

    /// The image, as far as it is known before the hotplug script has run: only our own script is
    /// known to take `params` for what it is.
    #[must_use]
    pub fn early(&self) -> Option<Wanted> {
        let own = self
            .script
            .as_ref()
            .is_none_or(|script| script.rsplit(|&c| c == b'/').next() == Some(OWN_SCRIPT));
        own.then(|| self.wanted(self.params.clone(), None))
    }

    /// The image, once the script has run: what the script said, or `params` when there is none.
    #[must_use]
    pub fn image(&self) -> Wanted {
        match (&self.device_path, self.device_number, &self.script) {
            (Some(path), number, _) => self.wanted(path.clone(), number),
            (None, Some(number), _) => self.wanted(PathBuf::new(), Some(number)),
            (None, None, None) => self.wanted(self.params.clone(), None),
            (None, None, Some(_)) => self.wanted(PathBuf::new(), None),
        }
    }

    fn wanted(&self, path: PathBuf, device_number: Option<DeviceNumber>) -> Wanted {
        Wanted {
            path,
            device_number,
            access: self.access,
            discard: self.discard,
        }
    }
}

fn access(mode: Option<&[u8]>) -> Result<Access, BadWish> {
    match mode {
        Some(b"r" | b"r!") => Ok(Access::ReadOnly),
        Some(b"w") => Ok(Access::Exclusive),
        Some(b"w!") => Ok(Access::Shared),
        other => Err(bad("mode", other.unwrap_or_default(), "is not r, w or w!")),
    }
}

/// `%x:%x`, as the `block` script writes it.
fn device_number(value: &[u8]) -> Result<DeviceNumber, BadWish> {
    let hex = |text: &str| {
        let digits = text.bytes().all(|c| c.is_ascii_hexdigit());
        let number = u32::from_str_radix(text, 16).ok();
        number.filter(|_| digits)
    };
    std::str::from_utf8(value)
        .ok()
        .and_then(|text| text.split_once(':'))
        .and_then(|(major, minor)| {
            Some(DeviceNumber {
                major: hex(major)?,
                minor: hex(minor)?,
            })
        })
        .ok_or_else(|| bad("physical-device", value, "is not hex major:minor"))
}

fn path(bytes: Vec<u8>) -> PathBuf {
    PathBuf::from(OsString::from_vec(bytes))
}

fn bad(key: &'static str, value: &[u8], fault: &'static str) -> BadWish {
    let value = String::from_utf8_lossy(value.get(..64).unwrap_or(value)).into_owned();
    BadWish { key, value, fault }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NUMBER: DeviceNumber = DeviceNumber {
        major: 253,
        minor: 3,
    };

    #[test]
    fn the_script_says_what_the_image_is_and_params_only_without_one() {
        let cases = [
            (vec![("params", "/a.img")], "/a.img", None),
            (
                vec![("params", "/a.img"), ("script", "/etc/xen/scripts/block")],
                "",
                None,
            ),
            (vec![("params", "/a.img"), ("script", "")], "/a.img", None),
            (
                vec![("script", "block"), ("physical-device-path", "/dev/loop0")],
                "/dev/loop0",
                None,
            ),
            (
                vec![("script", "block"), ("physical-device", "fd:3")],
                "",
                Some(NUMBER),
            ),
            (
                vec![
                    ("physical-device-path", "/dev/dm-3"),
                    ("physical-device", "fd:3"),
                ],
                "/dev/dm-3",
                Some(NUMBER),
            ),
        ];
        for (keys, path, number) in cases {
            let wanted = wish(&keys).unwrap().image();
            assert_eq!(wanted.path.to_str(), Some(path), "{keys:?}");
            assert_eq!(wanted.device_number, number, "{keys:?}");
        }
    }

    #[test]
    fn only_params_of_our_own_script_are_looked_at_early() {
        let early = |script: &str| {
            let wish = wish(&[("params", "/a.img"), ("script", script)]).unwrap();
            wish.early().map(|wanted| wanted.path)
        };
        assert_eq!(early("/etc/xen/scripts/block-image"), Some("/a.img".into()));
        assert_eq!(early("block-image"), Some("/a.img".into()));
        assert_eq!(early(""), Some("/a.img".into()));
        assert_eq!(early("/etc/xen/scripts/block"), None);
        assert_eq!(early("/etc/xen/scripts/block-drbd"), None);
    }

    #[test]
    fn modes_are_the_three_that_exist() {
        for (mode, access) in [
            ("r", Access::ReadOnly),
            ("w", Access::Exclusive),
            ("w!", Access::Shared),
        ] {
            let wish = wish(&[("mode", mode), ("params", "/a")]).unwrap();
            assert_eq!(wish.image().access, access);
            assert_eq!(wish.drive.read_only, mode == "r");
        }
        for mode in ["", "rw", "W", "w ", "!"] {
            let error = wish(&[("mode", mode)]).unwrap_err().to_string();
            assert!(error.contains("is not r, w or w!"), "{error}");
        }
        let mut values = values(&[]);
        values[0] = None;
        assert!(
            Wish::parse(values).is_err(),
            "a missing mode must not mean writable"
        );
    }

    #[test]
    fn device_numbers_are_hexadecimal() {
        assert_eq!(device_number(b"fd:3"), Ok(NUMBER));
        for bad in [
            "",
            "253",
            "fd:",
            ":3",
            "+d:3",
            "fd:3:1",
            "0xfd:3",
            "fffffffff:1",
        ] {
            assert!(device_number(bad.as_bytes()).is_err(), "{bad}");
        }
    }

    #[test]
    fn discard_is_wanted_unless_it_is_switched_off() {
        assert!(wish(&[]).unwrap().image().discard);
        assert!(wish(&[("discard-enable", "1")]).unwrap().image().discard);
        assert!(!wish(&[("discard-enable", "0")]).unwrap().image().discard);
    }

    fn wish(keys: &[(&str, &str)]) -> Result<Wish, BadWish> {
        Wish::parse(values(keys))
    }

    fn values(keys: &[(&str, &str)]) -> Vec<Option<Vec<u8>>> {
        let value = |key: &str| {
            let given = keys.iter().find(|(name, _)| *name == key);
            given.map(|(_, value)| value.as_bytes().to_vec())
        };
        let mut values: Vec<_> = Wish::KEYS.iter().map(|key| value(key)).collect();
        values[0].get_or_insert_with(|| b"w".to_vec());
        values
    }
}
