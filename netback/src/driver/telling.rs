//! What the driver tells whoever asks about an interface.

use broker::Refused;
use broker::control::Answer;
use serde::Serialize;
use xenbus::{BackendPath, Store};

use super::NetDriver;
use crate::drops::Ask;
use crate::inquiry::{Drops, Shown};
use crate::ledger::Ledger;

impl NetDriver {
    /// What governs an interface, and what became of its frames.
    pub(super) fn show(
        &self,
        store: &mut Store,
        arguments: &serde_json::Value,
    ) -> Result<Answer, Refused> {
        let wanted = arguments.as_str().unwrap_or_default();
        let left = || {
            let left = self.links.left(self.own_domain?);
            left.into_iter().find(|(name, _)| name.as_str() == wanted)
        };
        let (device, name, policy, ledger) = if let Some(found) = self.links.find(wanted) {
            let (device, name, policy) = found;
            let ledger = self.ledger(&device);
            (device, name.clone(), Some(policy.clone()), ledger)
        } else if let Some((name, device)) = left() {
            (device, name, None, None)
        } else {
            return Err(no_interface(wanted));
        };
        let (policy, why) = match (self.governed(store, &device), policy) {
            (Ok(governed), policy) => (policy.unwrap_or(governed.policy), governed.why.to_string()),
            // What is in force can be told all the same.
            (Err(Refused::Because { why, .. }), Some(policy)) => (policy, why),
            (Err(refused), _) => return Err(refused),
        };
        let worker = ledger.map(|ledger| Drops::read(ledger, policy.rules.len()));
        let shown = Shown {
            interface: name.as_str().to_owned(),
            why,
            kernel: self.governor.counters(&name).map_err(Refused::host)?,
            worker: worker.transpose().map_err(Refused::host)?,
            policy,
        };
        answer(&shown)
    }

    /// The frames that an interface's worker has dropped last.
    pub(super) fn dropped(&self, arguments: &serde_json::Value) -> Result<Answer, Refused> {
        let ask: Ask = serde_json::from_value(arguments.clone()).map_err(Refused::host)?;
        let (device, name, _) = self
            .links
            .find(&ask.interface)
            .ok_or_else(|| no_interface(&ask.interface))?;
        let Some(ledger) = self.ledger(&device) else {
            return Err(Refused::host(format!(
                "no guest has connected to {} yet, or the process that serves it is an earlier \
                 daemon's, which tells nothing to this one until its guest connects again",
                name.as_str()
            )));
        };
        let records = ledger.dropped().map_err(Refused::host)?;
        answer(&ask.answer(name.as_str(), ledger.id(), records))
    }

    fn ledger(&self, device: &BackendPath) -> Option<&Ledger> {
        self.links.get(device)?.ledger.as_ref()
    }
}

fn answer(told: &impl Serialize) -> Result<Answer, Refused> {
    let told = serde_json::to_value(told).map_err(Refused::host)?;
    Ok(Answer::from(told))
}

fn no_interface(wanted: &str) -> Refused {
    Refused::host(format!(
        "there is no interface {wanted:?}: xen-netback status lists them"
    ))
}
