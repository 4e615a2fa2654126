//! An interface, as far as policies ask for it.

use broker::owner::Owner;

use crate::policy::{Mac, Prefix, Vlan};
use crate::spec::RateSpec;

/// What the toolstack says of an interface. No guest can write any of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Vif {
    /// The guest.
    pub owner: Owner,
    /// The interface's number among those of its domain.
    pub handle: u32,
    /// The guest's own address.
    pub mac: Mac,
    /// The bridge that the hotplug script is told to use.
    pub bridge: Option<String>,
    /// The guest's own addresses.
    pub ip: Vec<Prefix>,
    /// The VLANs of the bridge port.
    pub vlan: Option<Vlan>,
    /// How much the guest may transmit.
    pub rate: Option<RateSpec>,
}
