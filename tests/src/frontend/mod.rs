//! Frontends that follow a script: guests of the simulated machine, without a guest kernel.
//!
//! The honest one does what Linux `xen-blkfront` does, in the same order, and is as distrustful: every
//! response is checked as Linux 5.16 and later check it, and what Linux would disable the device for
//! is an error here ([`Misbehaviour`], named after the rules FE-01 to FE-23 of the threat catalogue).
//! The hostile ones do what no frontend should; see [`hostile`].
//!
//! Disks, beside what is for all devices:
//!
//! - [`shape`]: what a connection looks like: layout, queues, ring pages, persistent or not
//! - [`keys`]: what frontends write to xenstore and what they read there
//! - [`walk`]: waiting for the other side's state
//! - [`buffers`]: pages and their grants
//! - [`queue`]: one ring: requests out, responses in, checked
//! - [`device`]: a device of any kind, from Initialising to Closed
//! - [`blkfront`]: a disk, connected
//! - [`model`]: what the disk must hold
//! - [`load`]: verified random requests at a depth
//!
//! Network interfaces have a folder of their own: [`netfront`].

pub mod blkfront;
pub mod buffers;
pub mod device;
pub mod hostile;
pub mod keys;
pub mod load;
pub mod misbehaviour;
pub mod model;
pub mod netfront;
pub mod queue;
pub mod shape;
pub mod walk;

pub use blkfront::Blkfront;
pub use device::Device;
pub use load::{Load, Plan, Tally};
pub use misbehaviour::Misbehaviour;
pub use model::{Chance, Model};
pub use queue::{Done, Io, Queue};
pub use shape::{Protocol, Segments, Shape};
