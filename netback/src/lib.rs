//! Xen network backend in user space: serves guests' virtual interfaces (VIFs) through tap devices.
//!
//! Directions are the guest's: it *transmits* what goes to the tap, and *receives* what comes from
//! it. The walk of a transmitted packet, and where it can turn back (numbers):
//!
//! ```text
//! evtchn port readable ─► queue::Queue::run ─► TxRing::take       each slot is read once
//!   Assembler ─► TxPacket | BadPacket ⇒ answered (1)
//!   one GRANT_COPY for all packets of the sweep ─► private memory
//!                              a page that cannot be copied ⇒ answered (2)
//!   headers::Transport::parse ─► vnet::from_guest ─► virtio header
//!                              headers that are not what was said ⇒ answered (3)
//!   write to the tap ─► TxRing::settle ─► publish once ─► notify if the guest asked
//! ```
//!
//! Receiving is the mirror, and begins at the guest's end: a frame leaves the tap only when the guest
//! has posted buffers for the longest that there may be.
//!
//! - [`cli`], [`serve`], [`config`]: the command line, the commands, what an administrator decides
//! - broker's side: [`driver`] advertises and connects an interface, as a toolstack's [`wish`] and
//!   the [`features`] have it
//! - [`spec`]: what the broker tells a worker about one VIF
//! - [`tap`]: the device that the broker owns, and the queues of it that a worker gets; `links` has
//!   those of all interfaces
//! - worker's side: [`vif`] makes a device of a description, whose [`part`]s have a thread each:
//!   [`queue`] is one queue, [`control`] the control ring; [`steering`] is how frames get to the queue
//!   that the guest wants them on
//! - `carrier`: when the queues of a VIF take its carrier away
//! - `sleep`: how their threads sleep; `news`: how they learn of changes
//! - `limits`: how much may pass
//! - [`scratch`]: the private memory that frames pass through
//! - [`headers`], [`vnet`], [`multicast`], [`hash`]: what is known about a frame
//! - [`inquiry`], [`drops`]: what a running daemon can be asked; `trial` judges frames that are only
//!   thought of
//! - [`policy`]: what an interface may send and receive; its [`policy::language`] is what it is
//!   written in, and [`filter`] judges frames by it;
//!   [`enforce`] has the kernel do the same
//! - [`metrics`]: what a queue counts; [`ledger`] is where the broker sees it, with the frames that
//!   were dropped last; `samples`: what is logged of them

mod carrier;
pub mod cli;
pub mod config;
pub mod control;
pub mod driver;
pub mod drops;
pub mod enforce;
pub mod features;
pub mod filter;
pub mod governor;
pub mod hash;
pub mod headers;
pub mod inquiry;
pub mod ledger;
mod limits;
mod links;
pub mod metrics;
pub mod multicast;
mod news;
pub mod part;
mod permit;
pub mod policy;
pub mod queue;
mod samples;
pub mod scratch;
pub mod serve;
mod sleep;
pub mod spec;
pub mod steering;
pub mod tap;
pub mod trial;
pub mod vif;
pub mod vnet;
pub mod wish;
