//! Captures, for Wireshark and tcpdump.

use std::io::Write;
use std::time::Duration;

use pcap_file::DataLink;
use pcap_file::pcapng::PcapNgWriter;
use pcap_file::pcapng::blocks::enhanced_packet::{EnhancedPacketBlock, EnhancedPacketOption};
use pcap_file::pcapng::blocks::interface_description::{
    InterfaceDescriptionBlock, InterfaceDescriptionOption,
};

use super::Frame;
use crate::filter::HEAD;

/// A file in the format pcapng, in which each frame has a comment that says why it was dropped.
pub(super) struct Capture<W: Write> {
    writer: PcapNgWriter<W>,
}

/// The unit of times: 10^-9 seconds.
const NANOSECONDS: u8 = 9;

impl<W: Write> Capture<W> {
    /// One that has no frames yet.
    pub(super) fn begin(writer: W, interface: &str) -> anyhow::Result<Self> {
        let mut writer = PcapNgWriter::new(writer)?;
        writer.write_pcapng_block(InterfaceDescriptionBlock {
            linktype: DataLink::ETHERNET,
            snaplen: u32::try_from(HEAD)?,
            options: vec![
                InterfaceDescriptionOption::IfName(interface.into()),
                InterfaceDescriptionOption::IfTsResol(NANOSECONDS),
            ],
        })?;
        writer.get_mut().flush()?;
        Ok(Self { writer })
    }

    /// Adds a frame; whoever follows the file has it at once.
    pub(super) fn put(&mut self, frame: &Frame) -> anyhow::Result<()> {
        self.writer.write_pcapng_block(EnhancedPacketBlock {
            interface_id: 0,
            timestamp: Duration::from_nanos(frame.time),
            original_len: u32::try_from(frame.length)?,
            data: frame.bytes().into(),
            options: vec![EnhancedPacketOption::Comment(frame.why().into())],
        })?;
        Ok(self.writer.get_mut().flush()?)
    }
}

#[cfg(test)]
mod tests {
    use pcap_file::pcapng::{Block, PcapNgReader};

    use super::*;
    use crate::policy::Direction;

    #[test]
    fn a_frame_that_is_written_is_read_with_its_reason_and_its_time() {
        let mut bytes = Vec::new();
        let mut capture = Capture::begin(&mut bytes, "vif7.0").unwrap();
        let frame = Frame {
            queue: 1,
            number: 3,
            time: 1_700_000_000_123_456_789,
            direction: Direction::In,
            reason: "storm".into(),
            rule: None,
            length: 1514,
            head: "ffffffffffff".into(),
        };
        capture.put(&frame).unwrap();
        let mut reader = PcapNgReader::new(&bytes[..]).unwrap();
        let block = reader.next_block().unwrap().unwrap().into_owned();
        let Block::InterfaceDescription(interface) = block else {
            panic!("{block:?}");
        };
        let options = &interface.options;
        assert!(options.contains(&InterfaceDescriptionOption::IfName("vif7.0".into())));
        assert!(options.contains(&InterfaceDescriptionOption::IfTsResol(9)));
        let block = reader.next_block().unwrap().unwrap().into_owned();
        let Block::EnhancedPacket(packet) = block else {
            panic!("{block:?}");
        };
        assert_eq!(packet.timestamp, Duration::from_nanos(frame.time));
        assert_eq!(packet.original_len, 1514);
        assert_eq!(&packet.data[..], [0xff; 6]);
        let comment = EnhancedPacketOption::Comment("in, storm".into());
        assert_eq!(packet.options, [comment]);
    }
}
