//! Everything unsafe of this crate: ioctls and raw memory.

pub(crate) mod alloc;
pub(crate) mod copy;
pub(crate) mod ioctl;
pub(crate) mod memory;
