//! The guards of the Ethernet header (NET-15, NET-19).

use super::Reason;
use super::frame::{ARP, Frame, RARP, VLAN, is_tag};
use crate::headers::{IPV4, IPV6};
use crate::policy::{VifPolicy, Vlan};

/// What may stand in the Ethernet header of a guest's frame.
#[derive(Debug)]
pub(super) struct Link {
    /// The source, if it is looked at.
    mac: Option<[u8; 6]>,
    bpdu: bool,
    ip_only: bool,
    rarp: bool,
    vlan: Vlan,
}

impl Link {
    pub(super) fn new(policy: &VifPolicy) -> Self {
        Self {
            mac: policy.mac_guard.then_some(policy.mac.0),
            bpdu: policy.bpdu,
            ip_only: policy.ip_only,
            rarp: policy.rarp,
            vlan: policy.vlan.clone(),
        }
    }

    /// Does any frame pass?
    pub(super) fn is_idle(&self) -> bool {
        self.mac.is_none() && self.bpdu && !self.looks_at_types()
    }

    /// Does it matter what type a frame is of?
    pub(super) fn looks_at_types(&self) -> bool {
        self.ip_only || self.vlan != Vlan::Any
    }

    pub(super) fn judge(&self, frame: &Frame<'_>) -> Result<(), Reason> {
        if self.mac.is_some_and(|mac| mac != frame.from) {
            return Err(Reason::Mac);
        }
        let spoken = !self.ip_only || self.is_ip(frame.kind);
        if !spoken || !self.bpdu && is_link_group(frame.to) {
            return Err(Reason::L2);
        }
        if self.is_of_its_vlans(frame) {
            Ok(())
        } else {
            Err(Reason::Vlan)
        }
    }

    fn is_ip(&self, kind: u16) -> bool {
        matches!(kind, IPV4 | ARP | IPV6) || self.rarp && kind == RARP
    }

    fn is_of_its_vlans(&self, frame: &Frame<'_>) -> bool {
        match (&self.vlan, frame.tag) {
            (Vlan::Any, _) => true,
            (Vlan::Off | Vlan::Access(_), tag) => tag.is_none(),
            (Vlan::Trunk { native, .. }, None) => native.is_some(),
            (Vlan::Trunk { tags, .. }, Some(tag)) => {
                tag.kind == VLAN && tags.binary_search(&tag.vlan).is_ok() && !is_tag(frame.kind)
            }
        }
    }
}

/// What bridges and switches say to each other: 01:80:c2:00:00:00 to :0f, and Cisco's.
const fn is_link_group(address: [u8; 6]) -> bool {
    matches!(
        address,
        [0x01, 0x80, 0xc2, 0, 0, 0..=0x0f] | [0x01, 0x00, 0x0c, 0xcc, 0xcc, 0xcc]
    )
}
