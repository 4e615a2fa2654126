//! Xen event channels: the /dev/xen/evtchn device, and a simulated one.
