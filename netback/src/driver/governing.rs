//! Which policy governs an interface, and that it is in force: in the kernel, at the bridge port.

use std::time::{Duration, Instant};

use broker::Refused;
use broker::control::Answer;
use ring_proto::DomId;
use tracing::{info, warn};
use xenbus::{BackendPath, Store};

use super::NetDriver;
use crate::enforce::guard_port;
use crate::policy::VifPolicy;
use crate::policy::language::Governed;
use crate::spec::RateSpec;
use crate::tap::{TapError, TapName};
use crate::wish::Wish;

/// When to ask again for what the kernel has refused.
const REFUSED_PAUSE: Duration = Duration::from_secs(60);

impl NetDriver {
    /// Has the kernel enforce a policy on the interface of a device, under the name that it has now.
    pub(super) fn enforce(
        &mut self,
        device: &BackendPath,
        policy: &VifPolicy,
    ) -> Result<TapName, Refused> {
        let link = self.links.get_mut(device);
        let link = link.ok_or(Refused::host(TapError::Gone))?;
        let name = TapName::parse(&link.tap.name()?).map_err(Refused::host)?;
        self.governor.enforce(&name, policy)?;
        let now = Some((name.clone(), policy.clone()));
        let before = std::mem::replace(&mut link.governed, now);
        // The hotplug script has renamed it.
        if let Some((before, _)) = before.filter(|(before, _)| *before != name) {
            self.release(&before);
        }
        Ok(name)
    }

    /// Takes over what earlier processes have left in the kernel. Their workers serve on, and cannot be
    /// told anything; so of their interfaces, the kernel is what enforces the policies of now.
    pub(super) fn take_over(&mut self, store: &mut Store, own_domain: DomId) {
        self.own_domain = Some(own_domain);
        self.links.remove_stale(store, own_domain);
        self.governor.take_over();
        for (name, device) in self.links.left(own_domain) {
            if let Err(error) = self.govern_left(store, &name, &device) {
                warn!(%error, "{} stays as it was", name.as_str());
            }
        }
    }

    /// Reads the policies again, and has the kernel enforce them, whatever it did until now; the workers
    /// hear of them when all devices are looked at again.
    pub(super) fn reload(&mut self, store: &mut Store) -> Result<Answer, Refused> {
        let (count, warnings) = self.governor.reload().map_err(Refused::host)?;
        let mut faults = Vec::new();
        for device in self.links.devices() {
            if let Err(why) = self.govern_again(store, &device) {
                faults.push(format!("\n{device}: {why}"));
            }
        }
        let mut told = Vec::new();
        for (name, device) in self
            .own_domain
            .map_or_else(Vec::new, |own| self.links.left(own))
        {
            match self.govern_left(store, &name, &device) {
                Ok(true) => told.push(format!(
                    "\nwarning: {} is served by the process of an earlier daemon, which goes by the \
                     policies from then until its guest connects again: only the kernel goes by these",
                    name.as_str()
                )),
                Ok(false) => {}
                Err(why) => faults.push(format!("\n{device}: {why}")),
            }
        }
        if !faults.is_empty() {
            return Err(Refused::host(format!(
                "{count} policies were read, but not all are in force:{}",
                faults.concat()
            )));
        }
        let warnings = warnings.iter();
        let warnings = warnings.map(|warning| format!("\nwarning: {warning}"));
        let told = format!(
            "{count} policies are in force{}",
            warnings.chain(told).collect::<String>()
        );
        info!("{told}");
        Ok(Answer::from(serde_json::Value::String(told)).and_look_again())
    }

    /// What governs the interface of a device, by what the toolstack says now.
    pub(super) fn governed(
        &self,
        store: &mut Store,
        device: &BackendPath,
    ) -> Result<Governed, Refused> {
        let wish = Wish::read(store, device)?.map_err(Refused::host)?;
        self.governor.govern(store, device, &wish)
    }

    /// How much the guest of a served interface may transmit, and what governs it: what did until now, if
    /// that cannot be known any more.
    pub(super) fn governed_still(
        &mut self,
        store: &mut Store,
        device: &BackendPath,
    ) -> Result<(Option<RateSpec>, VifPolicy), Refused> {
        let governed = self.governed(store, device);
        let link = self.links.get_mut(device);
        let link = link.ok_or(Refused::host(TapError::Gone))?;
        match (governed, &link.told) {
            (Err(Refused::Because { why, .. }), Some(told)) => {
                // Once: its guest can have this asked as often as it likes.
                if !std::mem::replace(&mut link.in_doubt, true) {
                    warn!("{device}: goes by its policy from before: {why}");
                }
                Ok((told.rate, told.policy.clone()))
            }
            (governed, _) => {
                let governed = governed?;
                link.in_doubt = false;
                Ok((governed.rate, governed.policy))
            }
        }
    }

    /// Somebody may have taken rules out of the kernel, or it may have refused them before: so it is
    /// asked, even if nothing has changed.
    fn govern_again(&mut self, store: &mut Store, device: &BackendPath) -> Result<(), Refused> {
        let policy = self.governed(store, device)?.policy;
        self.put_in_force(device, &policy)
    }

    /// Has the kernel enforce what governs the interface of an earlier process; false if it is on its
    /// way out.
    fn govern_left(
        &mut self,
        store: &mut Store,
        name: &TapName,
        device: &BackendPath,
    ) -> Result<bool, Refused> {
        if store.read(&device.key("state"))?.is_none() {
            return Ok(false);
        }
        let policy = self.governed(store, device)?.policy;
        self.governor.enforce(name, &policy)?;
        if !policy.is_open() {
            guard_port(name, &policy, None).map_err(Refused::host)?;
        }
        Ok(true)
    }

    /// Has `wanted` enforced, if it is not; the policy that is in force then. If the kernel refuses, that
    /// is the one from before, and it is asked again after a while, whatever else changes.
    pub(super) fn exchange(
        &mut self,
        device: &BackendPath,
        wanted: VifPolicy,
        now: Instant,
    ) -> VifPolicy {
        let Some(link) = self.links.get(device) else {
            return wanted;
        };
        let Some((_, held)) = link.governed.clone() else {
            return wanted;
        };
        if held == wanted && link.is_guarded_by(&wanted) {
            return wanted;
        }
        if link.refused_until.is_some_and(|until| now < until) {
            return held;
        }
        let put = self.put_in_force(device, &wanted);
        if let Some(link) = self.links.get_mut(device) {
            link.refused_until = put.is_err().then(|| now + REFUSED_PAUSE);
        }
        match put {
            Ok(()) => wanted,
            Err(why) => {
                warn!("{device}: its policy is not in force: {why}");
                // The kernel may have taken it, and the bridge not.
                let governed = self
                    .links
                    .get(device)
                    .and_then(|link| link.governed.clone());
                governed.map_or(held, |(_, policy)| policy)
            }
        }
    }

    fn put_in_force(&mut self, device: &BackendPath, policy: &VifPolicy) -> Result<(), Refused> {
        let link = self.links.get(device);
        // Before its guest has connected, it need not be a bridge port.
        let guards =
            link.is_some_and(|link| link.told.is_some() && link.guarded.as_ref() != Some(policy));
        if guards {
            self.guard(device, policy)
        } else {
            self.enforce(device, policy).map(drop)
        }
    }

    /// The rules of an interface are not needed any more, unless another one has got its name.
    pub(super) fn release(&mut self, name: &TapName) {
        if !self.links.are_governed_as(name) {
            self.governor.release(name);
        }
    }

    /// Has the kernel and the bridge enforce it.
    pub(super) fn guard(
        &mut self,
        device: &BackendPath,
        policy: &VifPolicy,
    ) -> Result<(), Refused> {
        let name = self.enforce(device, policy)?;
        let link = self.links.get_mut(device);
        let link = link.ok_or(Refused::host(TapError::Gone))?;
        if !policy.is_open() || link.guarded.is_some() {
            guard_port(&name, policy, link.guarded.as_ref()).map_err(Refused::host)?;
            link.guarded = Some(policy.clone());
        }
        Ok(())
    }
}
