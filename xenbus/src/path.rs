//! Where a device lives in the store.

use std::fmt;

use ring_proto::DomId;

use crate::number;

/// The greatest domain id that a real domain can have (`DOMID_FIRST_RESERVED` - 1).
pub const DOMID_MAX: u16 = 0x7fef;

/// What kind of device a backend directory holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Class {
    /// `vbd`: a block device.
    Vbd,
    /// `vbd3`: a block device of libxl's `backendtype=tap`; its frontend is a `vbd`.
    Vbd3,
    /// `vif`: a network interface.
    Vif,
}

impl Class {
    /// The name of the backend's directory.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Vbd => "vbd",
            Self::Vbd3 => "vbd3",
            Self::Vif => "vif",
        }
    }

    /// The name of the frontend's directory.
    #[must_use]
    pub fn frontend_str(self) -> &'static str {
        match self {
            Self::Vbd | Self::Vbd3 => "vbd",
            Self::Vif => "vif",
        }
    }

    /// Reads the name of a backend's directory.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        [Self::Vbd, Self::Vbd3, Self::Vif]
            .into_iter()
            .find(|class| class.as_str() == name)
    }

    /// The directory of all devices of this class that domain `backend` serves.
    #[must_use]
    pub fn directory(self, backend: DomId) -> String {
        format!("/local/domain/{backend}/backend/{}", self.as_str())
    }
}

/// The place of one device, on both sides. Which guest a device belongs to is told by our own path
/// and by nothing that a guest can write (STO-06).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BackendPath {
    /// The domain that serves the device: ours.
    pub backend: DomId,
    /// What it is.
    pub class: Class,
    /// The guest.
    pub frontend: DomId,
    /// The number of the device within its class and guest.
    pub devid: u32,
}

impl BackendPath {
    /// Reads the path of a backend directory, `/local/domain/B/backend/CLASS/F/DEVID`, in exactly
    /// the form it is printed in. `None` for anything else.
    #[must_use]
    pub fn parse(path: &str) -> Option<Self> {
        Self::containing(path)
            .filter(|(_, rest)| rest.is_empty())
            .map(|(device, _)| device)
    }

    /// The device at or above `path`, with what follows: `"online"` for `…/vbd/7/51712/online`.
    #[must_use]
    pub fn containing(path: &str) -> Option<(Self, &str)> {
        let mut parts = path.strip_prefix("/local/domain/")?.splitn(6, '/');
        let backend = domain(parts.next()?)?;
        if parts.next()? != "backend" {
            return None;
        }
        let class = Class::parse(parts.next()?)?;
        let frontend = domain(parts.next()?)?;
        let devid = canonical(parts.next()?, u32::MAX)?;
        let rest = parts.next();
        let device = Self {
            backend,
            class,
            frontend,
            devid,
        };
        match rest {
            None => Some((device, "")),
            Some("") => None,
            Some(rest) => Some((device, rest)),
        }
    }

    /// The path without the domain, as hotplug scripts get it in `XENBUS_PATH`.
    #[must_use]
    pub fn relative(&self) -> String {
        format!(
            "backend/{}/{}/{}",
            self.class.as_str(),
            self.frontend,
            self.devid
        )
    }

    /// The path of the key `name` in the backend directory.
    #[must_use]
    pub fn key(&self, name: &str) -> String {
        format!("{self}/{name}")
    }

    /// Where the frontend of this device must live. The `frontend` key is compared with it, never
    /// followed.
    #[must_use]
    pub fn frontend_path(&self) -> String {
        format!(
            "/local/domain/{}/device/{}/{}",
            self.frontend,
            self.class.frontend_str(),
            self.devid
        )
    }

    /// The path of the key `name` in the frontend directory.
    #[must_use]
    pub fn frontend_key(&self, name: &str) -> String {
        format!("{}/{name}", self.frontend_path())
    }
}

impl fmt::Display for BackendPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "/local/domain/{}/{}", self.backend, self.relative())
    }
}

fn domain(text: &str) -> Option<DomId> {
    let value = canonical(text, u32::from(DOMID_MAX))?;
    u16::try_from(value).ok().map(DomId::new)
}

/// A number in the one form it prints in: two spellings of a path would be two devices.
fn canonical(text: &str, limit: u32) -> Option<u32> {
    let value = number::decimal(text.as_bytes(), limit).ok()?;
    (text == "0" || !text.starts_with('0')).then_some(value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_device_has_one_place_on_each_side() {
        let path = "/local/domain/0/backend/vbd/7/51712";
        let device = BackendPath::parse(path).expect("a device");
        assert_eq!(device.to_string(), path);
        assert_eq!(device.relative(), "backend/vbd/7/51712");
        assert_eq!(
            device.frontend_key("state"),
            "/local/domain/7/device/vbd/51712/state"
        );
        let tap = BackendPath {
            class: Class::Vbd3,
            ..device
        };
        assert_eq!(
            tap.frontend_path(),
            device.frontend_path(),
            "vbd3 pairs with a vbd frontend"
        );
        assert_eq!(
            BackendPath::containing(&format!("{path}/a/b")),
            Some((device, "a/b"))
        );
    }

    #[test]
    fn anything_else_is_refused() {
        for bad in [
            "",
            "backend/vbd/7/51712",
            "/local/domain/0/backend/vbd/7",
            "/local/domain/0/backend/vbd/7/51712/",
            "/local/domain/0/backend/vbd/07/51712",
            "/local/domain/0/backend/vbd/7/0x10",
            "/local/domain/0/backend/vbd/32752/1",
            "/local/domain/0/backend/vbd/7/4294967296",
            "/local/domain/0/backend/console/7/0",
            "/local/domain/0/device/vbd/7/0",
            "/local/domain/-1/backend/vbd/7/0",
            "//local/domain/0/backend/vbd/7/0",
        ] {
            assert_eq!(BackendPath::parse(bad), None, "{bad}");
        }
    }

    proptest! {
        #[test]
        fn no_text_upsets_the_parser(path in "(/local/domain/)?[0-9]{0,6}(/backend)?(/vbd|/vif)?(/\\PC{0,9}){0,4}") {
            if let Some((device, rest)) = BackendPath::containing(&path) {
                let again = if rest.is_empty() { device.to_string() } else { device.key(rest) };
                prop_assert_eq!(again, path);
            }
        }
    }
}
