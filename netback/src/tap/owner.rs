//! Whose tap an interface is.
//!
//! A tap outlives its broker, and hotplug scripts rename it, so its name does not tell the next
//! broker which VIF it belongs to, or whether it is another program's. Its alias does: Linux keeps
//! one for each interface, scripts leave it alone, and `ip link` shows it.

use std::fs;
use std::path::PathBuf;

use tracing::warn;

use super::{Tap, TapName};

/// In front of domain and handle, as in a VIF's first name: `xen-netback:7.0`.
const NOTE: &str = "xen-netback:";

impl Tap {
    /// Notes whose tap it is, for brokers to come. Without the note they have to go by its name.
    pub fn note_owner(&self, (domid, handle): (u16, u32)) {
        let noted = self.name().map_err(|gone| gone.to_string());
        let noted = noted.and_then(|name| {
            let alias = alias(&name);
            let written = fs::write(&alias, format!("{NOTE}{domid}.{handle}"));
            written.map_err(|error| format!("{}: {error}", alias.display()))
        });
        if let Err(error) = noted {
            warn!(%error, "vif{domid}.{handle}: if it gets another name, nobody will remove it");
        }
    }
}

impl TapName {
    /// The VIF whose tap has this name, as domain and handle; `None` if it is no tap, or not one of ours.
    #[must_use]
    pub fn owner(&self) -> Option<(u16, u32)> {
        if !self.is_tap() {
            return None;
        }
        let alias = fs::read_to_string(alias(self.as_str())).unwrap_or_default();
        match alias.trim_end().strip_prefix(NOTE) {
            Some(noted) => Self(format!("vif{noted}")).vif(),
            None => self.vif(),
        }
    }

    /// The names of all taps of this VIF: one, or none.
    pub fn owned_by(vif: (u16, u32)) -> impl Iterator<Item = Self> {
        let names = Self::all().unwrap_or_default().into_iter();
        names.filter(move |name| name.owner() == Some(vif))
    }
}

fn alias(name: &str) -> PathBuf {
    PathBuf::from("/sys/class/net").join(name).join("ifalias")
}
