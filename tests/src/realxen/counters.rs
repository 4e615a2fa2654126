//! What an interface has counted.

use anyhow::Context;

use super::dom0::Dom0;
use super::traffic::Host;

/// Frames and bytes, as the host with the interface sees them. In dom0, what a guest sends is
/// received.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Counters {
    /// Received frames; a large one that is to be cut up later counts once.
    pub rx_packets: u64,
    /// Received bytes, Ethernet headers included.
    pub rx_bytes: u64,
    /// Sent frames.
    pub tx_packets: u64,
    /// Sent bytes.
    pub tx_bytes: u64,
}

impl Counters {
    /// Reads those of `interface` from the host's `/proc/net/dev`.
    ///
    /// # Errors
    ///
    /// dom0 or the guest has gone, or there is no such interface.
    pub fn read(dom0: &mut Dom0, host: &Host, interface: &str) -> anyhow::Result<Self> {
        let table = host.sh(dom0, "cat /proc/net/dev")?;
        Self::parse(&table, interface)
            .with_context(|| format!("{host} has no interface {interface}:\n{table}"))
    }

    /// What was counted after `earlier`.
    #[must_use]
    pub fn since(self, earlier: Self) -> Self {
        Self {
            rx_packets: self.rx_packets.wrapping_sub(earlier.rx_packets),
            rx_bytes: self.rx_bytes.wrapping_sub(earlier.rx_bytes),
            tx_packets: self.tx_packets.wrapping_sub(earlier.tx_packets),
            tx_bytes: self.tx_bytes.wrapping_sub(earlier.tx_bytes),
        }
    }

    /// Bytes in a received frame, on average.
    #[must_use]
    pub fn rx_size(self) -> u64 {
        self.rx_bytes / self.rx_packets.max(1)
    }

    /// Bytes in a sent frame, on average.
    #[must_use]
    pub fn tx_size(self) -> u64 {
        self.tx_bytes / self.tx_packets.max(1)
    }

    fn parse(table: &str, interface: &str) -> Option<Self> {
        let line = table
            .lines()
            .filter_map(|line| line.split_once(':'))
            .find(|(name, _)| name.trim() == interface)?
            .1;
        let numbers: Vec<u64> = line
            .split_whitespace()
            .map(|word| word.parse().ok())
            .collect::<Option<_>>()?;
        Some(Self {
            rx_bytes: *numbers.first()?,
            rx_packets: *numbers.get(1)?,
            tx_bytes: *numbers.get(8)?,
            tx_packets: *numbers.get(9)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_found_by_its_whole_name() {
        let table = "Inter-|   Receive  |  Transmit\n face |bytes packets errs\n\
                     vif1.10: 1 1 0 0 0 0 0 0 1 1 0 0 0 0 0 0\n\
                     vif1.1:  600 3 0 0 0 0 0 0 80 2 0 0 0 0 0 0\n";
        let counters = Counters::parse(table, "vif1.1").unwrap();
        let expected = Counters {
            rx_packets: 3,
            rx_bytes: 600,
            tx_packets: 2,
            tx_bytes: 80,
        };
        assert_eq!(counters, expected);
        assert_eq!((counters.rx_size(), counters.tx_size()), (200, 40));
        assert_eq!(counters.since(counters).rx_bytes, 0);
        assert_eq!(Counters::parse(table, "vif1"), None);
    }
}
