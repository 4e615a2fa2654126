//! A policy as the kernel enforces it, whatever becomes of the worker.
//!
//! ```text
//! VifPolicy ─► guards ─┐
//!           ─► cells ─► merge ─► rules ─► Table ─► one script ─► Kernel: nft -f -
//!           ─► host ───┘                                    └──► counters, installed
//!           ─► ports: flags of the bridge port, when there is one
//! ```
//!
//! Each interface has a `table netdev xb-NAME` with its guards and, if no rule follows flows, its
//! rules; the hooks are those of the device itself, so it does not matter whether the tap is bridged,
//! routed or in Open vSwitch. Rules that follow flows need conntrack, which devices have not: then all
//! rules of the interface are in tables that such interfaces share, one for bridges and one for
//! routing. What an interface gets is one transaction, so at no time is there half of it, and none.
//!
//! Hooks belong to a device by its name. Until Linux 6.16 they stay when it is renamed; since then they
//! let go of it, and take hold of it again when it has its name back (seen on 6.1 and 6.18). So who
//! renames an interface whose frames are judged has to install for the new name.
//!
//! Every frame that is judged is counted under one name: the reason for which it was dropped, the rule
//! that decided, `default`, or `pass` for what rules do not judge.

mod cells;
mod counters;
mod guards;
mod host;
mod kernel;
mod listing;
mod merge;
mod netdev;
mod nft;
mod ports;
mod program;
mod rules;
mod script;
mod shared;
mod surroundings;
mod table;
mod watch;

pub use counters::{Count, Counters};
pub use kernel::Kernel;
pub use nft::NftError;
pub use ports::{PortError, guard_port};
pub use watch::Watch;

#[cfg(test)]
mod tests;
