//! One VIF: what its queues share, and how they come to be.

use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, AtomicU16, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use broker::throttle::{Rate, Throttle};
use broker::worker::{Backend, DeviceError, Recruit, Reporter};
use evtchn::Evtchn;
use gntdev::{Gntdev, GrantError};
use ring_proto::DomId;
use ring_proto::netif::{Gso, Headroom, MulticastEdit, RxFeatures};
use tracing::warn;

use crate::carrier::Carrier;
use crate::filter::{Filter, Reason, Verdict};
use crate::ledger::{Clerk, Denial, Page};
use crate::limits::{Limits, MIN_BURST, packet_rate};
use crate::multicast::{BROADCAST, Multicast, is_group};
use crate::news::News;
use crate::part::{self, Handles, Part};
use crate::queue::Steer;
use crate::samples::{Glimpse, Samples};
use crate::scratch::{Pool, Scratch};
use crate::spec::{Change, FrontendFeatures, OfferedFeatures, RateSpec, VifSpec};
use crate::steering::Steering;
use crate::tap::TapQueue;

/// What the queues of a VIF share.
#[derive(Debug)]
pub struct Vif {
    dom: DomId,
    mtu: u16,
    gso_floor: u16,
    frontend: FrontendFeatures,
    offered: OfferedFeatures,
    headroom: AtomicU16,
    /// Multicast that is not on the list is kept from the guest.
    filters: AtomicBool,
    multicast: Mutex<Multicast>,
    rate: Throttle,
    packet_rate: Throttle,
    /// What the policy says.
    filter: News<Filter>,
    limits_out: Limits,
    limits_in: Limits,
    /// How often any of these rates was set.
    rates_set: AtomicU32,
    carrier: Carrier,
    /// Memory that frames pass through.
    pool: Arc<Pool>,
    clerk: Clerk,
    samples: Samples,
}

impl Vif {
    /// As the broker describes it.
    #[must_use]
    pub fn new(spec: &VifSpec, pool: Arc<Pool>, clerk: Clerk, now: Instant) -> Self {
        Self {
            dom: spec.dom(),
            mtu: spec.mtu,
            gso_floor: spec.gso_floor,
            frontend: spec.frontend,
            offered: spec.offered,
            headroom: AtomicU16::new(spec.frontend.xdp_headroom),
            filters: AtomicBool::new(spec.frontend.multicast_control),
            multicast: Mutex::default(),
            rate: Throttle::new(spec.rate.and_then(rate), now),
            packet_rate: Throttle::new(packet_rate(spec.packet_rate), now),
            filter: News::new(Filter::new(&spec.policy, now)),
            limits_out: Limits::new(spec.policy.limit_out, now),
            limits_in: Limits::new(spec.policy.limit_in, now),
            rates_set: AtomicU32::new(0),
            carrier: Carrier::default(),
            pool,
            clerk,
            samples: Samples::new(now),
        }
    }

    /// Memory for frames, until the value is dropped.
    ///
    /// # Errors
    /// The host has none left.
    pub fn lend(&self, now: Duration) -> Result<Scratch, GrantError> {
        self.pool.lend(now)
    }

    /// Gives back what memory for frames nobody has used for a while.
    pub fn tidy(&self, now: Duration) {
        self.pool.tidy(now);
    }

    /// The guest.
    #[must_use]
    pub const fn dom(&self) -> DomId {
        self.dom
    }

    /// Bytes of an IP packet that the interface takes.
    #[must_use]
    pub fn mtu(&self) -> u32 {
        self.mtu.into()
    }

    /// Bytes of the longest frame that the guest may transmit, or have a packet cut into.
    #[must_use]
    pub fn max_frame(&self) -> u32 {
        self.mtu() + HEADERS
    }

    /// Fewest bytes in the pieces that the guest may have a packet cut into.
    #[must_use]
    pub const fn gso_floor(&self) -> u16 {
        self.gso_floor
    }

    /// May the guest transmit packets that are to be cut up?
    #[must_use]
    pub const fn takes_gso(&self) -> bool {
        self.offered.gso
    }

    /// What frames for the guest may be like, now.
    #[must_use]
    pub fn rx_features(&self) -> RxFeatures {
        let headroom = self.headroom.load(Ordering::Relaxed);
        RxFeatures {
            sg: self.frontend.sg,
            blank_v4: self.frontend.csum_ipv4,
            blank_v6: self.frontend.csum_ipv6,
            gso_v4: self.frontend.gso_tcpv4,
            gso_v6: self.frontend.gso_tcpv6,
            // A queue knows.
            hash: false,
            headroom: Headroom::new(headroom.into()).unwrap_or(Headroom::NONE),
        }
    }

    /// Does the frontend tell when it has posted buffers?
    #[must_use]
    pub const fn tells_of_buffers(&self) -> bool {
        self.frontend.rx_notify
    }

    /// Is a frame that starts with `head` for the guest, as far as multicast goes?
    #[must_use]
    pub fn hears(&self, head: &[u8]) -> bool {
        let Some(&address) = head.first_chunk::<6>() else {
            return true;
        };
        !self.filters.load(Ordering::Relaxed)
            || !is_group(address)
            || address == BROADCAST
            || self.multicast().has(address)
    }

    /// The guest changes its multicast list; false if it may not.
    #[must_use]
    pub fn edit_multicast(&self, edit: MulticastEdit) -> bool {
        self.offered.multicast_control && self.multicast().edit(edit)
    }

    /// The guest has transmitted a packet of so many bytes, which may be to be cut up: when it may
    /// transmit again, if not now (NET-11).
    #[must_use]
    pub fn charge_tx(&self, bytes: u16, gso: Option<Gso>) -> Option<Instant> {
        // In a PV dom0, telling the time is a system call.
        let unlimited = !self.rate.is_limited() && !self.packet_rate.is_limited();
        if unlimited && !self.limits_out.is_limited() {
            return None;
        }
        let now = Instant::now();
        let packets = gso.map_or(1, |gso| bytes.div_ceil(gso.size.get()));
        let waits = [
            self.rate.charge(bytes.into(), now),
            self.packet_rate.charge(packets.into(), now),
            self.limits_out.charge(bytes.into(), packets.into(), now),
        ];
        waits.into_iter().flatten().max()
    }

    /// The guest has received so much: when it may receive again, if not now.
    #[must_use]
    pub fn charge_rx(&self, bytes: u64, packets: u64) -> Option<Instant> {
        if !self.limits_in.is_limited() {
            return None;
        }
        self.limits_in.charge(bytes, packets, Instant::now())
    }

    /// Another number whenever a rate was set: who was held back by the old one may not be any more.
    pub(crate) fn rates_set(&self) -> u32 {
        self.rates_set.load(Ordering::Acquire)
    }

    /// What the policy makes of a frame, now.
    pub(crate) fn filter(&self) -> (u32, Arc<Filter>) {
        self.filter.now()
    }

    /// The same, if it is another one than `seen`.
    pub(crate) fn filter_since(&self, seen: u32) -> Option<(u32, Arc<Filter>)> {
        self.filter.since(seen)
    }

    /// What a queue counts where the broker sees it.
    #[must_use]
    pub fn page(&self, queue: u32) -> Page {
        self.clerk
            .page(usize::try_from(queue).unwrap_or(usize::MAX))
    }

    /// Notes what `filter` has decided about a frame.
    ///
    /// # Errors
    /// The reason to drop it.
    pub(crate) fn note(
        &self,
        filter: &Filter,
        verdict: Verdict,
        seen: Glimpse<'_>,
        page: &mut Page,
        now: impl Fn() -> Instant,
    ) -> Result<(), Reason> {
        if let Some(rule) = verdict.rule() {
            self.clerk.count_rule(rule);
            if filter.logs(rule) {
                self.samples.matched(rule, verdict.passes(), seen, now());
            }
        }
        let Verdict::Drop(reason, rule) = verdict else {
            return Ok(());
        };
        let denial = Denial {
            direction: seen.direction,
            reason,
            rule,
            len: seen.len,
        };
        page.remember(denial, seen.head);
        self.samples.dropped(denial, seen.head, now());
        Err(reason)
    }

    /// A queue's guest has stopped receiving.
    pub(crate) fn note_stalled(&self, tap: &TapQueue) {
        if self.carrier.note_stalled(|on| plug(tap, on)) {
            warn!("the guest does not receive; its carrier is off until it does");
        }
    }

    /// It receives again.
    pub(crate) fn note_flowing(&self, tap: &TapQueue) {
        self.carrier.note_flowing(|on| plug(tap, on));
    }

    /// A queue ends.
    pub(crate) fn note_ended(&self, tap: &TapQueue) {
        // A device that is gone has no carrier.
        self.carrier.note_ended(|on| drop(tap.set_carrier(on)));
    }

    /// Takes over what has changed.
    pub fn change(&self, change: &Change) {
        match change {
            Change::Rate(spec) => {
                self.rate.set(spec.and_then(rate));
                self.rates_set.fetch_add(1, Ordering::Release);
            }
            Change::MulticastControl(on) => self.filters.store(*on, Ordering::Relaxed),
            Change::XdpHeadroom(bytes) => self.headroom.store(*bytes, Ordering::Relaxed),
            Change::Policy(policy) => {
                let before = self.filter.now().1.rules();
                self.filter.say(Filter::new(policy, Instant::now()));
                self.clerk.forget_rules(before);
                self.limits_out.set(policy.limit_out);
                self.limits_in.set(policy.limit_in);
                self.rates_set.fetch_add(1, Ordering::Release);
            }
        }
    }

    fn multicast(&self) -> std::sync::MutexGuard<'_, Multicast> {
        self.multicast
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

fn plug(tap: &TapQueue, on: bool) {
    if let Err(error) = tap.set_carrier(on) {
        warn!(%error, "the carrier stays as it is");
    }
}

/// xenstore's `rate`, with Linux's burst (`xenvif_set_credit`... `credit_bytes`, at least 128 KiB).
fn rate(spec: RateSpec) -> Option<Rate> {
    let interval = Duration::from_micros(spec.interval_us);
    Rate::new(spec.bytes, interval, MIN_BURST)
}

/// An Ethernet header and a VLAN tag, which the MTU does not count.
const HEADERS: u32 = 18;

/// The VIFs of one guest.
#[derive(Debug)]
pub struct Vifs {
    kind: evtchn::Kind,
    /// Those that are served, by their handles.
    serving: HashMap<u32, Arc<Vif>>,
    /// Memory that their frames pass through; made with the first of them.
    pool: Option<Arc<Pool>>,
}

/// All descriptors of a VIF.
#[derive(Debug)]
struct Adopted {
    queues: Vec<(TapQueue, Handles)>,
    control: Option<Handles>,
    clerk: Clerk,
}

impl Vifs {
    /// Takes descriptors of this kind.
    #[must_use]
    pub fn new(kind: evtchn::Kind) -> Self {
        Self {
            kind,
            serving: HashMap::new(),
            pool: None,
        }
    }

    fn pool(&mut self, spec: &VifSpec) -> Arc<Pool> {
        let own = match self.kind {
            evtchn::Kind::Xen => Some(DomId::new(spec.backend)),
            #[cfg(feature = "sim")]
            evtchn::Kind::Sim => None,
        };
        let pool = self.pool.get_or_insert_with(|| Arc::new(Pool::new(own)));
        Arc::clone(pool)
    }

    fn adopt(&self, fds: Vec<OwnedFd>, spec: &VifSpec) -> Result<Adopted, DeviceError> {
        let (got, queues) = (fds.len(), spec.queues.len());
        let expected = 3 * queues + 2 * usize::from(spec.control.is_some()) + 1;
        if got != expected || queues == 0 {
            return Err(DeviceError::host(format!(
                "{got} of {expected} descriptors came: this guest's worker may open too few (too \
                 many open files; raise LimitNOFILE= in the unit, or ulimit -n)"
            )));
        }
        let mut fds = fds.into_iter();
        let board = fds.next_back();
        let board = board.ok_or_else(|| DeviceError::host("no descriptors came"))?;
        let clerk = Clerk::adopt(&board, queues).map_err(DeviceError::host)?;
        let mut adopted = Adopted {
            queues: Vec::with_capacity(queues),
            control: None,
            clerk,
        };
        for _ in 0..queues {
            if let (Some(tap), Some(events), Some(grants)) = (fds.next(), fds.next(), fds.next()) {
                let tap = TapQueue::adopt(tap);
                adopted.queues.push((tap, self.handles(events, grants)?));
            }
        }
        if let (Some(events), Some(grants)) = (fds.next(), fds.next()) {
            adopted.control = Some(self.handles(events, grants)?);
        }
        Ok(adopted)
    }

    fn handles(&self, events: OwnedFd, grants: OwnedFd) -> Result<Handles, DeviceError> {
        Ok(Handles {
            events: Evtchn::adopt(self.kind, events).map_err(DeviceError::host)?,
            grants: Gntdev::adopt(grants_kind(self.kind), grants).map_err(DeviceError::host)?,
        })
    }
}

impl Backend for Vifs {
    type Queue = Part;

    fn open(
        &mut self,
        spec: serde_json::Value,
        fds: Vec<OwnedFd>,
        reporter: &Reporter,
    ) -> Result<Vec<Recruit<Part>>, DeviceError> {
        let spec: VifSpec = serde_json::from_value(spec).map_err(|err| {
            DeviceError::host(format!("the broker's description is malformed: {err}"))
        })?;
        let adopted = self.adopt(fds, &spec)?;
        let pool = self.pool(&spec);
        let vif = Arc::new(Vif::new(&spec, pool, adopted.clerk, Instant::now()));
        let count = u32::try_from(spec.queues.len()).unwrap_or(u32::MAX);
        let steering = spec.control.map(|_| Steering::new(count));
        let steering = steering.transpose().map_err(DeviceError::host)?;
        let steering = steering.map(Arc::new);
        let mut parts = Vec::with_capacity(spec.queues.len() + 1);
        for ((index, handles), rings) in (0..).zip(adopted.queues).zip(&spec.queues) {
            let steer = steering.clone().map(|all| Steer::new(all, index));
            parts.push(part::queue(
                &spec,
                index,
                handles,
                *rings,
                Arc::clone(&vif),
                steer,
            ));
        }
        if let (Some(handles), Some(ring), Some(steering)) =
            (adopted.control, spec.control, steering)
        {
            parts.push(part::control(&spec, handles, ring, count, steering));
        }
        self.serving.insert(reporter.device(), vif);
        Ok(parts)
    }

    fn adjust(&mut self, device: u32, change: serde_json::Value) -> Result<(), DeviceError> {
        let change: Change = serde_json::from_value(change)
            .map_err(|err| DeviceError::host(format!("the broker's change is malformed: {err}")))?;
        if let Some(vif) = self.serving.get(&device) {
            vif.change(&change);
        }
        Ok(())
    }

    fn closed(&mut self, device: u32) {
        self.serving.remove(&device);
    }
}

const fn grants_kind(kind: evtchn::Kind) -> gntdev::Kind {
    match kind {
        evtchn::Kind::Xen => gntdev::Kind::Xen,
        #[cfg(feature = "sim")]
        evtchn::Kind::Sim => gntdev::Kind::Sim,
    }
}
