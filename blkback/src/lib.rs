//! Xen block backend in user space.
