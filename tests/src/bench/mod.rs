//! Measures the ring beside its peers: the same file, the same request sizes and depths, in pairs.
//!
//! Absolute figures on a shared machine say more about the hour than about the code, so the result
//! is always a ratio: both halves of a pair run back to back, in random order, after the machine
//! has become quiet, and the median over the pairs is given with its spread.

mod cpu;
mod fio;
mod native;
mod noise;
mod pairs;
mod ring;
mod table;

use std::fmt;
use std::time::Duration;

pub use self::fio::Fio;
pub use self::native::Native;
pub use self::pairs::{Comparison, Protocol, compare};
pub use self::ring::Ring;
pub use self::table::{json, print};

/// What is asked of the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Workload {
    /// Writes instead of reads.
    pub write: bool,
    /// Bytes of a request, a multiple of 4096.
    pub bytes: u32,
    /// Requests under way at a time.
    pub depth: u32,
    /// Where the next request is: anywhere, or behind the last one.
    pub random: bool,
}

impl Workload {
    /// Random requests of 4 KiB.
    #[must_use]
    pub const fn random_4k(write: bool, depth: u32) -> Self {
        Self {
            write,
            bytes: 4096,
            depth,
            random: true,
        }
    }

    /// Sequential requests of 128 KiB.
    #[must_use]
    pub const fn sequential_128k(write: bool, depth: u32) -> Self {
        Self {
            write,
            bytes: 128 << 10,
            depth,
            random: false,
        }
    }
}

impl fmt::Display for Workload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kib = self.bytes / 1024;
        let order = if self.random { "rand" } else { "" };
        let what = if self.write { "write" } else { "read" };
        write!(f, "{kib}K {order}{what} QD{}", self.depth)
    }
}

/// What one run has come to.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Measured {
    /// Requests per second.
    pub iops: f64,
    /// CPU time per request of whoever serves it, kernel included, in microseconds; 0 if unknown.
    pub cpu_us: f64,
}

impl Measured {
    /// `requests` in `wall`, for which the server needed `cpu`.
    #[must_use]
    pub fn new(requests: u64, wall: Duration, cpu: Duration) -> Self {
        #[expect(clippy::cast_precision_loss, reason = "no run has 2^52 requests")]
        let requests = requests.max(1) as f64;
        Self {
            iops: requests / wall.as_secs_f64(),
            cpu_us: cpu.as_secs_f64() * 1e6 / requests,
        }
    }
}

/// Something that can be measured.
pub trait Contender {
    /// Its name in tables.
    fn name(&self) -> &'static str;

    /// Runs a workload for about `time`.
    ///
    /// # Errors
    /// A request failed, or the contender cannot run here.
    fn run(&mut self, workload: Workload, time: Duration) -> anyhow::Result<Measured>;
}

/// Offsets of requests in a file of `file` bytes.
#[derive(Debug)]
struct Places {
    workload: Workload,
    blocks: u64,
    next: u64,
}

impl Places {
    fn new(workload: Workload, file: u64) -> Self {
        Self {
            workload,
            blocks: (file / u64::from(workload.bytes)).max(1),
            next: 0x2545_F491_4F6C_DD1D,
        }
    }

    /// The next one, in bytes.
    fn next(&mut self) -> u64 {
        let block = if self.workload.random {
            self.next ^= self.next << 13;
            self.next ^= self.next >> 7;
            self.next ^= self.next << 17;
            self.next % self.blocks
        } else {
            self.next = self.next.wrapping_add(1);
            self.next % self.blocks
        };
        block * u64::from(self.workload.bytes)
    }
}
