//! One VIF: what its queues share, and how they come to be.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU16, AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use broker::throttle::Throttle;
use ring_proto::DomId;
use ring_proto::netif::{Headroom, MulticastEdit, RxFeatures};

use crate::multicast::Multicast;
use crate::spec::{Change, FrontendFeatures, VifSpec};
use crate::tap::TapQueue;

/// What the queues of a VIF share.
#[derive(Debug)]
pub struct Vif {
    dom: DomId,
    mtu: u16,
    gso_floor: u16,
    frontend: FrontendFeatures,
    headroom: AtomicU16,
    /// Multicast that is not on the list is kept from the guest.
    filters: AtomicBool,
    multicast: Mutex<Multicast>,
    rate: Throttle,
    /// Queues whose guest has stopped receiving.
    stalled: AtomicU32,
}
