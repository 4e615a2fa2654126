//! From what the broker sent to a running queue.

use std::num::NonZeroU16;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use broker::message::Blame;
use evtchn::{Bell, Evtchn, EvtchnError, RemotePort};
use gntdev::{Access, Gntdev, GrantError, Mapping};
use ring_proto::netif::{RxRing, TxOffer, TxRing};
use ring_proto::{AttachError, GrantRef};

use super::nap::Nap;
use super::rx::Rx;
use super::tx::Tx;
use super::{Queue, Steer};
use crate::ledger::Page;
use crate::metrics::Counters;
use crate::spec::QueueSpec;
use crate::tap::TapQueue;
use crate::vif::Vif;

/// Everything that one queue is made of.
#[derive(Debug)]
pub struct QueueSetup {
    /// Its part of the tap.
    pub tap: TapQueue,
    /// Event channels, restricted to the guest.
    pub events: Evtchn,
    /// Grants.
    pub grants: Gntdev,
    /// Where the frontend put the rings.
    pub rings: QueueSpec,
    /// What it shares with the VIF's other queues.
    pub vif: Arc<Vif>,
    /// Where it counts.
    pub page: Page,
    /// If the guest has a control ring.
    pub steer: Option<Steer>,
    /// Written once when the queues shall end.
    pub stop: Arc<OwnedFd>,
}

/// Why a queue could not be connected.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// A ring page cannot be mapped.
    #[error("{ring} ring, page {gref}: {source}")]
    Map {
        /// Which ring.
        ring: &'static str,
        /// Its grant reference.
        gref: u32,
        /// Why not.
        source: GrantError,
    },
    /// A ring is in no state that a backend can join.
    #[error("{ring} ring cannot be joined: {source}")]
    Attach {
        /// Which ring.
        ring: &'static str,
        /// Why not.
        source: AttachError,
    },
    /// An event channel cannot be bound.
    #[error("event channel: {0}")]
    Bind(#[from] EvtchnError),
    /// There is no memory for private pages.
    #[error("private pages: {0}")]
    Pages(#[from] GrantError),
}

impl ConnectError {
    /// Who has to mend it.
    #[must_use]
    pub const fn blame(&self) -> Blame {
        let guest = match self {
            Self::Attach { .. } => true,
            Self::Map { source, .. } => source.blames_guest(),
            Self::Bind(source) => matches!(
                source,
                EvtchnError::Stale { .. } | EvtchnError::NoDomain { .. }
            ),
            Self::Pages(_) => false,
        };
        if guest { Blame::Guest } else { Blame::Host }
    }
}

impl Queue {
    /// Maps the rings and binds the ports.
    ///
    /// # Errors
    /// [`ConnectError`]; everything that was had by then is given back.
    pub fn connect(setup: QueueSetup) -> Result<Self, ConnectError> {
        let QueueSetup {
            tap,
            events,
            grants,
            rings,
            vif,
            page,
            steer,
            stop,
        } = setup;
        let dom = vif.dom();
        let grants = Arc::new(grants);
        let map = |ring, gref| -> Result<Mapping, ConnectError> {
            grants
                .map(dom, &[GrantRef::new(gref)], Access::ReadWrite)
                .map_err(|source| ConnectError::Map { ring, gref, source })
        };
        let attach = |ring| move |source| ConnectError::Attach { ring, source };
        let tx = TxRing::attach(map(TX, rings.tx_ref)?, offer(&vif)).map_err(attach(TX))?;
        let rx = RxRing::attach(map(RX, rings.rx_ref)?).map_err(attach(RX))?;
        let tx = Tx::new(tx, Arc::clone(&grants), Arc::clone(&vif));
        let rx = Rx::new(rx, Arc::clone(&grants), Arc::clone(&vif), steer);
        let ports = [rings.tx_port, rings.rx_port].map(RemotePort);
        let bell = Bell::bind(events, dom, &ports)?;
        Ok(Self {
            tx,
            rx,
            tap,
            filter: vif.filter(),
            page,
            rates: vif.rates_set(),
            vif,
            bell,
            stop,
            nap: Nap::default(),
            counters: Counters::default(),
        })
    }
}

/// What the guest may transmit.
fn offer(vif: &Vif) -> TxOffer {
    TxOffer {
        max_frame: vif.max_frame(),
        gso_v4: vif.takes_gso(),
        gso_v6: vif.takes_gso(),
        gso_floor: NonZeroU16::new(vif.gso_floor()).unwrap_or(NonZeroU16::MIN),
    }
}

const TX: &str = "transmit";
const RX: &str = "receive";
