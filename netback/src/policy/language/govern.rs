//! Which policy governs an interface, and what it then says.

use std::fmt;

use super::entry::Policy;
use super::matching::{Fit, Matched};
use super::profile::Profile;
use super::source::Origin;
use super::vif::Vif;
use crate::policy::network::Network;
use crate::policy::{Addresses, Limit, VifPolicy};
use crate::spec::RateSpec;

/// What governs an interface, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Governed {
    /// What it may send and receive.
    pub policy: VifPolicy,
    /// How much it may transmit: the slower of the toolstack's rate and the policy's.
    pub rate: Option<RateSpec>,
    /// How the hotplug script is to connect it, if the policy says so.
    pub network: Option<Network>,
    /// Why this policy.
    pub why: Why,
}

/// Nothing governs an interface yet: a policy may be for it, and comes before the one that is.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "policy {name:?} of {origin} may be for this interface, but {unknown}: have it readable here (a \
     driver domain may not read it unless dom0 lets it), or match what is known (domid, mac, bridge, \
     handle)"
)]
pub struct Doubt {
    /// Where the policy is.
    pub origin: Origin,
    /// What it is called.
    pub name: String,
    /// What is not known.
    pub unknown: &'static str,
}

/// Why a policy governs an interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Why {
    /// It is the first one in the files that the interface fits.
    Fits {
        /// Where the policy is.
        origin: Origin,
        /// What it starts from.
        profile: Profile,
        /// The keys of `match` that decided; none if the policy is for every interface.
        matched: Vec<Matched>,
    },
    /// No policy fits, but the toolstack has given addresses (`ip`): locked.
    Addressed,
    /// No policy fits, and there are no addresses: open.
    Nothing,
}

/// In what time a policy's rate is paid out, at the most: xl's default. Not more than the burst is
/// paid out at once, or the kernel would drop what the worker lets pass.
const INTERVAL_US: u64 = 50_000;
/// What Linux lets pass at once, at the least: `Limit::burst`.
const BURST: u64 = 128 << 10;
const SECOND_US: u128 = 1_000_000;

/// What the first of `policies` that fits says, or what goes without one.
pub(super) fn govern(policies: &[Policy], vif: &Vif) -> Result<Governed, Doubt> {
    let mut fitting = None;
    for policy in policies {
        match policy.matching.of(vif) {
            Fit::No => {}
            Fit::Yes(matched) => {
                fitting = Some((policy, matched));
                break;
            }
            Fit::Perhaps(unknown) => {
                return Err(Doubt {
                    origin: policy.origin.clone(),
                    name: policy.name().to_owned(),
                    unknown,
                });
            }
        }
    }
    let (mut policy, says_vlan, network, why) = match fitting {
        Some((policy, matched)) => {
            let why = Why::Fits {
                origin: policy.origin.clone(),
                profile: policy.profile,
                matched,
            };
            (
                policy.settings.clone(),
                policy.says_vlan,
                policy.network.clone(),
                why,
            )
        }
        None if vif.ip.is_empty() => (Profile::Open.policy(), false, None, Why::Nothing),
        None => (Profile::Locked.policy(), false, None, Why::Addressed),
    };
    policy.mac = vif.mac;
    policy.addresses = policy.addresses.map(|addresses| {
        let own = addresses.own.into_iter().chain(vif.ip.iter().copied());
        Addresses::new(own.collect(), addresses.any_link_local)
    });
    if let Some(vlan) = vif.vlan.as_ref().filter(|_| !says_vlan) {
        policy.vlan = vlan.clone();
    }
    let rate = slower(vif.rate, &mut policy.limit_out);
    Ok(Governed {
        policy,
        rate,
        network,
        why,
    })
}

/// The slower of both, which becomes the policy's as well if it has one.
fn slower(wish: Option<RateSpec>, limit: &mut Limit) -> Option<RateSpec> {
    if limit.bytes == 0 {
        return wish;
    }
    let burst = if limit.burst > 0 { limit.burst } else { BURST };
    let wished = wish.and_then(|wish| {
        let bytes = u128::from(wish.bytes) * SECOND_US / u128::from(wish.interval_us.max(1));
        let bytes = u64::try_from(bytes).ok()?;
        (bytes < limit.bytes).then_some((wish, bytes.max(1)))
    });
    let Some((wish, bytes)) = wished else {
        return Some(paced(limit.bytes, burst));
    };
    *limit = Limit {
        bytes,
        burst: burst.max(wish.bytes),
        ..*limit
    };
    Some(wish)
}

/// So many bytes a second.
fn paced(rate: u64, burst: u64) -> RateSpec {
    let second = 1_000_000;
    let interval_us = (burst.saturating_mul(second) / rate.max(1)).clamp(1, INTERVAL_US);
    RateSpec {
        bytes: rate.saturating_mul(interval_us).div_ceil(second),
        interval_us,
    }
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nothing => write!(f, "no policy fits, and the toolstack gave no addresses"),
            Self::Addressed => write!(f, "no policy fits, but the toolstack gave addresses (ip)"),
            Self::Fits {
                origin,
                profile,
                matched,
            } => {
                write!(f, "{origin}, profile {}: ", profile.as_str())?;
                let matched: Vec<_> = matched.iter().map(Matched::to_string).collect();
                match matched.as_slice() {
                    [] => write!(f, "it is for every interface"),
                    some => write!(f, "{}", some.join(", ")),
                }
            }
        }
    }
}
