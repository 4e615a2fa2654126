//! What a queue counts about itself: plain numbers, written by one thread.

/// Counters of one queue since it was connected.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Reads done.
    pub reads: u64,
    /// Bytes read by the guest.
    pub bytes_read: u64,
    /// Writes done.
    pub writes: u64,
    /// Bytes written by the guest.
    pub bytes_written: u64,
    /// Flushes without data that were taken.
    pub flushes: u64,
    /// Discards that were taken.
    pub discards: u64,
    /// Requests that were refused as they were: the guest's fault.
    pub rejected: u64,
    /// Requests that were answered with an error after they had begun.
    pub failed: u64,
    /// Ranges of guest pages that could not be copied: the guest's fault.
    pub copy_failures: u64,
    /// Operations that the disk failed: the host's fault.
    pub disk_errors: u64,
    /// Times the guest was notified.
    pub notifications: u64,
}

impl Counters {
    /// A read of `bytes` was done.
    pub const fn read(&mut self, bytes: u64) {
        self.reads += 1;
        self.bytes_read += bytes;
    }

    /// A write of `bytes` was done.
    pub const fn written(&mut self, bytes: u64) {
        self.writes += 1;
        self.bytes_written += bytes;
    }
}
