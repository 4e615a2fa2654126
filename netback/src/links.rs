//! The host's ends of all interfaces, as long as their directories in xenstore exist.

use std::collections::BTreeMap;
use std::time::Instant;

use ring_proto::DomId;
use tracing::{debug, info, warn};
use xenbus::{BackendPath, Class, LiveOffer, Store};

use crate::ledger::Ledger;
use crate::policy::VifPolicy;
use crate::spec::{Change, RateSpec};
use crate::tap::{Janitor, Tap, TapError, TapName};
use crate::wish::Wish;

/// All of them.
#[derive(Debug)]
pub(crate) struct Links {
    links: BTreeMap<BackendPath, Link>,
    queue_length: u32,
    janitor: Janitor,
    /// Names of taps that are being removed: a new one of the same name has to wait.
    leaving: Vec<TapName>,
}

/// One of them.
#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) tap: Tap,
    /// What the worker was told last.
    pub(crate) told: Option<Told>,
    /// What the kernel enforces on it, and under which name.
    pub(crate) governed: Option<(TapName, VifPolicy)>,
    /// When to have the kernel enforce again what it has refused.
    pub(crate) refused_until: Option<Instant>,
    /// What its bridge port was set to.
    pub(crate) guarded: Option<VifPolicy>,
    /// It is not known what governs it, and that was told.
    pub(crate) in_doubt: bool,
    /// What its worker counts, or the last one has.
    pub(crate) ledger: Option<Ledger>,
}

/// What may change while an interface is served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Told {
    /// It was: if not, some of it may not have come.
    pub(crate) was_heard: bool,
    pub(crate) rate: Option<RateSpec>,
    pub(crate) frontend: LiveOffer,
    pub(crate) policy: VifPolicy,
}

impl Link {
    /// Is its bridge port, if it has one by now, set as a policy says?
    pub(crate) fn is_guarded_by(&self, policy: &VifPolicy) -> bool {
        match &self.guarded {
            _ if self.told.is_none() => true,
            Some(guarded) => guarded == policy,
            None => policy.is_open(),
        }
    }
}

impl Links {
    /// None yet; new ones keep so many frames for guests that do not receive them.
    pub(crate) fn new(queue_length: u32) -> Self {
        Self {
            links: BTreeMap::new(),
            queue_length,
            janitor: Janitor::start(),
            leaving: Vec::new(),
        }
    }

    /// That of a device: the one there is, or a new one.
    pub(crate) fn open(
        &mut self,
        device: &BackendPath,
        wish: &Wish,
    ) -> Result<&mut Link, TapError> {
        if !self.links.contains_key(device) {
            let tap = self.find_or_make(device, wish)?;
            let link = Link {
                tap,
                told: None,
                governed: None,
                refused_until: None,
                guarded: None,
                in_doubt: false,
                ledger: None,
            };
            self.links.insert(*device, link);
        }
        self.links.get_mut(device).ok_or(TapError::Gone)
    }

    fn find_or_make(&mut self, device: &BackendPath, wish: &Wish) -> Result<Tap, TapError> {
        let (domid, handle) = vif(device);
        let name = TapName::of_vif(domid, handle)?;
        let names = [wish.name.as_ref(), Some(&name)];
        let mut names = names.into_iter().flatten();
        self.forget_those_that_left();
        if let Some(leaving) = names.clone().find(|&name| self.leaving.contains(name)) {
            return Err(TapError::Leaving(leaving.as_str().to_owned()));
        }
        // What an earlier process of ours has left is in its bridge, and has its rules.
        let left = names.find(|name| name.owner() == Some((domid, handle)));
        // Stock scripts would take any interface of that name for the VIF's (NET-25).
        let taken = wish.name.as_ref().filter(|name| name.is_taken());
        if let Some(name) = taken.filter(|&name| left != Some(name)) {
            return Err(TapError::Exists(name.as_str().to_owned()));
        }
        match left {
            // Its guest connects later; one that is connected is its old worker's, and is not asked
            // for here.
            Some(left) => Tap::adopt_idle(left),
            None => {
                let tap = Tap::create(&name, wish.mtu, self.queue_length)?;
                tap.note_owner((domid, handle));
                Ok(tap)
            }
        }
    }

    /// The devices of all of them.
    pub(crate) fn devices(&self) -> Vec<BackendPath> {
        self.links.keys().copied().collect()
    }

    pub(crate) fn get(&self, device: &BackendPath) -> Option<&Link> {
        self.links.get(device)
    }

    pub(crate) fn get_mut(&mut self, device: &BackendPath) -> Option<&mut Link> {
        self.links.get_mut(device)
    }

    /// The device whose interface has this name, now or when it was made, and what governs it.
    pub(crate) fn find(&self, wanted: &str) -> Option<(BackendPath, &TapName, &VifPolicy)> {
        self.links.iter().find_map(|(device, link)| {
            let (name, policy) = link.governed.as_ref()?;
            let (domid, handle) = vif(device);
            let is_meant = name.as_str() == wanted || format!("vif{domid}.{handle}") == wanted;
            is_meant.then_some((*device, name, policy))
        })
    }

    /// Plugs the cable of a device in, or out.
    pub(crate) fn plug(&self, device: &BackendPath, on: bool) {
        let plugged = self.links.get(device).map(|link| link.tap.set_carrier(on));
        if let Some(Err(error)) = plugged {
            warn!(%error, "the carrier stays as it is");
        }
    }

    /// The device is gone: so is its tap, soon, even if it is an earlier process that has made it.
    /// Under which names there may be rules for it, which are not needed any more.
    pub(crate) fn remove(&mut self, device: &BackendPath) -> Vec<TapName> {
        let Some(link) = self.links.remove(device) else {
            let left: Vec<_> = TapName::owned_by(vif(device)).collect();
            let removed = left.into_iter().filter(|name| self.remove_left(name));
            return removed.collect();
        };
        match self.dismiss(link.tap) {
            // Or somebody has done that.
            Ok(()) | Err(TapError::Gone) => {}
            Err(error) => {
                // A worker may send through it still: so its rules stay.
                warn!(%error, "a tap is left behind: remove it with ip link delete");
                return Vec::new();
            }
        }
        link.governed.into_iter().map(|(name, _)| name).collect()
    }

    /// Removes the taps whose devices went while no broker ran.
    pub(crate) fn remove_stale(&mut self, store: &mut Store, own_domain: DomId) {
        for (name, device) in self.left(own_domain) {
            if matches!(store.read(&device.key("state")), Ok(None)) {
                self.remove_left(&name);
            }
        }
    }

    /// The taps that earlier processes have left, of devices that were not looked at since, and which
    /// devices.
    pub(crate) fn left(&self, own_domain: DomId) -> Vec<(TapName, BackendPath)> {
        let names = TapName::all().unwrap_or_default().into_iter();
        let owned = names.filter_map(|name| {
            let (domid, handle) = name.owner()?;
            let device = BackendPath {
                backend: own_domain,
                class: Class::Vif,
                frontend: DomId::new(domid),
                devid: handle,
            };
            Some((name, device))
        });
        let known = |(_, device): &(_, BackendPath)| self.links.contains_key(device);
        owned.filter(|left| !known(left)).collect()
    }

    /// Does a policy govern one of them under this name?
    pub(crate) fn are_governed_as(&self, name: &TapName) -> bool {
        let mut governed = self
            .links
            .values()
            .filter_map(|link| link.governed.as_ref());
        governed.any(|(other, _)| other == name)
    }

    /// False if it is not removed.
    fn remove_left(&mut self, name: &TapName) -> bool {
        let removed = Tap::adopt(name).and_then(|tap| self.dismiss(tap));
        match &removed {
            Ok(()) => info!("removed {}: its guest is gone", name.as_str()),
            // Another program's interface, after all.
            Err(error) => debug!(%error, "{} stays", name.as_str()),
        }
        removed.is_ok()
    }

    fn dismiss(&mut self, tap: Tap) -> Result<(), TapError> {
        let name = tap.name()?;
        // A worker may have a queue of it still, and its rules go now.
        tap.take_down()?;
        self.janitor.remove(tap)?;
        self.forget_those_that_left();
        self.leaving.extend(TapName::parse(&name));
        Ok(())
    }

    fn forget_those_that_left(&mut self) {
        if !self.leaving.is_empty() {
            let there = TapName::all().unwrap_or_default();
            self.leaving.retain(|name| there.contains(name));
        }
    }
}

fn vif(device: &BackendPath) -> (u16, u32) {
    (device.frontend.raw(), device.devid)
}

impl Told {
    /// What the worker has to be told.
    pub(crate) fn changes_to(&self, now: &Self) -> Vec<Change> {
        let (then, live) = (self.frontend, now.frontend);
        let mut changes = Vec::new();
        let again = !self.was_heard;
        if again || self.rate != now.rate {
            changes.push(Change::Rate(now.rate));
        }
        if again || then.multicast_control != live.multicast_control {
            changes.push(Change::MulticastControl(live.multicast_control));
        }
        if again || then.xdp_headroom != live.xdp_headroom {
            changes.push(Change::XdpHeadroom(live.xdp_headroom));
        }
        if again || self.policy != now.policy {
            changes.push(Change::Policy(Box::new(now.policy.clone())));
        }
        changes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::Mac;
    use crate::tap::tests::in_own_network;

    #[test]
    fn a_worker_is_told_what_has_changed_and_nothing_else() {
        let then = Told {
            was_heard: true,
            rate: None,
            frontend: LiveOffer {
                multicast_control: false,
                xdp_headroom: 0,
            },
            policy: VifPolicy::open(Mac([2; 6])),
        };
        assert!(then.changes_to(&then).is_empty());
        let rate = Some(RateSpec {
            bytes: 62_500,
            interval_us: 50_000,
        });
        let now = Told {
            was_heard: true,
            rate,
            frontend: LiveOffer {
                multicast_control: true,
                xdp_headroom: 256,
            },
            policy: VifPolicy::locked(Mac([2; 6]), Vec::new()),
        };
        let changes = [
            Change::Rate(rate),
            Change::MulticastControl(true),
            Change::XdpHeadroom(256),
            Change::Policy(Box::new(now.policy.clone())),
        ];
        assert_eq!(then.changes_to(&now), changes);
        let unheard = Told {
            was_heard: false,
            ..now.clone()
        };
        assert_eq!(unheard.changes_to(&now), changes);
        let limited = Told {
            was_heard: true,
            rate,
            ..then.clone()
        };
        assert_eq!(limited.changes_to(&then), [Change::Rate(None)]);
    }

    fn device(domid: u16) -> BackendPath {
        BackendPath {
            backend: DomId::new(0),
            class: Class::Vif,
            frontend: DomId::new(domid),
            devid: 0,
        }
    }

    #[test]
    fn a_tap_that_is_still_being_removed_holds_up_its_namesake_and_nobody_else() {
        in_own_network(|| {
            let wish = Wish {
                mac: [2, 0, 0, 0, 0, 1],
                rate: None,
                mtu: 1500,
                name: None,
                ip: Vec::new(),
                bridge: None,
                vlan: None,
            };
            let named = |name: &str| Wish {
                name: Some(TapName::parse(name).unwrap()),
                ..wish.clone()
            };
            let mut links = Links::new(500);
            let queue = links.open(&device(7), &wish).unwrap().tap.queue().unwrap();
            links.remove(&device(7));
            // A worker has it open still.
            for _ in 0..3 {
                let waits = links.open(&device(7), &wish);
                assert!(matches!(waits, Err(TapError::Leaving(_))), "{waits:?}");
                let waits = links.open(&device(8), &named("vif7.0"));
                assert!(matches!(waits, Err(TapError::Leaving(_))), "{waits:?}");
            }
            links.open(&device(9), &wish).unwrap();
            drop(queue);
            let again = (0..1_000_000).any(|_| links.open(&device(7), &wish).is_ok());
            assert!(again, "it never leaves");
            for domid in [7, 9] {
                links.remove(&device(domid));
            }
            let gone = || TapName::all().unwrap().len() == 1;
            assert!((0..1_000_000).any(|_| gone()), "only lo stays");
        });
    }
}
