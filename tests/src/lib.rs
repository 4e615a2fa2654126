//! What proves the backends: a simulated machine, guests that follow a script, and real Xen.
//!
//! 1. [`sim`] is a machine without Xen: real kernel objects, a fake hypervisor and xenstored that
//!    are stricter than the real ones. [`contracts`] hold both to the same promises.
//! 2. [`toolstack`] plays libxl on it, [`frontend`] the guests, honest and hostile, and [`daemon`]
//!    runs the real binaries in processes of their own, [`network`] gives them interfaces that are
//!    no one else's. [`scene`] puts them on one stage: nearly every
//!    test in `tests/tests` begins with one.
//!    [`spoof`] is what an attacker among the guests sends to be taken for another.
//! 3. [`realxen`] boots Xen and a Debian dom0 under emulation and tries the same daemon there.
//! 4. [`demo`], [`mod@bench`] and [`verify`] are what `cargo demo`, `cargo bench-io` and `cargo verify`
//!    do.

pub mod bench;
pub mod contracts;
pub mod daemon;
pub mod demo;
pub mod frontend;
pub mod network;
pub mod realxen;
pub mod scene;
pub mod sim;
pub mod spoof;
pub mod toolstack;
pub mod verify;
