//! What the event-channel client and the simulated hypervisor say to each other.
//!
//! One datagram is a list of native-endian 32-bit words. A request starts with one of the numbers
//! below; its answer starts with 0 or an errno, followed by the values named here. Grants use the
//! numbers from 0x200 on, domains those from 0x300 on.

/// The socket's name in a machine's directory.
pub const SOCKET: &str = "hypervisor.sock";

/// Most words in one datagram.
pub const MAX_WORDS: usize = 16 * 1024;

/// `[BIND, domid, remote port]` → local port; descriptors: ours, the peer's.
pub const BIND: u32 = 0x101;
/// `[BIND_UNBOUND, remote domid]` → local port; descriptors: ours, the peer's.
pub const BIND_UNBOUND: u32 = 0x102;
/// `[BIND_VIRQ, virq]` → local port; descriptors: ours, the peer's (which nobody reads).
pub const BIND_VIRQ: u32 = 0x103;
/// `[UNBIND, local port]` → nothing.
pub const UNBIND: u32 = 0x104;
/// `[RESTRICT, domid]` → nothing.
pub const RESTRICT: u32 = 0x105;
/// `[PORTS]` → the local ports that this connection has bound.
pub const PORTS: u32 = 0x106;
/// `[ENDS, local port]` → local port; descriptors: ours, the peer's.
pub const ENDS: u32 = 0x107;
/// `[STRAY_UNMASK, local port]`, no answer: a port was unmasked that is not bound.
pub const STRAY_UNMASK: u32 = 0x108;
