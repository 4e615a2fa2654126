//! What guests and the toolstack say to the simulated hypervisor.
//!
//! The datagrams are those of [`evtchn::sim::wire`] and [`gntdev::sim::wire`]; these are the
//! requests that no backend makes.

/// `[CREATE, frames, grant-table frames]` → domid; descriptor: memory.
pub const CREATE: u32 = 0x301;
/// `[DESTROY, domid]` → pages still mapped by backends.
pub const DESTROY: u32 = 0x302;
/// `[ALLOC_PORT, domid, remote domid]` → port; descriptors: ours, the peer's.
pub const ALLOC_PORT: u32 = 0x303;
/// `[CLOSE_PORT, domid, port]` → nothing.
pub const CLOSE_PORT: u32 = 0x304;
/// `[VIOLATIONS]` → length in bytes, then one line of text each.
pub const VIOLATIONS: u32 = 0x305;
/// `[DOMAINS]` → for each: domid, 1 if alive, mapped pages, open ports.
pub const DOMAINS: u32 = 0x306;
/// `[FAIL_MAP, domid, n, status]` → nothing: the n-th page mapped from now on fails.
pub const FAIL_MAP: u32 = 0x307;
/// `[FAIL_COPY, domid, n, status]` → nothing: the n-th segment copied from now on fails.
pub const FAIL_COPY: u32 = 0x308;
/// `[ABANDONED]` → pages that were unmapped because their connection broke off.
pub const ABANDONED: u32 = 0x309;
/// `[COPIES, domid]` → segments copied so far, modulo 2^32.
pub const COPIES: u32 = 0x30a;
