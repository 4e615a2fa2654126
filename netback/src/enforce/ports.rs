//! What a bridge does at the port of an interface.
//!
//! A bridge that learns from a port believes whatever source it sees there, so the port of a guest
//! whose address is guarded does not learn: it has an entry for that address, which no other port can
//! take over (sticky), and is *locked*: Linux drops what comes from any other address, before it looks
//! at what learned that (`br_handle_frame_finish`, since 5.16). A locked port without its entry lets
//! nothing pass, so the entry comes first.
//!
//! Hotplug scripts make an interface a port, so this has to wait until they have, and is done before
//! the link gets carrier. Rules at the device do not depend on it.

use std::path::PathBuf;

use serde_json::Value;

use super::program;
use crate::policy::{VifPolicy, Vlan};
use crate::tap::TapName;

/// Why a port is not as its policy wants it: this host's doing.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PortError {
    /// A program is not there.
    #[error("{0} is not there: install the package iproute2")]
    Missing(&'static str),
    /// A program could not be started.
    #[error("{}: {error}", path.display())]
    NotRun {
        /// The program.
        path: PathBuf,
        /// Why not.
        error: std::io::Error,
    },
    /// The kernel refuses.
    #[error(
        "{name}: `{command}` says {message:?}; is Linux 5.16 or later running, and is {name} up to date in its bridge?"
    )]
    Refused {
        /// The interface.
        name: String,
        /// What was asked for.
        command: String,
        /// The first line of the answer.
        message: String,
    },
    /// Only a Linux bridge can do it.
    #[error(
        "{name} is {place}, where the policy's {what} cannot be enforced: put it into a Linux bridge, \
         or leave {what} out of the policy"
    )]
    NoBridge {
        /// The interface.
        name: String,
        /// What it is instead.
        place: String,
        /// What the policy wants.
        what: &'static str,
    },
    /// The bridge does not tell VLANs apart.
    #[error(
        "{name}: its policy names VLANs, and the bridge {bridge} does not tell them apart: ip link set \
         {bridge} type bridge vlan_filtering 1"
    )]
    NoVlans {
        /// The interface.
        name: String,
        /// The bridge.
        bridge: String,
    },
}

/// Sets the flags, addresses and VLANs of the bridge port that `name` is as `policy` has them. What
/// `policy` says nothing about is left as others have set it, unless `before`, the policy that held
/// until now, has asked for it. VLANs stay as they are when a policy stops to name any.
///
/// # Errors
/// [`PortError`], also if it is no port of a Linux bridge and the policy needs one.
pub fn guard_port(
    name: &TapName,
    policy: &VifPolicy,
    before: Option<&VifPolicy>,
) -> Result<(), PortError> {
    let port = Port { name };
    let link = port.show(name.as_str())?;
    let kind = link.pointer("/linkinfo/info_slave_kind");
    let bridge = match (text(&link, "master"), kind.and_then(Value::as_str)) {
        (Some(bridge), Some("bridge")) => bridge,
        (_, kind) => return port.elsewhere(kind, policy),
    };
    port.join_vlans(&bridge, policy)?;
    if policy.mac_guard {
        port.own_address(policy)?;
    }
    port.set_flags(policy, before)?;
    let was_guarded = before.is_some_and(|before| before.mac_guard);
    if was_guarded || policy.mac_guard {
        let own = policy.mac_guard.then(|| policy.mac.to_string());
        port.forget_addresses(|mac, _| Some(mac) != own.as_deref())?;
    }
    Ok(())
}

struct Port<'a> {
    name: &'a TapName,
}

impl Port<'_> {
    /// What needs a bridge cannot be had.
    fn elsewhere(&self, kind: Option<&str>, policy: &VifPolicy) -> Result<(), PortError> {
        let in_vlans = matches!(policy.vlan, Vlan::Access(_) | Vlan::Trunk { .. });
        // Routed, there is no bridge on which to meet others, and hooks see who comes from where.
        let routed = matches!(kind, None | Some("vrf"));
        let wanted = [
            (in_vlans, "vlan"),
            (!routed && policy.isolated, "isolated"),
            (!routed && policy.is_stateful(), "stateful rules"),
            (!routed && policy.host.is_some(), "host"),
            (!routed && !policy.multicast_flood, "multicast flood"),
        ];
        let Some((_, what)) = wanted.into_iter().find(|(wanted, _)| *wanted) else {
            return Ok(());
        };
        let place = match kind {
            None => "no port of a bridge".to_owned(),
            Some(kind) => format!("a port of {kind}"),
        };
        Err(PortError::NoBridge {
            name: self.name.as_str().to_owned(),
            place,
            what,
        })
    }

    fn join_vlans(&self, bridge: &str, policy: &VifPolicy) -> Result<(), PortError> {
        let (tags, native): (&[u16], _) = match &policy.vlan {
            Vlan::Any | Vlan::Off => return Ok(()),
            Vlan::Access(vlan) => (&[], Some(*vlan)),
            Vlan::Trunk { tags, native } => (tags, *native),
        };
        let link = self.show(bridge)?;
        let filters = link.pointer("/linkinfo/info_data/vlan_filtering");
        if filters.and_then(Value::as_u64) != Some(1) {
            return Err(PortError::NoVlans {
                name: self.name.as_str().to_owned(),
                bridge: bridge.to_owned(),
            });
        }
        for &tag in tags.iter().filter(|&&tag| Some(tag) != native) {
            self.vlan("add", tag, &[])?;
        }
        if let Some(native) = native {
            self.vlan("add", native, &["pvid", "untagged"])?;
        }
        let mut left = self.vlans()?;
        left.retain(|vlan| Some(*vlan) != native && !tags.contains(vlan));
        // Addresses of a VLAN outlive it, and then cannot be taken away any more.
        if !left.is_empty() {
            self.forget_addresses(|_, vlan| vlan.is_some_and(|vlan| left.contains(&vlan)))?;
        }
        for vlan in left {
            self.vlan("del", vlan, &[])?;
        }
        Ok(())
    }

    fn vlan(&self, verb: &str, vlan: u16, how: &[&str]) -> Result<(), PortError> {
        let vlan = vlan.to_string();
        let arguments = ["vlan", verb, "dev", self.name.as_str(), "vid", &vlan];
        self.ask("bridge", &[&arguments, how].concat()).map(drop)
    }

    /// All VLANs that it is in.
    fn vlans(&self) -> Result<Vec<u16>, PortError> {
        let shown = self.json("bridge", &["-j", "vlan", "show", "dev", self.name.as_str()])?;
        let lists = shown
            .iter()
            .filter_map(|port| port.get("vlans")?.as_array());
        let number = |vlan: &Value, key| {
            let number = vlan.get(key).and_then(Value::as_u64);
            number.and_then(|number| u16::try_from(number).ok())
        };
        let ranges = lists.flatten().filter_map(|vlan| {
            let first = number(vlan, "vlan")?;
            Some(first..=number(vlan, "vlanEnd").unwrap_or(first))
        });
        Ok(ranges.flatten().collect())
    }

    /// The bridge knows the guest's address at this port, in all its VLANs, and at no other.
    fn own_address(&self, policy: &VifPolicy) -> Result<(), PortError> {
        let (mac, name) = (policy.mac.to_string(), self.name.as_str());
        let how = [
            "fdb", "replace", &mac, "dev", name, "master", "static", "sticky",
        ];
        self.ask("bridge", &how).map(drop)
    }

    /// Takes away those addresses, by what they are and by their VLAN, that a policy has given it.
    fn forget_addresses(
        &self,
        is_meant: impl Fn(&str, Option<u16>) -> bool,
    ) -> Result<(), PortError> {
        let name = self.name.as_str();
        for entry in self.json("bridge", &["-j", "fdb", "show", "brport", name])? {
            let vlan = entry.get("vlan").and_then(Value::as_u64);
            let vlan = vlan.and_then(|vlan| u16::try_from(vlan).ok());
            let is_static = text(&entry, "state").as_deref() == Some("static");
            let Some(mac) = text(&entry, "mac").filter(|mac| is_static && is_meant(mac, vlan))
            else {
                continue;
            };
            let vlan = vlan.map(|vlan| vlan.to_string());
            let mut how = vec!["fdb", "del", &mac, "dev", name, "master"];
            how.extend(vlan.iter().flat_map(|vlan| ["vlan", vlan.as_str()]));
            self.ask("bridge", &how)?;
        }
        Ok(())
    }

    fn set_flags(&self, policy: &VifPolicy, before: Option<&VifPolicy>) -> Result<(), PortError> {
        let wanted = flags(policy);
        let had = before.map(flags);
        let mut arguments = vec!["link", "set", "dev", self.name.as_str()];
        for (at, &(flag, on, usual)) in wanted.iter().enumerate() {
            let was = had.is_some_and(|had| had.get(at).is_some_and(|had| had.1 != usual));
            if on != usual || was {
                arguments.extend([flag, if on { "on" } else { "off" }]);
            }
        }
        if policy.mac_guard {
            arguments.extend(["hairpin", "off"]);
        }
        if arguments.len() > 4 {
            self.ask("bridge", &arguments)?;
        }
        Ok(())
    }

    fn show(&self, link: &str) -> Result<Value, PortError> {
        let shown = self.json("ip", &["-j", "-d", "link", "show", "dev", link])?;
        Ok(shown.into_iter().next().unwrap_or_default())
    }

    fn json(&self, program: &'static str, how: &[&str]) -> Result<Vec<Value>, PortError> {
        let said = self.ask(program, how)?;
        // Of nothing, older versions say nothing.
        Ok(serde_json::from_slice(&said).unwrap_or_default())
    }

    fn ask(&self, program: &'static str, how: &[&str]) -> Result<Vec<u8>, PortError> {
        let path = program::find(program).ok_or(PortError::Missing(program))?;
        let said = program::run(&path, how, "");
        let said = said.map_err(|error| PortError::NotRun { path, error })?;
        said.map_err(|message| PortError::Refused {
            name: self.name.as_str().to_owned(),
            command: format!("{program} {}", how.join(" ")),
            message,
        })
    }
}

/// Flags of a port: what they are to be, and what they usually are.
const fn flags(policy: &VifPolicy) -> [(&'static str, bool, bool); 6] {
    [
        ("learning", !policy.mac_guard, true),
        ("locked", policy.mac_guard, false),
        ("isolated", policy.isolated, false),
        ("guard", !policy.bpdu, false),
        ("root_block", !policy.bpdu, false),
        ("mcast_flood", policy.multicast_flood, true),
    ]
}

fn text(value: &Value, key: &str) -> Option<String> {
    value.get(key)?.as_str().map(str::to_owned)
}
