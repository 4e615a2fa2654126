//! Xen block backend in user space: serves guests' virtual disks (VBDs).
//!
//! The same binary is two things. `serve` is the **broker**: it watches xenstore, opens images,
//! and starts one **worker** per guest, which it re-executes itself as. The worker touches guest
//! memory and disks, and uses nothing but the descriptors that it was handed.
//!
//! The walk of a read, and where it can turn back (numbers):
//!
//! ```text
//! evtchn port readable ─► queue::Queue::run ─► intake: RawRequest::take_from   the only fetch
//!   Request::parse ─► Request | Reject ⇒ answered (1)
//!   data::Arena::take ─► private pages, or it waits for them (2)
//!   data::DataPath::stage ─► memcpy of a page that stays mapped, or GRANT_COPY of the whole sweep
//!                            a page that cannot be copied ⇒ answered (3)
//!   engine::Engine::submit ─► one disk operation
//!   outcome: completion ─► data into the guest ─► BackRing::respond
//!   publish once per pass ─► notify if the guest asked ─► rearm, look again, sleep in the engine
//! ```
//!
//! - [`cli`], [`serve`], [`config`]: the command line, the commands, what an administrator decides
//! - broker's side: [`driver`] advertises and connects a disk, as a toolstack's [`wish`] and the
//!   [`features`] have it; [`image`] opens and locks what is behind it
//! - [`spec`]: what the broker tells a worker about one VBD
//! - worker's side: [`broker::worker`] takes orders, [`vbd`] makes a device of one, [`queue`] is one
//!   ring of it, [`data`] moves pages, [`engine`] does disk I/O, [`disk`] is what it does it to
//! - [`metrics`]: what a queue counts

pub mod cli;
pub mod config;
pub mod data;
pub mod disk;
pub mod driver;
pub mod engine;
pub mod features;
pub mod image;
pub mod metrics;
pub mod queue;
pub mod serve;
pub mod spec;
pub mod vbd;
pub mod wish;
