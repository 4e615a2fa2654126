//! The ring under any start index, size and order of moves, and with two threads.
#![cfg(not(loom))]
#![expect(
    clippy::unwrap_used,
    reason = "helpers of tests, which clippy does not see as such"
)]

mod cases;
mod properties;
mod threads;

use std::sync::Arc;
use std::sync::atomic::AtomicU32;

use ring_proto::{BackRing, FrontRing, RingShape};

pub(crate) type Memory = Arc<Vec<AtomicU32>>;

pub(crate) const REQ_PROD: usize = 0;
pub(crate) const REQ_EVENT: usize = 1;
pub(crate) const RSP_PROD: usize = 2;
pub(crate) const RSP_EVENT: usize = 3;
pub(crate) const SLOTS_AT: usize = 16;

pub(crate) fn memory(shape: RingShape) -> Memory {
    Arc::new(
        (0..shape.words())
            .map(|_| AtomicU32::new(0xa5a5_a5a5))
            .collect(),
    )
}

pub(crate) fn pair(
    slots: u32,
    stride: usize,
    start: u32,
) -> (FrontRing<Memory>, BackRing<Memory>, Memory) {
    let shape = RingShape::new(slots, stride).unwrap();
    let memory = memory(shape);
    let front = FrontRing::init_at(Arc::clone(&memory), shape, start).unwrap();
    let back = BackRing::attach(Arc::clone(&memory), shape).unwrap();
    (front, back, memory)
}
