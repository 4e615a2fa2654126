//! Xen grants: the pages that a guest lets a backend use.
//!
//! A guest writes permissions into its grant table and tells the backend their indices
//! ([`GrantRef`](ring_proto::GrantRef)). A backend then either *maps* such pages, for memory that
//! it uses for long (rings, persistent grants), or *copies* between them and its own memory, many
//! pieces per call (request data, indirect descriptors).
//!
//! - [`handle`]: [`Gntdev`], the one type callers use, over either hypervisor
//! - [`mapping`]: [`Mapping`], guest pages in our address space; dropping it unmaps
//! - [`pages`]: [`LocalPages`], private memory that grants are copied to and that disks read and write
//! - [`alloc`]: [`Gntalloc`], where such memory comes from that is cheaper to copy
//! - [`copy`]: [`CopySegment`], one piece of a batched copy, with a status of its own
//! - [`status`], [`error`]: what the hypervisor says about one grant; why a whole call failed
//! - `device`, `sys`: the `/dev/xen/gntdev` device, its ioctls, and all raw memory
//! - `sim`: the simulated hypervisor's client (feature `sim`)
//!
//! Nobody ever gets a `&[u8]` of memory that a guest can write, nor of memory that a disk may be
//! writing: everything is copied in or out, or reached as atomic words.

pub mod alloc;
pub mod copy;
mod device;
pub mod error;
pub mod handle;
pub mod mapping;
pub mod pages;
#[cfg(feature = "sim")]
pub mod sim;
pub mod status;
mod sys;

pub use alloc::Gntalloc;
pub use copy::{CopyDirection, CopySegment};
pub use error::GrantError;
pub use handle::{Gntdev, Kind};
pub use mapping::{Access, Mapping};
pub use pages::LocalPages;
pub use status::GrantStatus;

/// Bytes in one granted page. Grants are in units of 4 KiB on every architecture (`XEN_PAGE_SIZE`),
/// whatever the page size of the kernel.
pub const PAGE_SIZE: usize = 4096;
