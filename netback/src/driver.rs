//! The broker's side of network interfaces: what to advertise, and what a worker needs to serve one.

mod governing;
mod telling;

use std::os::fd::{BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use broker::control::{self, Answer};
use broker::{Connection, Driver, Hypervisor, Refused};
use ring_proto::DomId;
use xenbus::{
    BackendPath, Class, Connects, ControlOffer, Key, LiveOffer, NetworkOffer, QueueOffer, Store,
};

use crate::config::Config;
use crate::features;
use crate::governor::Governor;
use crate::inquiry;
use crate::ledger::Ledger;
use crate::links::{Links, Told};
use crate::permit::permit;
use crate::policy::network::Network;
use crate::spec::{ControlSpec, FrontendFeatures, OfferedFeatures, QueueSpec, VifSpec};
use crate::tap::{Offload, Tap, TapError};
use crate::wish::Wish;

/// Network interfaces.
#[derive(Debug)]
pub struct NetDriver {
    config: Config,
    hypervisor: Hypervisor,
    links: Links,
    governor: Governor,
    /// Where its devices are, once it is known.
    own_domain: Option<DomId>,
}

impl NetDriver {
    /// Serves interfaces as `config` says, each governed by a policy.
    #[must_use]
    pub fn new(config: Config, hypervisor: Hypervisor, governor: Governor) -> Self {
        Self {
            governor,
            own_domain: None,
            links: Links::new(config.queue_length),
            config,
            hypervisor,
        }
    }

    /// In the order of [`crate::spec`].
    fn fds(
        &self,
        device: &BackendPath,
        tap: &Tap,
        spec: &VifSpec,
    ) -> Result<Vec<OwnedFd>, Refused> {
        let mut fds = Vec::with_capacity(3 * spec.queues.len() + 2);
        let devices = |fds: &mut Vec<OwnedFd>| {
            let events = self.hypervisor.event_channels(device.frontend);
            fds.push(events.map_err(Refused::host)?);
            fds.push(self.hypervisor.grants().map_err(Refused::host)?);
            Ok::<_, Refused>(())
        };
        for _ in &spec.queues {
            fds.push(tap.queue().map_err(Refused::host)?);
            devices(&mut fds)?;
        }
        if spec.control.is_some() {
            devices(&mut fds)?;
        }
        Ok(fds)
    }
}

impl Driver for NetDriver {
    fn class(&self) -> Class {
        Class::Vif
    }

    fn connects(&self) -> Connects {
        Connects::WhenConnected
    }

    fn starting(&mut self, store: &mut Store, own_domain: DomId) {
        self.take_over(store, own_domain);
    }

    fn advertise(
        &mut self,
        store: &mut Store,
        device: &BackendPath,
    ) -> Result<Vec<Key<'static>>, Refused> {
        permit(&self.config.acl, store, device)?;
        let wish = Wish::read(store, device)?.map_err(Refused::host)?;
        let governed = self.governor.govern(store, device, &wish)?;
        // The hotplug script, which runs at InitWait, looks for it.
        self.links.open(device, &wish)?;
        // Before anybody brings the interface up.
        self.enforce(device, &governed.policy)?;
        let mut keys = features::before_rings(self.config.offered);
        keys.extend(network_keys(governed.network.as_ref()));
        Ok(keys)
    }

    fn connect(&mut self, store: &mut Store, device: &BackendPath) -> Result<Connection, Refused> {
        permit(&self.config.acl, store, device)?;
        let wish = Wish::read(store, device)?.map_err(Refused::host)?;
        let offered = self.config.offered;
        let offer = NetworkOffer::read(store, device, offered.limits())?;
        let offer = offered.agreed(offer);
        let gso_floor = self.config.gso_floor;
        let governed = self.governor.govern(store, device, &wish)?;
        self.links.open(device, &wish)?;
        self.guard(device, &governed.policy)?;
        let link = self.links.open(device, &wish)?;
        link.told = Some(Told {
            was_heard: true,
            rate: governed.rate,
            policy: governed.policy.clone(),
            frontend: offer.live,
        });
        link.tap
            .set_offload(offload(&offer))
            .map_err(Refused::host)?;
        let name = link.tap.name().map_err(Refused::host)?;
        // The script may have set it to that of its bridge.
        let mtu = link.tap.mtu().map_err(Refused::host)?;
        let spec = VifSpec {
            backend: device.backend.raw(),
            domid: device.frontend.raw(),
            handle: device.devid,
            mac: wish.mac,
            mtu,
            gso_floor,
            queues: offer.queues.iter().map(queue).collect(),
            control: offer.control.map(control),
            frontend: frontend(&offer),
            offered: OfferedFeatures {
                gso: offered.gso(),
                multicast_control: offered.multicast_control,
            },
            rate: governed.rate,
            packet_rate: self.config.packet_rate,
            policy: governed.policy,
            name,
        };
        let tap = &self
            .links
            .get(device)
            .ok_or(Refused::host(TapError::Gone))?
            .tap;
        let mut fds = self.fds(device, tap, &spec)?;
        let ledger = Ledger::new(spec.queues.len()).map_err(Refused::host)?;
        fds.push(ledger.share().map_err(Refused::host)?);
        if let Some(link) = self.links.get_mut(device) {
            link.ledger = Some(ledger);
        }
        let summary = summary(&spec);
        Ok(Connection {
            spec: serde_json::to_value(&spec).map_err(Refused::host)?,
            fds,
            keys: Vec::new(),
            summary,
        })
    }

    fn connected(&mut self, device: &BackendPath) {
        self.links.plug(device, true);
    }

    fn adjust(
        &mut self,
        store: &mut Store,
        device: &BackendPath,
    ) -> Result<Vec<serde_json::Value>, Refused> {
        let link = self.links.get(device);
        if link.is_none_or(|link| link.told.is_none()) {
            return Ok(Vec::new());
        }
        let (rate, policy) = self.governed_still(store, device)?;
        let now = Told {
            was_heard: true,
            rate,
            policy: self.exchange(device, policy, Instant::now()),
            frontend: self
                .config
                .offered
                .agreed_live(LiveOffer::read(store, device)?),
        };
        let link = self.links.get_mut(device);
        let Some(told) = link.and_then(|link| link.told.as_mut()) else {
            return Ok(Vec::new());
        };
        let changes = told.changes_to(&now);
        *told = now;
        let values = changes.iter().map(serde_json::to_value);
        values.collect::<Result<_, _>>().map_err(Refused::host)
    }

    fn unheard(&mut self, device: &BackendPath) {
        let link = self.links.get_mut(device);
        if let Some(told) = link.and_then(|link| link.told.as_mut()) {
            told.was_heard = false;
        }
    }

    fn frontend_keys(&self) -> &'static [&'static str] {
        // A new headroom is told by state Reconfiguring.
        &[LiveOffer::MULTICAST_CONTROL]
    }

    fn watched(&self) -> Option<BorrowedFd<'_>> {
        self.governor.watched()
    }

    fn noticed(&mut self, now: Instant) {
        self.governor.noticed(now);
    }

    fn deadline(&self) -> Option<Instant> {
        self.governor.look_at()
    }

    fn due(&mut self, now: Instant) {
        self.governor.mend(now);
    }

    fn commands(&self) -> &'static [control::Command] {
        inquiry::COMMANDS
    }

    fn control(
        &mut self,
        store: &mut Store,
        request: &control::Request,
    ) -> Result<Answer, Refused> {
        match request.command.as_str() {
            inquiry::RELOAD => self.reload(store),
            inquiry::SHOW => self.show(store, &request.arguments),
            inquiry::DROPS => self.dropped(&request.arguments),
            other => Err(Refused::host(format!(
                "{other} is no command of interfaces"
            ))),
        }
    }

    fn closing(&mut self, device: &BackendPath) {
        self.links.plug(device, false);
        if let Some(link) = self.links.get_mut(device) {
            link.told = None;
        }
    }

    fn forgotten(&mut self, device: &BackendPath) {
        for name in self.links.remove(device) {
            self.release(&name);
        }
    }
}

/// What the hotplug script is told, empty where there is nothing to tell: another policy may have told
/// something of the same device before.
fn network_keys(network: Option<&Network>) -> Vec<Key<'static>> {
    let said = network.map(Network::keys).unwrap_or_default();
    let value = |key| said.iter().find(|(name, _)| *name == key);
    let keys = Network::KEYS.into_iter();
    keys.map(|key| {
        (
            key,
            value(key)
                .map(|(_, value)| value.clone())
                .unwrap_or_default(),
        )
    })
    .collect()
}

/// What the kernel may leave undone: the least that both IP versions agree to, since a tap has one
/// switch for the checksums of both. The worker completes what one of them does not take.
const fn offload(offer: &NetworkOffer) -> Offload {
    let checksum = offer.csum_ipv4 || offer.csum_ipv6;
    Offload {
        checksum,
        tcpv4: offer.sg && offer.gso_tcpv4 && offer.csum_ipv4,
        tcpv6: offer.sg && offer.gso_tcpv6 && offer.csum_ipv6,
    }
}

fn queue(offer: &QueueOffer) -> QueueSpec {
    QueueSpec {
        tx_ref: offer.tx_ref.raw(),
        rx_ref: offer.rx_ref.raw(),
        tx_port: offer.tx_port,
        rx_port: offer.rx_port,
    }
}

const fn control(offer: ControlOffer) -> ControlSpec {
    ControlSpec {
        ring_ref: offer.ring_ref.raw(),
        port: offer.port,
    }
}

const fn frontend(offer: &NetworkOffer) -> FrontendFeatures {
    FrontendFeatures {
        sg: offer.sg,
        gso_tcpv4: offer.sg && offer.gso_tcpv4 && offer.csum_ipv4,
        gso_tcpv6: offer.sg && offer.gso_tcpv6 && offer.csum_ipv6,
        csum_ipv4: offer.csum_ipv4,
        csum_ipv6: offer.csum_ipv6,
        rx_notify: offer.rx_notify,
        xdp_headroom: offer.live.xdp_headroom,
        multicast_control: offer.live.multicast_control,
    }
}

fn summary(spec: &VifSpec) -> String {
    let [a, b, c, d, e, f] = spec.mac;
    let mut text = format!(
        "{:?}, {a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{f:02x}, MTU {}, {} queues",
        spec.name,
        spec.mtu,
        spec.queues.len()
    );
    let features = spec.frontend;
    for (on, name) in [
        (features.sg, "scatter-gather"),
        (features.gso_tcpv4, "TSO"),
        (features.gso_tcpv6, "TSO6"),
        (features.csum_ipv4 || features.csum_ipv6, "checksum offload"),
        (spec.control.is_some(), "control ring"),
        (spec.rate.is_some(), "limited rate"),
    ] {
        if on {
            text += ", ";
            text += name;
        }
    }
    text
}

impl From<TapError> for Refused {
    fn from(error: TapError) -> Self {
        match error {
            TapError::Leaving(_) => Self::Busy {
                why: error.to_string(),
                retry_after: LEAVING_PAUSE,
            },
            error => Self::host(error),
        }
    }
}

/// When to look again whether a tap has left: its removal takes some tens of milliseconds.
const LEAVING_PAUSE: Duration = Duration::from_millis(10);
